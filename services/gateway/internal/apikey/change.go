package apikey

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/id"
	"github.com/certctl/certctl/libs/pg"
)

// Create makes a key and returns it with its record.
func (s *Store) Create(ctx context.Context, p authn.Principal, k Key) (made Key, secret string, err error) {
	now := s.clock.Now()
	if err := k.check(now); err != nil {
		return Key{}, "", err
	}
	if err := mayHandOut(p, k); err != nil {
		return Key{}, "", err
	}
	secret = authn.NewKey()
	k.ID, k.Prefix, k.CreatedBy, k.CreatedAt, k.UpdatedAt, k.Revision = id.New("key-"), secret[:shown], p.ID, now, now, 1
	err = s.transact(ctx, func(tx pgx.Tx) error {
		if err := insert(ctx, tx, k, authn.HashKey(secret)); err != nil {
			return err
		}
		return say(ctx, tx, p, k, event.Created, differences(nil, &k))
	})
	if err != nil {
		return Key{}, "", err
	}
	return k, secret, nil
}

// Update has apply change a key. A change that changes nothing leaves its revision, and is
// not told.
func (s *Store) Update(ctx context.Context, p authn.Principal, id string, apply func(*Key) error) (Key, error) {
	return s.change(ctx, p, id, func(tx pgx.Tx, k *Key, now time.Time) error {
		if err := usable(*k); err != nil {
			return err
		}
		before := *k
		if err := apply(k); err != nil {
			return err
		}
		// An expiry that was there before may have passed; it is no news.
		checked := *k
		if before.ExpiresAt != nil && k.ExpiresAt != nil && k.ExpiresAt.Equal(*before.ExpiresAt) {
			checked.ExpiresAt = nil
		}
		if err := checked.check(now); err != nil {
			return err
		}
		k.Name, k.Roles = checked.Name, checked.Roles
		if err := mayHandOut(p, *k); err != nil {
			return err
		}
		changes := differences(&before, k)
		if len(changes) == 0 {
			return nil
		}
		k.touch(now)
		if err := update(ctx, tx, *k); err != nil {
			return err
		}
		return say(ctx, tx, p, *k, event.Updated, changes)
	})
}

// Rotate gives a key a new secret. The old one stays good for overlap.
func (s *Store) Rotate(ctx context.Context, p authn.Principal, id string, overlap time.Duration) (k Key, secret string, err error) {
	if overlap < 0 || overlap > MaxOverlap {
		return Key{}, "", fault.InvalidFields(fault.Field{
			Name: "overlap_seconds", Reason: fmt.Sprintf("must be between 0 and %d", int(MaxOverlap.Seconds())),
		})
	}
	secret = authn.NewKey()
	k, err = s.change(ctx, p, id, func(tx pgx.Tx, k *Key, now time.Time) error {
		if err := usable(*k); err != nil {
			return err
		}
		k.Prefix, k.PreviousUntil = secret[:shown], nil
		if overlap > 0 {
			until := now.Add(overlap)
			k.PreviousUntil = &until
		}
		k.touch(now)
		if err := rotate(ctx, tx, *k, authn.HashKey(secret)); err != nil {
			return err
		}
		return say(ctx, tx, p, *k, event.Updated, event.Changes{"key": {Before: hidden, After: hidden}})
	})
	if err != nil {
		return Key{}, "", err
	}
	return k, secret, nil
}

// Revoke ends a key. One that is revoked already stays as it is.
func (s *Store) Revoke(ctx context.Context, p authn.Principal, id string) error {
	_, err := s.change(ctx, p, id, func(tx pgx.Tx, k *Key, now time.Time) error {
		if k.RevokedAt != nil {
			return nil
		}
		before := *k
		k.RevokedAt = &now
		k.touch(now)
		if err := update(ctx, tx, *k); err != nil {
			return err
		}
		return say(ctx, tx, p, *k, event.Deleted, differences(&before, nil))
	})
	return err
}

func usable(k Key) error {
	if k.RevokedAt != nil {
		return fault.New(fault.Conflict, "the API key %s is revoked, for good; make a new one", k.ID)
	}
	return nil
}

// change runs do on a key that the caller may have, and sees that nobody is locked out by
// it and that every replica forgets what the key was.
func (s *Store) change(ctx context.Context, p authn.Principal, id string, do func(pgx.Tx, *Key, time.Time) error) (Key, error) {
	var k Key
	err := s.transact(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockKeys); err != nil {
			return fmt.Errorf("wait for other changes of API keys: %w", err)
		}
		var err error
		if k, err = get(ctx, tx, lockKey, p, id); err != nil {
			return err
		}
		if err := mayHandOut(p, k); err != nil {
			return err
		}
		now := s.clock.Now()
		opened := k.opensAll(now)
		if err := do(tx, &k, now); err != nil || !opened || k.opensAll(now) {
			return err
		}
		left, err := adminLeft(ctx, tx, now)
		if err == nil && !left {
			err = fault.New(fault.Conflict, "%s is the last key of an admin without limits; make another first", k.ID)
		}
		return err
	})
	if err != nil {
		return Key{}, err
	}
	s.forget(id)
	s.tell(id)
	return k, nil
}

func (s *Store) transact(ctx context.Context, do func(pgx.Tx) error) error {
	if err := pg.InTx(ctx, s.pool, do); err != nil {
		return err
	}
	s.Committed()
	return nil
}
