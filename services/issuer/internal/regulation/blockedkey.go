package regulation

import (
	"context"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/blockedkey"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
)

const maxComment = 1000

// KeyStore keeps the keys that are blocked, and tells a fact in the transaction of the change.
type KeyStore interface {
	// BlockKey blocks a key. It reports false, and changes nothing, if it is blocked already.
	BlockKey(ctx context.Context, k blockedkey.Key, f issuance.Fact) (added bool, err error)
	// UnblockKey takes a key off the list, and tells what decide makes of it. It is NotFound if it is not blocked.
	UnblockKey(ctx context.Context, h blockedkey.Hash, decide func(blockedkey.Key) issuance.Fact) error
}

// Keys has the use cases of blocking keys. It is safe for concurrent use.
type Keys struct {
	store KeyStore
	set   *blockedkey.Set
	clock clock.Clock
}

// NewKeys returns Keys; the set is told of its changes.
func NewKeys(store KeyStore, set *blockedkey.Set, c clock.Clock) *Keys {
	return &Keys{store: store, set: set, clock: c}
}

// mayBlock refuses whoever is limited to a part of the certificates: a key is blocked for all of them.
func mayBlock(p authn.Principal) error {
	if p.Scope.Unlimited() {
		return nil
	}
	return fault.New(fault.Forbidden, "a key is blocked for every certificate; your scope is limited, so you may look and not change that")
}

// Block blocks a key for whoever asks. It is Invalid if no key is named, and a Conflict if it is blocked already.
func (s *Keys) Block(ctx context.Context, p authn.Principal, o issuance.Origin, g blockedkey.Given, reason blockedkey.Reason, comment string) (blockedkey.Key, error) {
	if err := mayBlock(p); err != nil {
		return blockedkey.Key{}, err
	}
	hash, err := g.Hash()
	if err != nil {
		return blockedkey.Key{}, err
	}
	if !slices.Contains(blockedkey.Reasons, reason) {
		return blockedkey.Key{}, fault.InvalidFields(fault.Field{Name: "reason", Reason: "must be keyCompromise, weak or other"})
	}
	switch {
	case utf8.RuneCountInString(comment) > maxComment:
		return blockedkey.Key{}, fault.InvalidFields(fault.Field{Name: "comment", Reason: "has more than 1000 characters"})
	case !utf8.ValidString(comment) || strings.ContainsFunc(comment, unicode.IsControl):
		return blockedkey.Key{}, fault.InvalidFields(fault.Field{Name: "comment", Reason: "holds control characters"})
	}
	k, f := s.Blocking(hash, reason, comment, o)
	added, err := s.store.BlockKey(ctx, k, f)
	if err != nil {
		return blockedkey.Key{}, err
	}
	if !added {
		return blockedkey.Key{}, fault.New(fault.Conflict, "key %s is blocked already", hash)
	}
	s.set.Forget()
	return k, nil
}

// Blocking is a key that is going to be blocked and the fact that tells of it, for whoever stores both in a transaction of
// its own: the revocation of a certificate for keyCompromise. Blocked is to be called after that has been committed.
func (s *Keys) Blocking(hash blockedkey.Hash, reason blockedkey.Reason, comment string, o issuance.Origin) (blockedkey.Key, issuance.Fact) {
	// As it is stored.
	k := blockedkey.Key{Hash: hash, Reason: reason, Comment: comment, By: o.Actor, CreatedAt: s.clock.Now().UTC()}
	return k, issuance.Fact{Event: k.Changed(event.Created), Origin: o, At: k.CreatedAt}
}

// Blocked tells that keys have been blocked by somebody's own transaction.
func (s *Keys) Blocked() { s.set.Forget() }

// Unblock lets a key be certified again. It is NotFound if it is not blocked.
func (s *Keys) Unblock(ctx context.Context, p authn.Principal, o issuance.Origin, h blockedkey.Hash) error {
	if err := mayBlock(p); err != nil {
		return err
	}
	err := s.store.UnblockKey(ctx, h, func(k blockedkey.Key) issuance.Fact {
		return issuance.Fact{Event: k.Changed(event.Deleted), Origin: o, At: s.clock.Now()}
	})
	if err != nil {
		return err
	}
	s.set.Forget()
	return nil
}
