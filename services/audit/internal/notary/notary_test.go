package notary

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/libs/secret"
	"github.com/certctl/certctl/libs/service"
	"github.com/certctl/certctl/libs/testkit/pgtest"
	"github.com/certctl/certctl/migrations"
	"github.com/certctl/certctl/services/audit/internal/chain"
	"github.com/certctl/certctl/services/audit/internal/postgres"
	"github.com/certctl/certctl/services/audit/internal/proof"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.M{M: m}) }

var sealer = secret.New(secret.Key{1})

func newPool(t *testing.T) *pgxpool.Pool { return pgtest.New(t, migrations.FS("audit"), "audit") }

func open(t *testing.T, pool *pgxpool.Pool, rule Rule) (*Notary, *clock.Manual, *strings.Builder) {
	t.Helper()
	said := new(strings.Builder)
	w := clock.At(time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC))
	n, err := Open(t.Context(), service.Deps{DB: pool, Sealer: sealer, Clock: w, Log: slog.New(slog.NewTextHandler(said, nil))}, rule, func() {})
	if err != nil {
		t.Fatal(err)
	}
	return n, w, said
}

func store(t *testing.T, pool *pgxpool.Pool, name string, n int) {
	t.Helper()
	events := make([]chain.Event, n)
	for i := range events {
		events[i] = chain.Event{
			ID: fmt.Sprintf("ae-%s-%d", name, i), ActorType: "User", Details: `{}`, At: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC),
		}
	}
	if err := pg.InTx(t.Context(), pool, func(tx pgx.Tx) error {
		_, err := postgres.Append(t.Context(), tx, events)
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func sign(t *testing.T, n *Notary) bool {
	t.Helper()
	signed, err := n.SignIfDue(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func TestNotary_SignsAfterSoManyEventsOrSoMuchTime(t *testing.T) {
	pool := newPool(t)
	n, now, said := open(t, pool, Rule{Events: 10, Interval: time.Minute})
	steps := []struct {
		name   string
		events int
		pass   time.Duration
		want   bool
	}{
		{"nothing has happened", 0, time.Hour, false},
		{"the first event, since there is no checkpoint", 1, 0, true},
		{"nothing since", 0, 2 * time.Minute, false},
		{"an event after the interval", 1, 0, true},
		{"few events, too soon", 9, 59 * time.Second, false},
		{"one more makes enough", 1, 0, true},
		{"many", 25, 0, true},
		{"none of them again", 0, 0, false},
	}
	for i, s := range steps {
		if s.events > 0 {
			store(t, pool, fmt.Sprint(i), s.events)
		}
		now.Advance(s.pass)
		if got := sign(t, n); got != s.want {
			t.Errorf("%s: signed is %v", s.name, got)
		}
	}
	public, _, err := postgres.Key(t.Context(), pool)
	if err != nil {
		t.Fatal(err)
	}
	r, err := postgres.Verify(t.Context(), pool, &proof.Verifier{Key: public})
	if err != nil || r.Checkpoints != 4 || r.Signed != 37 {
		t.Errorf("%+v, %v", r, err)
	}
	if lines := strings.Count(said.String(), "checkpoint signed"); lines != 4 || !strings.Contains(said.String(), "hash="+r.Hash.String()) {
		t.Errorf("the log says:\n%s", said)
	}
}

func TestNotary_HasOneKeyHoweverManyReplicasStartAtOnce(t *testing.T) {
	pool := newPool(t)
	var g errgroup.Group
	keys := make([]string, 8)
	for i := range keys {
		g.Go(func() error {
			n, err := Open(t.Context(), service.Deps{DB: pool, Sealer: sealer, Clock: clock.System}, Rule{Events: 1, Interval: time.Minute}, func() {})
			if err == nil {
				keys[i] = string(n.key)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		if k != keys[0] {
			t.Fatal("there are two keys")
		}
	}
	public, sealed, err := postgres.Key(t.Context(), pool)
	if err != nil || strings.Contains(string(sealed), keys[0][:32]) {
		t.Errorf("the key lies open, or %v", err)
	}
	// What was sealed for another installation, or with another sealing key, is refused.
	if _, err := Open(t.Context(), service.Deps{DB: pool, Sealer: secret.New(secret.Key{2})}, Rule{}, func() {}); !errors.Is(err, secret.ErrKey) {
		t.Errorf("%x: %v", public.ID(), err)
	}
}

func TestNotary_SignsOneCheckpointHoweverManyReplicasTry(t *testing.T) {
	pool := newPool(t)
	store(t, pool, "a", 10)
	var g errgroup.Group
	for range 6 {
		n, _, _ := open(t, pool, Rule{Events: 10, Interval: time.Hour})
		g.Go(func() error { _, err := n.SignIfDue(t.Context()); return err })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if n, err := postgres.CountCheckpoints(t.Context(), pool); n != 1 || err != nil {
		t.Errorf("%d checkpoints, %v", n, err)
	}
}

func TestNotary_SignsNothingBehindWhatWasRewritten(t *testing.T) {
	pool := newPool(t)
	n, now, _ := open(t, pool, Rule{Events: 1, Interval: time.Minute})
	store(t, pool, "a", 3)
	sign(t, n)
	admin, err := pgtest.Admin(t, pool).Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Release()
	for _, sql := range []string{
		`SET ROLE NONE`, `ALTER TABLE audit_events DISABLE TRIGGER USER`, `UPDATE audit_events SET hash = sha256('x') WHERE sequence = 3`,
	} {
		if _, err := admin.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	store(t, pool, "b", 3)
	now.Advance(time.Hour)
	if signed, err := n.SignIfDue(t.Context()); signed || !errors.Is(err, ErrRewritten) {
		t.Errorf("signed is %v, %v", signed, err)
	}
}

func TestNotary_IsWokenByEnoughEventsLongBeforeItsTime(t *testing.T) {
	pool := newPool(t)
	n, _, _ := open(t, pool, Rule{Events: 5, Interval: 24 * time.Hour})
	store(t, pool, "first", 1)
	sign(t, n)
	var running errgroup.Group
	ctx, end := context.WithCancel(t.Context())
	running.Go(func() error { return n.Run(ctx) })
	defer func() {
		end()
		if err := running.Wait(); err != nil {
			t.Error(err)
		}
	}()
	store(t, pool, "more", 5)
	n.Arrived(2)
	n.Arrived(3)
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if count, err := postgres.CountCheckpoints(t.Context(), pool); err != nil || count == 2 {
			if err != nil {
				t.Error(err)
			}
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("it was not woken")
		}
	}
}
