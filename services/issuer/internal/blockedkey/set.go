package blockedkey

import (
	"context"
	"crypto/x509"
	"time"

	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
)

// Age is how long a copy of the set is trusted without looking.
const Age = 500 * time.Millisecond

// Source is where the keys are kept.
type Source interface {
	// BlockedRevision returns a number that grows with every change of the set.
	BlockedRevision(ctx context.Context) (int64, error)
	// BlockedKeys returns the set, and a revision that it is at least as new as.
	BlockedKeys(ctx context.Context) (map[Hash]Reason, int64, error)
}

// Set is a process's copy of the keys that are blocked. It is asked for every certificate and changes seldom, so it is
// kept as the rulebook is: after Age the first who needs it looks whether the revision has grown, and reads it again only
// then. A key that is blocked is refused from the answer on in the same process, and within Age in others.
//
// While the set cannot be read, no key is let through. Make it with NewSet; it is safe for concurrent use.
type Set struct {
	source Source
	clock  clock.Clock
	// turn is held by whoever looks at the fields below; it is a channel so that nobody waits longer than it may.
	turn     chan struct{}
	keys     map[Hash]Reason // nil before it has been read; not changed any more once it was
	revision int64
	lookedAt time.Time // zero: look before it is trusted again
}

// NewSet returns a Set that has read nothing yet.
func NewSet(source Source, c clock.Clock) *Set {
	return &Set{source: source, clock: c, turn: make(chan struct{}, 1)}
}

// Check refuses the key of a request that is blocked, was published, or can be computed. Its error is Invalid, or else
// says that this could not be told.
func (s *Set) Check(ctx context.Context, csr *x509.CertificateRequest) error {
	hash := HashOf(csr.RawSubjectPublicKeyInfo)
	if where, ok := published()[hash]; ok {
		return refusal("its private half is published (" + where + ")")
	}
	keys, err := s.current(ctx)
	if err != nil {
		return err
	}
	if reason, ok := keys[hash]; ok {
		return refusal(reason.says())
	}
	if why := weakness(csr.PublicKey); why != "" {
		return refusal(why)
	}
	return nil
}

// Forget tells that the set has changed. It is called after the commit, and before the change is answered. A look that
// began before the commit has ended by the time it returns, and is not trusted.
func (s *Set) Forget() {
	s.turn <- struct{}{}
	s.lookedAt = time.Time{}
	<-s.turn
}

func (s *Set) current(ctx context.Context) (map[Hash]Reason, error) {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, fault.Wrap(ctx.Err(), fault.Unavailable, "the keys that are blocked could not be read in time")
	}
	defer func() { <-s.turn }()
	now := s.clock.Now()
	if s.keys != nil && !s.lookedAt.IsZero() && now.Sub(s.lookedAt) < Age {
		return s.keys, nil
	}
	if s.keys != nil {
		revision, err := s.source.BlockedRevision(ctx)
		if err != nil {
			return nil, err
		}
		if revision == s.revision {
			s.lookedAt = now
			return s.keys, nil
		}
	}
	keys, revision, err := s.source.BlockedKeys(ctx)
	if err != nil {
		return nil, err
	}
	s.keys, s.revision, s.lookedAt = keys, revision, now
	return s.keys, nil
}
