package leaf_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/contracts/stream"
	"github.com/certctl/certctl/contracts/subject"
)

// take takes n orders and acknowledges none.
func (w *world) take(a *agent, n int) (taken []jetstream.Msg, durable jetstream.Consumer) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	durable, err := a.js.Consumer(ctx, subject.StreamSiteCommands, a.id)
	if err != nil {
		w.t.Fatalf("durable of %s: %v", a.id, err)
	}
	for range n {
		m, err := durable.Next(jetstream.FetchContext(ctx))
		if err != nil {
			w.t.Fatalf("order %d of %d: %v", len(taken)+1, n, err)
		}
		taken = append(taken, m)
	}
	return taken, durable
}

// rejoin connects an agent to a leaf that was restarted.
func (w *world) rejoin(a *agent, url string) {
	w.t.Helper()
	a.nc.Close()
	w.connect(a, url)
	if r := w.ask(a, command.VerbHello, nil); r.Fault != nil {
		w.t.Fatalf("hello: %v", r.Fault)
	}
}

// Of four orders that an agent was given it acknowledges two before its leaf ends,
// however that comes about: it is given the other two, in their order, and no more.
func TestLeaf_RestartedGivesOutAgainWhatWasNotAcknowledgedAndNothingElse(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]func(w *world, dir string) (url string, end func()){
		"told to end": func(w *world, dir string) (string, func()) {
			c := w.config("site-1")
			c.DataDir = dir
			l := w.leaf(c)
			return l.url, l.stop
		},
		"killed": func(w *world, dir string) (string, func()) {
			p := w.process(dir)
			return p.url, p.kill
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "site-1")
			dir := filepath.Join(t.TempDir(), "leaf")
			url, end := begin(w, dir)
			a := w.newAgent("agent-a", "site-1")
			w.connect(a, url)
			if r := w.ask(a, command.VerbHello, nil); r.Fault != nil {
				t.Fatal(r.Fault)
			}
			for i := range 4 {
				w.order("site-1", "agent-a", fmt.Sprintf("job-%d", i))
			}
			given, _ := w.take(a, 4)
			for _, i := range []int{1, 3} {
				if err := given[i].DoubleAck(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			end()

			url, _ = begin(w, dir)
			w.rejoin(a, url)
			again, durable := w.take(a, 2)
			for i, want := range []string{"job-0", "job-2"} {
				if got := string(again[i].Data()); got != want {
					t.Errorf("order %d is %s, not %s", i, got, want)
				}
				if err := again[i].DoubleAck(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			info, err := durable.Info(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if info.NumPending != 0 || info.NumAckPending != 0 {
				t.Errorf("%d orders wait and %d are to be acknowledged", info.NumPending, info.NumAckPending)
			}
			if info.Config.MemoryStorage != true {
				t.Error("the durable is kept on disk")
			}
		})
	}
}

// The stream forgets an order that nobody needs any more, whoever says so; the server
// does not check whose it is.
func TestLeaf_KeepsTheOrdersOfAnAbsentAgentFromAnothersAcknowledgements(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "site-1")
	c := w.config("site-1")
	l := w.leaf(c)
	a, b := w.enter("agent-a", "site-1", l), w.newAgent("agent-b", "site-1")
	stranger := w.newAgent("agent-c", "site-1")
	forge := func() {
		t.Helper()
		// An own order that comes after them lets the server take the acknowledgements.
		w.order("site-1", "agent-a", fmt.Sprintf("job-a%d", time.Now().UnixNano()))
		w.orders(a, 1)
		for seq := 1; seq <= 10; seq++ {
			_ = a.nc.Publish(fmt.Sprintf("$JS.ACK.%s.agent-a.1.%d.%d.1.0", subject.StreamSiteCommands, seq, seq), []byte("+ACK"))
		}
		if err := a.nc.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	w.order("site-1", "agent-b", "job-b")
	forge()
	w.order("site-1", "agent-c", "job-c") // nobody has seen this agent yet
	forge()
	l.stop()
	l = w.leaf(c)
	w.rejoin(a, l.url)
	forge()

	for _, victim := range []*agent{b, stranger} {
		w.connect(victim, l.url)
		if r := w.ask(victim, command.VerbHello, nil); r.Fault != nil {
			t.Fatal(r.Fault)
		}
		want := "job-" + victim.id[len("agent-"):]
		if got := w.orders(victim, 1); string(got[0].Data()) != want {
			t.Errorf("%s got %s", victim.id, got[0].Data())
		}
	}
}

func TestLeaf_KeepsNoOrderThatIsAcknowledged(t *testing.T) {
	streams, consumers := stream.Leaf()
	for _, s := range streams {
		if s.Retention != jetstream.WorkQueuePolicy {
			t.Errorf("%s keeps what is acknowledged, which a durable in memory would be given again", s.Name)
		}
	}
	for _, c := range append(consumers, stream.Agent("agent-a")) {
		if !c.Config.MemoryStorage || c.Config.AckPolicy != jetstream.AckExplicitPolicy {
			t.Errorf("durable %s: %+v", c.Config.Durable, c.Config)
		}
	}
}
