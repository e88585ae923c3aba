package idempotency

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/obs"
	"github.com/certctl/certctl/libs/pg"
)

// claim is a call that wants to be carried out.
type claim struct {
	principal, key string
	fingerprint    []byte
	until          time.Time // of the lease; tells holders of a key apart
	repeatable     bool
}

// earlier is what is known of a call with the same key.
type earlier struct {
	fingerprint []byte
	inHand      bool
	status      int
	answer      []byte
}

// answer is what is kept of one.
type answer struct {
	Header http.Header `json:"header"`
	Body   []byte      `json:"body"`
}

const beginSQL = `
WITH begun AS (
    INSERT INTO idempotency_keys AS k (principal_id, key, fingerprint, lease_until, expires_at)
    VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (principal_id, key) DO UPDATE
    SET fingerprint = EXCLUDED.fingerprint, lease_until = EXCLUDED.lease_until, expires_at = EXCLUDED.expires_at, status = NULL, answer = NULL
    WHERE k.expires_at <= $6
       OR $7 AND k.status IS NULL AND k.lease_until <= $6 AND k.fingerprint = EXCLUDED.fingerprint
    RETURNING true)
SELECT true, NULL::bytea, NULL::timestamptz, NULL::integer, NULL::bytea FROM begun
UNION ALL
SELECT false, fingerprint, lease_until, status, answer FROM idempotency_keys
WHERE principal_id = $1 AND key = $2 AND NOT EXISTS (SELECT FROM begun)`

// begin takes the key for a call, or tells what became of the call that has it.
func (d *Desk) begin(ctx context.Context, c claim) (*earlier, error) {
	now := d.Clock.Now()
	var begun bool
	var until *time.Time
	var status *int
	var e earlier
	err := d.Pool.QueryRow(ctx, beginSQL, c.principal, c.key, c.fingerprint, c.until, now.Add(keep), now, c.repeatable).
		Scan(&begun, &e.fingerprint, &until, &status, &e.answer)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		// Taken by a call that began at the same moment, and that this statement does not see.
		return &earlier{fingerprint: c.fingerprint, inHand: true}, nil
	case err != nil:
		return nil, fmt.Errorf("note a call with its key: %w", pg.Fault(err))
	case begun:
		return nil, nil //nolint:nilnil // nothing came before
	}
	if status != nil {
		e.status = *status
	}
	e.inHand = status == nil && until.After(now)
	return &e, nil
}

const finishSQL = `
UPDATE idempotency_keys SET status = $4, answer = $5
WHERE principal_id = $1 AND key = $2 AND lease_until = $3 AND status IS NULL`

func (d *Desk) finish(ctx context.Context, c claim, rec *recorder) error {
	sealed, err := d.seal(c, rec)
	if err != nil {
		return err
	}
	return d.exec(ctx, finishSQL, c.principal, c.key, c.until, rec.code(), sealed)
}

const releaseSQL = `DELETE FROM idempotency_keys WHERE principal_id = $1 AND key = $2 AND lease_until = $3 AND status IS NULL`

func (d *Desk) release(ctx context.Context, c claim) error {
	return d.exec(ctx, releaseSQL, c.principal, c.key, c.until)
}

const doubtSQL = `
UPDATE idempotency_keys SET lease_until = $4
WHERE principal_id = $1 AND key = $2 AND lease_until = $3 AND status IS NULL`

func (d *Desk) doubt(ctx context.Context, c claim) error {
	return d.exec(ctx, doubtSQL, c.principal, c.key, c.until, d.Clock.Now())
}

// noteWithin bounds how long an answer waits for its note, also if its caller has gone.
const noteWithin = 5 * time.Second

func (d *Desk) exec(ctx context.Context, sql string, args ...any) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), noteWithin)
	defer cancel()
	_, err := d.Pool.Exec(ctx, sql, args...)
	return err
}

// kept are the headers of an answer that belong to it and not to the connection.
var kept = []string{"Content-Type", "Etag", "Location", "Content-Disposition"}

func (d *Desk) seal(c claim, rec *recorder) ([]byte, error) {
	// What its owner says is not to be stored, a private key for one, is not, sealed or otherwise.
	if d.Sealer == nil || rec.body.Len() > maxAnswer || strings.Contains(rec.header.Get("Cache-Control"), "no-store") {
		return nil, nil
	}
	a := answer{Header: http.Header{}, Body: rec.body.Bytes()}
	for _, name := range kept {
		if v := rec.header[name]; v != nil {
			a.Header[name] = v
		}
	}
	plain, err := json.Marshal(a)
	if err != nil {
		return nil, fmt.Errorf("encode the answer: %w", err)
	}
	return d.Sealer.Seal(plain, c.bound())
}

func (d *Desk) open(c claim, sealed []byte) (*answer, error) {
	if d.Sealer == nil {
		return nil, errors.New("no sealing key is configured")
	}
	plain, err := d.Sealer.Unseal(sealed, c.bound())
	if err != nil {
		return nil, err
	}
	var a answer
	if err := json.Unmarshal(plain, &a); err != nil {
		return nil, fmt.Errorf("decode the answer: %w", err)
	}
	return &a, nil
}

// bound is what a sealed answer belongs to.
func (c claim) bound() []byte { return []byte("idempotency/" + c.principal + "/" + c.key) }

const (
	sweepEvery = 10 * time.Minute
	sweepBatch = 5000
	sweepSQL   = `
DELETE FROM idempotency_keys WHERE (principal_id, key) IN (
    SELECT principal_id, key FROM idempotency_keys WHERE expires_at <= $1
    ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED)`
)

// Sweep forgets keys whose day is over.
func (d *Desk) Sweep(ctx context.Context) error {
	for {
		tag, err := d.Pool.Exec(ctx, sweepSQL, d.Clock.Now(), sweepBatch)
		if err != nil {
			return fmt.Errorf("forget old keys: %w", pg.Fault(err))
		}
		if tag.RowsAffected() < sweepBatch {
			return nil
		}
	}
}

// Run sweeps now and then until ctx ends. Any number of replicas may do this at once.
func (d *Desk) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(sweepEvery/2 + rand.N(sweepEvery)): //nolint:gosec // spreads load, protects nothing
		}
		if err := d.Sweep(ctx); err != nil && ctx.Err() == nil {
			d.Log.Warn("old idempotency keys stay for now", obs.KeyError, err)
		}
	}
}
