// Package notary signs the end of the chain from time to time.
//
// Its key is made at the first start of an installation and kept, sealed, in the schema;
// replicas share it. A checkpoint is signed when so many events have come since the last
// one, or when so much time has passed and any has. Each is also told of in an event and
// written to the log, which are usually kept elsewhere than the database.
//
// It signs nothing that contradicts what it has signed before.
package notary

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/id"
	"github.com/certctl/certctl/libs/obs"
	"github.com/certctl/certctl/libs/outbox"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/libs/secret"
	"github.com/certctl/certctl/libs/service"
	"github.com/certctl/certctl/services/audit/internal/chain"
	"github.com/certctl/certctl/services/audit/internal/export"
	"github.com/certctl/certctl/services/audit/internal/postgres"
)

// ErrRewritten means that the chain is not any more what was signed.
var ErrRewritten = errors.New("the chain contradicts its newest checkpoint; run certctl admin audit verify")

// Rule says when a checkpoint is due.
type Rule struct {
	Events   int64
	Interval time.Duration
}

// due decides by what has come since the last checkpoint.
func (r Rule) due(last *chain.Checkpoint, head chain.Head, now time.Time) bool {
	behind := head.Sequence - last.Sequence
	return behind >= r.Events || behind > 0 && now.Sub(last.SignedAt) >= r.Interval
}

// Notary signs. Open makes one.
type Notary struct {
	key   ed25519.PrivateKey
	pool  *pgxpool.Pool
	rule  Rule
	told  func()
	clock clock.Clock
	log   *slog.Logger

	arrived atomic.Int64 // events since the last look
	wake    chan struct{}
}

// Open reads the key, and makes it if the installation has none. Replicas that start
// together come to the same key. told is called after a commit that left an event to
// publish.
func Open(ctx context.Context, deps service.Deps, rule Rule, told func()) (*Notary, error) {
	key, err := read(ctx, deps.DB, deps.Sealer)
	if errors.Is(err, pgx.ErrNoRows) {
		if err := generate(ctx, deps.DB, deps.Sealer); err != nil {
			return nil, err
		}
		key, err = read(ctx, deps.DB, deps.Sealer)
	}
	if err != nil {
		return nil, err
	}
	return &Notary{key: key, pool: deps.DB, rule: rule, told: told, clock: deps.Clock, log: deps.Log, wake: make(chan struct{}, 1)}, nil
}

func generate(ctx context.Context, pool *pgxpool.Pool, sealer *secret.Sealer) error {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("make the key of checkpoints: %w", err)
	}
	public, err := chain.PublicKeyOf(key)
	if err != nil {
		return err
	}
	sealed, err := sealer.Seal(key.Seed(), aad(public))
	if err != nil {
		return fmt.Errorf("seal the key of checkpoints: %w", err)
	}
	return postgres.StoreKey(ctx, pool, public, sealed)
}

func read(ctx context.Context, pool *pgxpool.Pool, sealer *secret.Sealer) (ed25519.PrivateKey, error) {
	public, sealed, err := postgres.Key(ctx, pool)
	if err != nil {
		return nil, err
	}
	seed, err := sealer.Unseal(sealed, aad(public))
	if err != nil {
		return nil, fmt.Errorf("unseal the key of checkpoints: %w", err)
	}
	if len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("the key of checkpoints has %d bytes", len(seed))
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// aad binds the sealed seed to its purpose and to its public half.
func aad(public chain.PublicKey) []byte {
	return []byte("certctl audit checkpoint key v1 " + public.ID().String())
}

// Arrived tells that events are being appended, so that a checkpoint is signed when
// enough have come. It does not wait.
func (n *Notary) Arrived(events int) {
	if n.arrived.Add(int64(events)) < n.rule.Events {
		return
	}
	n.arrived.Store(0)
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// Run signs whenever a checkpoint is due, until ctx ends. What fails is said in the log
// and tried again.
func (n *Notary) Run(ctx context.Context) error {
	tick := time.NewTicker(max(n.rule.Interval/2, time.Millisecond))
	defer tick.Stop()
	for {
		if _, err := n.SignIfDue(ctx); err != nil && ctx.Err() == nil {
			n.log.ErrorContext(ctx, "checkpoint was not signed", obs.KeyError, err)
		}
		select {
		case <-tick.C:
		case <-n.wake:
		case <-ctx.Done():
			return nil
		}
	}
}

// SignIfDue signs a checkpoint if one is due, and tells whether it did. The lock of the
// chain makes it wait for what is being appended, and lets one replica sign.
func (n *Notary) SignIfDue(ctx context.Context) (signed bool, err error) {
	var c chain.Checkpoint
	err = pg.InTx(ctx, n.pool, func(tx pgx.Tx) error {
		signed = false
		if err := postgres.LockChain(ctx, tx); err != nil {
			return err
		}
		head, err := postgres.Head(ctx, tx)
		if err != nil {
			return err
		}
		last, err := newest(ctx, tx)
		if err != nil || !n.rule.due(last, head, n.clock.Now()) {
			return err
		}
		if c, err = chain.Sign(n.key, head, n.clock.Now()); err != nil {
			return err
		}
		signed = true
		if err := postgres.StoreCheckpoint(ctx, tx, &c); err != nil {
			return err
		}
		return tell(ctx, tx, &c)
	})
	if err != nil || !signed {
		return false, err
	}
	n.told()
	n.log.InfoContext(ctx, "checkpoint signed", "sequence", c.Sequence, "hash", c.Hash.String(), "signed_at", chain.Time(c.SignedAt),
		"key_id", c.KeyID.String(), "signature", base64.StdEncoding.EncodeToString(c.Signature))
	return true, nil
}

// tell writes the event of a checkpoint into the outbox.
func tell(ctx context.Context, tx pgx.Tx, c *chain.Checkpoint) error {
	e := event.CheckpointSigned(export.Shown(c))
	body, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode %s: %w", event.Type(e), err)
	}
	aggregate, of, _ := e.About()
	m := bus.Message{
		Subject: event.Subject(e), ID: id.New("ev-"), Type: event.Type(e), Source: "/certctl/audit", Entity: aggregate + "/" + of,
		Time: c.SignedAt, AggVersion: 1, Body: body,
	}
	row, err := m.Outbox(subject.StreamEvents)
	if err != nil {
		return err
	}
	return outbox.Insert(ctx, tx, row)
}

// newest is the last checkpoint, which the chain must still hold; zero before the first.
func newest(ctx context.Context, tx pgx.Tx) (*chain.Checkpoint, error) {
	some, err := postgres.ListCheckpoints(ctx, tx, 0, 1, 0)
	if err != nil || len(some) == 0 {
		return &chain.Checkpoint{}, err
	}
	hash, found, err := postgres.HashAt(ctx, tx, some[0].Sequence)
	if err == nil && (!found || hash != some[0].Hash) {
		err = fmt.Errorf("checkpoint %d: %w", some[0].Sequence, ErrRewritten)
	}
	return &some[0], err
}
