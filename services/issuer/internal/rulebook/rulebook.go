// Package rulebook keeps at hand the rules that certificates have to obey: profiles, enabled policy rules, and renewal
// policies.
//
// They are needed for every certificate that is asked for, a thousand times a second, and change a few times a week. So
// each process holds a copy, which is trusted for [Age]: after that, the first that needs it looks whether the revision
// of the rules has grown, and reads them again only if it has. What is changed in this process it is told of, and forgets
// its copy before the change is answered. A rule therefore holds for whatever is asked for after the answer to its
// change, in the same process, and within [Age] in others. It costs two small queries a second at the most.
//
// While the rules cannot be read, nothing is allowed: the error is passed on.
package rulebook

import (
	"context"
	"time"

	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/policy"
	"github.com/certctl/certctl/services/issuer/internal/profile"
	"github.com/certctl/certctl/services/issuer/internal/renewal"
)

// Age is how long a copy is trusted without looking.
const Age = 500 * time.Millisecond

// Book is the rules at one time. It is not changed any more.
type Book struct {
	// Revision grows with every change of what is in it.
	Revision int64
	// Profiles are all profiles, by id.
	Profiles map[string]*profile.Profile
	// Rules are the policy rules that are enabled, in the order of their ids.
	Rules []*policy.Rule
	// RenewalPolicies are all renewal policies, by id.
	RenewalPolicies map[string]renewal.Policy
}

// Source is where the rules are kept.
type Source interface {
	// RulesRevision returns the revision of the rules.
	RulesRevision(ctx context.Context) (int64, error)
	// Rules returns the rules, at least as new as their revision.
	Rules(ctx context.Context) (*Book, error)
}

// Cache holds the copy of a process. Make it with New; it is safe for concurrent use.
type Cache struct {
	source Source
	clock  clock.Clock
	// turn is held by whoever looks at the fields below; it is a channel so that nobody waits longer than it may.
	turn     chan struct{}
	book     *Book
	lookedAt time.Time // zero: look before it is trusted again
}

// New returns an empty Cache.
func New(source Source, c clock.Clock) *Cache {
	return &Cache{source: source, clock: c, turn: make(chan struct{}, 1)}
}

// Book returns the rules.
func (c *Cache) Book(ctx context.Context) (*Book, error) {
	if err := c.enter(ctx); err != nil {
		return nil, err
	}
	defer c.leave()
	if c.book != nil && !c.lookedAt.IsZero() && c.clock.Now().Sub(c.lookedAt) < Age {
		return c.book, nil
	}
	return c.look(ctx)
}

// Newest returns the rules as they are now, for whoever misses something in the copy.
func (c *Cache) Newest(ctx context.Context) (*Book, error) {
	if err := c.enter(ctx); err != nil {
		return nil, err
	}
	defer c.leave()
	return c.look(ctx)
}

// Forget tells that the rules have changed. It is called after the commit, and before the change is answered. A look that
// began before the commit has ended by the time it returns, and is not trusted.
func (c *Cache) Forget() {
	c.turn <- struct{}{}
	c.lookedAt = time.Time{}
	c.leave()
}

func (c *Cache) look(ctx context.Context) (*Book, error) {
	now := c.clock.Now()
	if c.book != nil {
		revision, err := c.source.RulesRevision(ctx)
		if err != nil {
			return nil, err
		}
		if revision == c.book.Revision {
			c.lookedAt = now
			return c.book, nil
		}
	}
	book, err := c.source.Rules(ctx)
	if err != nil {
		return nil, err
	}
	c.book, c.lookedAt = book, now
	return book, nil
}

func (c *Cache) enter(ctx context.Context) error {
	select {
	case c.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fault.Wrap(ctx.Err(), fault.Unavailable, "the rules for certificates could not be read in time")
	}
}

func (c *Cache) leave() { <-c.turn }
