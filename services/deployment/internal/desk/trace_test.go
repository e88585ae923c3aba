package desk_test

import (
	"context"
	"fmt"
	"sort"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/libs/bus"
)

type tr struct{ m map[string]time.Duration }
type trk struct{}
type trv struct {
	t time.Time
	s string
}

func (t *tr) TraceQueryStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryStartData) context.Context {
	s := d.SQL
	if len(s) > 70 {
		s = s[:70]
	}
	return context.WithValue(ctx, trk{}, trv{time.Now(), s})
}
func (t *tr) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryEndData) {
	v := ctx.Value(trk{}).(trv)
	t.m[v.s] += time.Since(v.t)
}

func TestTrace(t *testing.T) {
	w := newWorld(t)
	x := &tr{map[string]time.Duration{}}
	cfg := w.db.Config().Copy()
	cfg.ConnConfig.Tracer = x
	cfg.MaxConns = 1
	db, err := pgxpool.NewWithConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.db = db
	defer db.Close()
	a := w.host("agent-a")
	w.target("tgt-1", a)
	n := 0
	for round := range 60 {
		events := make([]bus.Message, 100)
		for i := range events {
			n++
			events[i] = message(issued(fmt.Sprint("mc-", n), fmt.Sprint("cv-", n), 0, "tgt-1"), 1)
		}
		w.exec(`DELETE FROM outbox`)
		w.hear(events...)
		var started, completed []bus.Message
		for _, o := range w.orders() {
			started = append(started, a.answer(o.command, command.OutcomeStarted))
			completed = append(completed, a.answer(o.command, command.OutcomeCompleted))
		}
		w.told(started...)
		w.told(completed...)
		if round%20 == 19 {
			var ks []string
			for k := range x.m {
				ks = append(ks, k)
			}
			sort.Slice(ks, func(i, j int) bool { return x.m[ks[i]] > x.m[ks[j]] })
			for _, k := range ks[:12] {
				t.Logf("%d %8d us  %q", round, x.m[k].Microseconds()/20, k)
			}
			clear(x.m)
		}
	}
}
