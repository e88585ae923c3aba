// Package apikey keeps the API keys: who a key belongs to, what it may do and for how
// long. A key is shown once, when it is made; only its hash is stored.
//
// A key that was revoked is refused at once by every replica of the gateway that the bus
// reaches, and within a second by the others. Whoever changes keys gives away no more than
// he has himself, and the last key of an admin stays.
package apikey

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/pg"
)

// remembered is for how long a key that was looked up is believed, if nothing is heard
// of its end.
const remembered = time.Second

// maxRemembered bounds the memory that a flood of keys can take.
const maxRemembered = 10_000

// Store recognises keys and changes them. It is safe for concurrent use.
type Store struct {
	// Committed is called after an event was left in the outbox. It is set before the
	// store is used.
	Committed func()

	pool  *pgxpool.Pool
	clock clock.Clock
	tell  func(id string) // the other replicas, that a key has changed

	mu         sync.Mutex
	cache      map[[32]byte]entry   // under mu
	generation uint64               // under mu; grows when something is forgotten
	used       map[string]time.Time // under mu: when keys were used, by id, as yet unwritten
}

type entry struct {
	principal authn.Principal
	until     time.Time
}

// NewStore returns a store over the gateway's schema.
func NewStore(pool *pgxpool.Pool, c clock.Clock) *Store {
	return &Store{
		Committed: func() {}, pool: pool, clock: c, tell: func(string) {},
		cache: map[[32]byte]entry{}, used: map[string]time.Time{},
	}
}

// A hash is that of the present key, or of the one before while the overlap lasts.
const findKey = `
SELECT id, name, hash, roles, scope
FROM api_keys
WHERE hash = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2)
UNION ALL
SELECT id, name, previous_hash, roles, scope
FROM api_keys
WHERE previous_hash = $1 AND previous_until > $2 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2)
LIMIT 1`

// Mine reports whether a credential has the form of a key.
func (s *Store) Mine(credential string) bool { return strings.HasPrefix(credential, authn.KeyPrefix) }

// Recognise returns the principal of a key. An unknown, expired or revoked key is
// Unauthenticated; Unavailable means that it could not be looked up.
func (s *Store) Recognise(ctx context.Context, key string) (authn.Principal, error) {
	hash := authn.HashKey(key)
	now := s.clock.Now()
	s.mu.Lock()
	e, known := s.cache[hash]
	generation := s.generation
	if known = known && now.Before(e.until); known {
		s.used[e.principal.ID] = now
	}
	s.mu.Unlock()
	if known {
		return e.principal, nil
	}
	p, err := s.find(ctx, hash, now)
	if err != nil {
		return authn.Principal{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used[p.ID] = now
	if generation != s.generation {
		return p, nil // some key has changed meanwhile, and it may be this one
	}
	if len(s.cache) >= maxRemembered {
		clear(s.cache)
	}
	s.cache[hash] = entry{principal: p, until: now.Add(remembered)}
	return p, nil
}

func (s *Store) find(ctx context.Context, hash [32]byte, now time.Time) (authn.Principal, error) {
	p := authn.Principal{Kind: authn.KindUser}
	var stored []byte
	err := s.pool.QueryRow(ctx, findKey, hash[:], now).Scan(&p.ID, &p.Name, &stored, &p.Roles, &p.Scope)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return authn.Principal{}, unknown()
	case err != nil:
		return authn.Principal{}, fmt.Errorf("look up API key: %w", pg.Fault(err))
	case len(stored) != len(hash) || !authn.Equal(hash, [32]byte(stored)):
		return authn.Principal{}, unknown()
	}
	return p, nil
}

func unknown() error {
	return fault.New(fault.Unauthenticated, "the API key is unknown, expired or revoked")
}
