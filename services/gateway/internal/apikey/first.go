package apikey

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/atomicfile"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/id"
	"github.com/certctl/certctl/services/gateway/internal/permission"
)

// FirstID is the id of the key that a fresh installation begins with.
const FirstID = "key-first-admin"

// First makes sure that somebody can get in: unless a good key of an admin exists, it
// makes one and leaves it in file with mode 0600. The file is written before the key
// counts, so a crash between the two leaves a key that the next start makes good, never
// one that nobody has seen. It reports whether the key is new.
func (s *Store) First(ctx context.Context, file string) (made bool, err error) {
	err = s.transact(ctx, func(tx pgx.Tx) error {
		made = false
		if _, err := tx.Exec(ctx, lockKeys); err != nil {
			return fmt.Errorf("wait for other gateways that start: %w", err)
		}
		exists, err := adminLeft(ctx, tx, s.clock.Now())
		if err != nil || exists {
			return err
		}
		key, err := s.loadOrWrite(ctx, tx, file)
		if err != nil {
			return err
		}
		made = true
		return s.insertFirst(ctx, tx, key)
	})
	return made, err
}

// loadOrWrite returns the key in the file, or writes a fresh one if it has none that can
// become good.
func (s *Store) loadOrWrite(ctx context.Context, tx pgx.Tx, file string) (string, error) {
	b, err := os.ReadFile(file)
	switch {
	case err == nil:
		key := strings.TrimSpace(string(b))
		if !strings.HasPrefix(key, authn.KeyPrefix) || len(key) < shown {
			return "", fmt.Errorf("%s holds no API key; move it away", file)
		}
		if spent, err := known(ctx, tx, authn.HashKey(key)); err != nil || !spent {
			return key, err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("read the first API key: %w", err)
	}
	key := authn.NewKey()
	if err := atomicfile.Write(file, []byte(key+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("write the first API key: %w", err)
	}
	return key, nil
}

// known reports whether a key was one before, and has expired, been revoked or replaced.
func known(ctx context.Context, tx pgx.Tx, hash [32]byte) (is bool, err error) {
	const find = `SELECT EXISTS (SELECT FROM api_keys WHERE hash = $1 OR previous_hash = $1)`
	if err := tx.QueryRow(ctx, find, hash[:]).Scan(&is); err != nil {
		return false, fmt.Errorf("look for the first API key: %w", err)
	}
	return is, nil
}

// insertFirst stores a key under the id of the first, or a fresh one if there was a first.
func (s *Store) insertFirst(ctx context.Context, tx pgx.Tx, key string) error {
	var taken bool
	if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM api_keys WHERE id = $1)`, FirstID).Scan(&taken); err != nil {
		return fmt.Errorf("look for the first API key: %w", err)
	}
	now := s.clock.Now()
	gateway := authn.System("gateway")
	k := Key{
		ID: FirstID, Name: FirstID, Prefix: key[:shown], Roles: []string{permission.Admin},
		CreatedBy: gateway.ID, CreatedAt: now, UpdatedAt: now, Revision: 1,
	}
	if taken {
		k.ID = id.New("key-")
	}
	if err := insert(ctx, tx, k, authn.HashKey(key)); err != nil {
		return err
	}
	return say(ctx, tx, gateway, k, event.Created, differences(nil, &k))
}

// BreakGlass makes a key for whoever has the database, and is asked by nobody: the way in
// when no key is at hand. It never expires.
func (s *Store) BreakGlass(ctx context.Context, name string, roles []string) (Key, string, error) {
	operator := authn.System("certctl-admin")
	operator.Roles = []string{permission.Admin}
	return s.Create(ctx, operator, Key{Name: name, Roles: roles})
}
