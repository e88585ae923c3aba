package search_test

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	"github.com/certctl/certctl/libs/internal/scratch"
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

const table = `-- +goose Up
CREATE TABLE hosts (id text PRIMARY KEY, name text NOT NULL, status text NOT NULL, cores integer NOT NULL,
	enabled boolean NOT NULL, seen timestamptz NOT NULL, kind text NOT NULL, names text[] NOT NULL, tags jsonb NOT NULL);
`

// fleet are rows, as CEL and as Postgres have them.
func fleet(t *testing.T) (*pgxpool.Pool, []map[string]any) {
	t.Helper()
	server, err := scratch.Private()
	if err != nil {
		t.Fatal(err)
	}
	pool := scratch.Pool(t, server, fstest.MapFS{"0001_hosts.sql": {Data: []byte(table)}}, "farm")
	var rows []map[string]any
	for i, name := range []string{"alpha", "Alpha", "al", "beta'; DROP TABLE hosts; --", "bÄta", "b\U0010ffff", `q"uo%te_`, `back\slash`, "z", ""} {
		tags := map[string]string{"n": fmt.Sprint(i), "name": name}
		if i%2 == 0 {
			tags["even"] = "yes"
		}
		rows = append(rows, map[string]any{
			"id": fmt.Sprintf("h-%d", i), "name": name, "status": []string{"Up", "Down"}[i%2], "cores": int64(i - 3), "on": i%3 == 0,
			"seen": at.Add(time.Duration(i-5) * time.Hour), "type": "t", "names": []string{name, "x" + name}, "tags": tags,
		})
	}
	for _, r := range rows {
		if _, err := pool.Exec(t.Context(), `INSERT INTO hosts VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
			r["id"], r["name"], r["status"], r["cores"], r["on"], r["seen"], r["type"], r["names"], r["tags"]); err != nil {
			t.Fatal(err)
		}
	}
	return pool, rows
}

// What the database finds is what CEL itself would have picked, whatever the texts hold.
func TestSQL_FindsWhatCELWouldPick(t *testing.T) {
	pool, rows := fleet(t)
	expressions := []string{
		`true`, `false`, `on`, `!on`, `on == true`, `on != true`, `name == "alpha"`, `name != "alpha"`, `"alpha" == name`,
		`name < "alpha"`, `name >= "b"`, `"b" > name`, `cores > 2`, `2 < cores`, `cores == -1`, `cores <= -9223372036854775808`,
		`cores < 9223372036854775807`, `cores in [1, 2, 99999999999]`, `status in ["Up"]`, `id in []`, `name in ["al", "z", ""]`,
		`name == "beta'; DROP TABLE hosts; --"`, `name.contains("'; DROP")`, `name.contains("%")`, `name.contains("_")`,
		`name.contains("")`, `name.startsWith("al")`, `name.startsWith("b")`, `name.startsWith("")`, `name.startsWith("b\U0010ffff")`,
		`name.startsWith("bÄ")`, `name.endsWith("a")`, `name.endsWith("Äta")`, `name.endsWith("--")`, `name.endsWith("")`,
		`name.startsWith("back\\")`, `"alpha" in names`, `"xz" in names`, `!("z" in names)`, `"even" in tags`, `has(tags.even)`,
		`!has(tags.even)`, `tags["even"] == "yes"`, `tags.n == "3"`, `tags["n"] in ["1", "2"]`, `tags["name"].endsWith("a")`,
		`tags["name"] == "q\"uo%te_"`, `tags["name"].contains("\"")`, `tags["nosuch"] == "x"`, `seen < now()`, `now() <= seen`,
		`seen == now()`, `seen > now() - duration("2h") && seen < duration("90m") + now()`,
		`seen > timestamp("2026-11-28T13:30:00+01:00")`, `seen in [timestamp("2026-11-28T12:00:00Z"), now() - duration("1h")]`,
		`status == "Up" && (on || cores > 3) && !(name == "z")`, `name == tags.name`, `id == name`, `!!on || !(on && on)`,
		`type == "t"`, `name == "$1"`, `name == "?"`,
	}
	for _, text := range expressions {
		e, err := hosts.Compile(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		var want []string
		for _, r := range rows {
			picked, err := hosts.Evaluate(text, at, r)
			if err != nil {
				t.Fatal(err)
			}
			if picked {
				want = append(want, r["id"].(string))
			}
		}
		condition, args := sql(e)
		found, err := pool.Query(t.Context(), `SELECT id FROM hosts h WHERE `+condition, args...)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		got, err := pgx.CollectRows(found, pgx.RowTo[string])
		if err != nil {
			t.Errorf("%s: %v", text, err)
		}
		slices.Sort(got)
		if d := cmp.Diff(want, got); d != "" && len(want)+len(got) > 0 {
			t.Errorf("%s: CEL and the database differ\n%s", text, d)
		}
	}
	var n int
	if err := pool.QueryRow(t.Context(), `SELECT count(*) FROM hosts`).Scan(&n); err != nil || n != len(rows) {
		t.Errorf("%d rows are left, error %v", n, err)
	}
}

// CEL has no answer for a key that is not there; here the comparison does not hold, and its negation does.
func TestSQL_TakesWhatIsNotThereForDifferent(t *testing.T) {
	pool, rows := fleet(t)
	for text, want := range map[string]int{
		`tags["nosuch"] == "x"`: 0, `tags["nosuch"] != "x"`: len(rows), `!(tags["nosuch"] == "x")`: len(rows),
		`!(tags["nosuch"] in ["x"])`: len(rows), `!tags["nosuch"].startsWith("x")`: len(rows), `seen == null`: 0, `seen != null`: len(rows),
	} {
		e, err := hosts.Compile(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		condition, args := sql(e)
		var n int
		if err := pool.QueryRow(t.Context(), `SELECT count(*) FROM hosts h WHERE `+condition, args...).Scan(&n); err != nil || n != want {
			t.Errorf("%s: %d rows, want %d, error %v", text, n, want, err)
		}
	}
}
