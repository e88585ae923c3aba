// Package apikey keeps the API keys: who a key belongs to and what it may do. A key is
// shown once, when it is made; only its hash is stored.
package apikey

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/pg"
)

// remembered is for how long a key that was looked up is believed. A revocation takes
// that long to be felt.
const remembered = time.Second

// maxRemembered bounds the memory that a flood of keys can take.
const maxRemembered = 10_000

// Store recognises keys. It is safe for concurrent use.
type Store struct {
	pool  *pgxpool.Pool
	clock clock.Clock

	mu    sync.Mutex
	cache map[[32]byte]entry // under mu
}

type entry struct {
	principal authn.Principal
	until     time.Time
}

// NewStore returns a store over the gateway's schema.
func NewStore(pool *pgxpool.Pool, c clock.Clock) *Store {
	return &Store{pool: pool, clock: c, cache: map[[32]byte]entry{}}
}

const findKey = `
SELECT id, name, hash, roles, scope
FROM api_keys
WHERE hash = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2)`

// Recognise returns the principal of a key. An unknown, expired or revoked key is
// Unauthenticated; Unavailable means that it could not be looked up.
func (s *Store) Recognise(ctx context.Context, key string) (authn.Principal, error) {
	hash := authn.HashKey(key)
	now := s.clock.Now()
	s.mu.Lock()
	e, known := s.cache[hash]
	s.mu.Unlock()
	if known && now.Before(e.until) {
		return e.principal, nil
	}
	p, err := s.find(ctx, hash, now)
	if err != nil {
		return authn.Principal{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
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
		return authn.Principal{}, fault.New(fault.Unauthenticated, "the API key is unknown, expired or revoked")
	case err != nil:
		return authn.Principal{}, fmt.Errorf("look up API key: %w", pg.Fault(err))
	case len(stored) != len(hash) || !authn.Equal(hash, [32]byte(stored)):
		return authn.Principal{}, fault.New(fault.Unauthenticated, "the API key is unknown, expired or revoked")
	}
	return p, nil
}

const insertFirst = `
INSERT INTO api_keys (id, name, hash, roles)
SELECT $1, $2, $3, $4
WHERE NOT EXISTS (SELECT FROM api_keys WHERE revoked_at IS NULL AND $5 = ANY (roles))`

// CreateFirst stores the first key of a role, unless a key of that role exists. It
// reports whether it did. Of gateways that start at once, the id lets one succeed.
func (s *Store) CreateFirst(ctx context.Context, id, key, role string) (bool, error) {
	hash := authn.HashKey(key)
	tag, err := s.pool.Exec(ctx, insertFirst, id, id, hash[:], []string{role}, role)
	if pg.IsUnique(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("store the first API key: %w", pg.Fault(err))
	}
	return tag.RowsAffected() == 1, nil
}
