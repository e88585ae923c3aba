package outbox_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/certctl/certctl/libs/inbox"
	"github.com/certctl/certctl/libs/outbox"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/libs/pg/local"
)

// workerDir makes the test binary behave as a service whose state lies in that folder, which the test can kill.
const workerDir = "OUTBOX_TEST_DIR"

const (
	urlFile    = "url"
	streamFile = "stream"
	drainFile  = "drain" // tells the worker to make no more
	kills      = 12
	changers   = 4
	pause      = 10 * time.Millisecond

	acknowledgedFile = "acknowledged"
)

// TestOutboxAndInbox_EffectOfEachChangeIsThereOnceUnderRandomKills runs a worker that makes changes, relays them to a
// stream that delivers everything at least once, and applies them; and kills it or Postgres, again and again.
func TestOutboxAndInbox_EffectOfEachChangeIsThereOnceUnderRandomKills(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	dir := openFolder(t)
	cluster, err := local.Start(t.Context(), local.Options{Dir: filepath.Join(dir, "pg"), Log: slog.New(slog.DiscardHandler)})
	must(t, err)
	t.Cleanup(func() { must(t, cluster.Stop(context.Background())) })
	pool := prepareSchema(t, cluster, dir)

	w := startWorker(t, dir)
	killed := map[string]int{}
	for range kills {
		before := acknowledged(t, dir)
		eventually(t, "work is being done", func() bool { return len(acknowledged(t, dir)) > len(before)+20 })
		// From here on any moment will do, the more random the better.
		<-time.After(time.Duration(random.IntN(200)) * time.Millisecond)
		if pid := cluster.PID(); random.IntN(3) == 0 && pid != 0 {
			must(t, syscall.Kill(pid, syscall.SIGKILL))
			killed["Postgres"]++
			continue
		}
		w.kill()
		killed["worker"]++
		w = startWorker(t, dir)
	}
	must(t, os.WriteFile(filepath.Join(dir, drainFile), nil, 0o600))
	eventually(t, "every change has its effect", func() bool {
		return number(pool, "SELECT count(*) FROM change c WHERE NOT EXISTS (SELECT FROM effect e WHERE e.id = c.id)") == 0 &&
			number(pool, "SELECT count(*) FROM outbox_queue") == 0
	})
	w.kill()
	changes := acknowledged(t, dir)
	t.Logf("killed %v; %d changes acknowledged, %d deliveries", killed, len(changes), lines(t, dir))
	var lost int
	must(t, pool.QueryRow(t.Context(), `SELECT count(*) FROM unnest($1::text[]) a (id)
		WHERE NOT EXISTS (SELECT FROM effect e WHERE e.id = a.id)`, changes).Scan(&lost))
	twice := number(pool, "SELECT count(*) FROM (SELECT FROM effect GROUP BY id HAVING count(*) > 1) d")
	invented := number(pool, "SELECT count(*) FROM effect e WHERE NOT EXISTS (SELECT FROM change c WHERE c.id = e.id)")
	if lost != 0 || twice != 0 || invented != 0 {
		t.Errorf("%d acknowledged changes without effect, %d effects twice, %d without change", lost, twice, invented)
	}
}

func prepareSchema(t *testing.T, c *local.Cluster, dir string) *pgxpool.Pool {
	t.Helper()
	schema := pg.SchemaOf("shop", "a-password")
	must(t, pg.Provision(t.Context(), c.AdminURL(), "shop", []pg.Schema{schema}))
	admin, err := pg.OnDatabase(c.AdminURL(), "shop")
	must(t, err)
	must(t, pg.Migrate(t.Context(), admin, schema.Name, schema.OwnerRole, migrations))
	url, err := schema.RuntimeURL(c.AdminURL(), "shop")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, urlFile), []byte(url), 0o600))
	owner, err := pg.Open(t.Context(), admin+"&role="+schema.OwnerRole, pg.Options{Schema: "shop"})
	must(t, err)
	defer owner.Close()
	_, err = owner.Exec(t.Context(), "CREATE TABLE change (id text PRIMARY KEY); CREATE TABLE effect (id text)", pgx.QueryExecModeSimpleProtocol)
	must(t, err)
	pool, err := pg.Open(t.Context(), url, pg.Options{Schema: "shop"})
	must(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// worker is the process that is killed.
type worker struct {
	cmd  *exec.Cmd
	once *sync.Once
}

func startWorker(t *testing.T, dir string) worker {
	t.Helper()
	w := worker{cmd: exec.CommandContext(t.Context(), os.Args[0]), once: &sync.Once{}}
	w.cmd.Env = append(os.Environ(), workerDir+"="+dir)
	w.cmd.Stderr = os.Stderr
	must(t, w.cmd.Start())
	t.Cleanup(w.kill)
	return w
}

func (w worker) kill() {
	w.once.Do(func() {
		_ = w.cmd.Process.Kill()
		_ = w.cmd.Wait()
	})
}

// acknowledged returns the ids of the changes that the workers were told are committed.
func acknowledged(t *testing.T, dir string) (ids []string) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, acknowledgedFile))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for line := range bytes.Lines(raw) {
		ids = append(ids, string(bytes.TrimSpace(line)))
	}
	return ids
}

// work is the worker's side: its loops end only with the process.
func work(dir string) {
	ctx := context.Background()
	url, err := os.ReadFile(filepath.Join(dir, urlFile))
	fatal(err)
	pool, err := pg.Open(ctx, string(url), pg.Options{Schema: "shop", AppName: "worker"})
	fatal(err)
	stream, err := os.OpenFile(filepath.Join(dir, streamFile), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	fatal(err)
	relay := &outbox.Relay{Pool: pool, Log: slog.New(slog.DiscardHandler), Publish: func(_ context.Context, messages []outbox.Message) error {
		var batch bytes.Buffer
		for _, m := range messages {
			fmt.Fprintf(&batch, "%q\n", m.ID)
		}
		_, err := stream.Write(batch.Bytes())
		<-time.After(2 * time.Millisecond) // As long as a bus takes that syncs: the moment to be killed in.
		return err
	}}
	go func() { _ = relay.Run(ctx) }()
	for range changers {
		go change(ctx, pool, dir, relay.Wake)
	}
	apply(ctx, pool, dir)
}

// change makes changes until it is told to drain, and writes down those that it was told are committed.
func change(ctx context.Context, pool *pgxpool.Pool, dir string, wake func()) {
	acknowledged, err := os.OpenFile(filepath.Join(dir, acknowledgedFile), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	fatal(err)
	for {
		if _, err := os.Stat(filepath.Join(dir, drainFile)); err == nil {
			return
		}
		id := uuid.NewString()
		err := pg.InTx(ctx, pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "INSERT INTO change VALUES ($1)", id); err != nil {
				return err
			}
			return outbox.Insert(ctx, tx, message(id, "EVT"))
		})
		if err == nil {
			fmt.Fprintln(acknowledged, id)
			wake()
			continue
		}
		<-time.After(pause)
	}
}

// apply reads the stream from its beginning, as a consumer that has forgotten all its acknowledgements, and goes on.
func apply(ctx context.Context, pool *pgxpool.Pool, dir string) {
	stream, err := os.Open(filepath.Join(dir, streamFile))
	fatal(err)
	reader := bufio.NewReader(stream)
	for {
		var ids []string
		for len(ids) < 200 {
			line, err := reader.ReadBytes('\n')
			if err != nil {
				break
			}
			var id string
			// A line that a killed writer left unfinished was not acknowledged, and is published again.
			if json.Unmarshal(line, &id) == nil {
				ids = append(ids, id)
			}
		}
		for len(ids) == 0 || applyOnce(ctx, pool, ids) != nil {
			<-time.After(pause)
			if len(ids) == 0 {
				break
			}
		}
	}
}

func applyOnce(ctx context.Context, pool *pgxpool.Pool, ids []string) error {
	return pg.InTx(ctx, pool, func(tx pgx.Tx) error {
		fresh, err := inbox.Claim(ctx, tx, "applier", ids)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "INSERT INTO effect SELECT unnest($1::text[])", fresh)
		return err
	})
}

// number returns the result of a query, and -1 while Postgres is away.
func number(pool *pgxpool.Pool, sql string) int {
	var n int
	if err := pool.QueryRow(context.Background(), sql).Scan(&n); err != nil {
		return -1
	}
	return n
}

func lines(t *testing.T, dir string) int {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, streamFile))
	must(t, err)
	return bytes.Count(raw, []byte("\n"))
}

// openFolder returns a temporary folder that every user can enter, for the user that runs Postgres.
func openFolder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "outbox")
	must(t, err)
	must(t, os.Chmod(dir, 0o755))
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	return dir
}

func fatal(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		os.Exit(1)
	}
}
