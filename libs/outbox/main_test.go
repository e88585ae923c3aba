package outbox_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	"github.com/certctl/certctl/libs/internal/scratch"
	"github.com/certctl/certctl/libs/outbox"
)

// migrations is the original that every service copies.
var migrations = os.DirFS("../../migrations/outbox_inbox")

func TestMain(m *testing.M) {
	if dir := os.Getenv(workerDir); dir != "" {
		work(dir)
		return
	}
	goleak.VerifyTestMain(withShutdown{m})
}

type withShutdown struct{ *testing.M }

func (m withShutdown) Run() int {
	code := m.M.Run()
	if err := scratch.Shutdown(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func newPool(t testing.TB) *pgxpool.Pool {
	t.Helper()
	server, err := scratch.Private()
	must(t, err)
	return scratch.Pool(t, server, migrations, "shop")
}

// stream is a bus that remembers, and that refuses what its test tells it to.
type stream struct {
	mu     sync.Mutex // guards the rest
	got    []string
	refuse func(messages []outbox.Message) error
}

func (s *stream) publish(_ context.Context, messages []outbox.Message) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse != nil {
		if err := s.refuse(messages); err != nil {
			return err
		}
	}
	for _, m := range messages {
		s.got = append(s.got, m.ID)
	}
	return nil
}

func (s *stream) setRefuse(refuse func([]outbox.Message) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = refuse
}

// ids returns what was published, sorted, with repetitions.
func (s *stream) ids() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(slices.Values(s.got))
}

func (s *stream) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.got)
}

// run runs the relay until the test ends.
func run(t testing.TB, r *outbox.Relay) {
	t.Helper()
	r.Log = slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = r.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
}

func message(id, stream string) outbox.Message {
	return outbox.Message{ID: id, Stream: stream, Subject: "shop." + id, Header: map[string][]string{"k": {"v"}}, Body: []byte(id)}
}

func insert(t testing.TB, pool *pgxpool.Pool, messages ...outbox.Message) {
	t.Helper()
	must(t, outbox.Insert(t.Context(), pool, messages...))
}

func unsent(t testing.TB, pool *pgxpool.Pool) (n int) {
	t.Helper()
	must(t, pool.QueryRow(t.Context(), "SELECT count(*) FROM outbox_queue").Scan(&n))
	return n
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	ticks := time.NewTicker(2 * time.Millisecond)
	defer ticks.Stop()
	deadline := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-ticks.C:
		case <-deadline:
			t.Fatalf("not within twenty seconds: %s", what)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
