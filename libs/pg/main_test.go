package pg_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	"github.com/certctl/certctl/libs/internal/scratch"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/libs/pg/local"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(withShutdown{m}) }

type withShutdown struct{ *testing.M }

func (m withShutdown) Run() int {
	code := m.M.Run()
	if err := scratch.Shutdown(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

const shopSQL = `-- +goose Up
CREATE TABLE item (id int PRIMARY KEY, stock int NOT NULL CONSTRAINT item_stock CHECK (stock >= 0));
CREATE TABLE sale (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, item int NOT NULL REFERENCES item);
-- +goose StatementBegin
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'sales stay'; END $$;
-- +goose StatementEnd
CREATE TRIGGER sale_stays BEFORE DELETE ON sale FOR EACH ROW EXECUTE FUNCTION refuse();
INSERT INTO item VALUES (1, 10), (2, 10);
`

var shop = fstest.MapFS{"0001_shop.sql": {Data: []byte(shopSQL)}}

func newPool(t testing.TB) *pgxpool.Pool {
	t.Helper()
	return scratch.Pool(t, server(t), shop, "shop")
}

func server(t testing.TB) scratch.Server {
	t.Helper()
	s, err := scratch.Private()
	must(t, err)
	return s
}

// emptyDatabase returns the name and the administrator's URL of a database that the test drops.
func emptyDatabase(t *testing.T) (name, adminURL string) {
	t.Helper()
	name = "pg_test_" + strings.ToLower(strings.ReplaceAll(fmt.Sprint(time.Now().UnixNano()), "-", ""))
	adminURL, err := pg.OnDatabase(server(t).AdminURL, name)
	must(t, err)
	t.Cleanup(func() {
		conn := connect(t, server(t).AdminURL)
		_, err := conn.Exec(context.Background(), "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)")
		must(t, err)
	})
	return name, adminURL
}

// ownCluster starts a server that a test may kill.
func ownCluster(t *testing.T) *local.Cluster {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "pg")
	must(t, err)
	must(t, os.Chmod(dir, 0o755))
	c, err := local.Start(t.Context(), local.Options{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	must(t, err)
	t.Cleanup(func() {
		must(t, c.Stop(context.Background()))
		must(t, os.RemoveAll(dir))
	})
	return c
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), url)
	must(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func query[T any](t *testing.T, db interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}, sql string, args ...any,
) (value T) {
	t.Helper()
	must(t, db.QueryRow(t.Context(), sql, args...).Scan(&value))
	return value
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ticks := time.NewTicker(2 * time.Millisecond)
	defer ticks.Stop()
	deadline := time.After(10 * time.Second)
	for !ok() {
		select {
		case <-ticks.C:
		case <-deadline:
			t.Fatalf("not within ten seconds: %s", what)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
