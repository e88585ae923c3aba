package pgtest_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/certctl/certctl/libs/testkit/pgtest"
)

var migrations = fstest.MapFS{
	"0001_things.sql": {Data: []byte("-- +goose Up\nCREATE TABLE thing (n int PRIMARY KEY);\n")},
}

// holdVariable makes the test binary hold a database until it is killed.
const (
	holdVariable = "PGTEST_HOLD"
	marker       = "cluster in"
)

func TestMain(m *testing.M) { os.Exit(pgtest.M{M: m}.Run()) }

func TestNew_IsolatesTestsThatRunInParallel(t *testing.T) {
	for range 4 {
		t.Run("writer of the same key", func(t *testing.T) {
			t.Parallel()
			pool := pgtest.New(t, migrations, "things")
			if _, err := pool.Exec(t.Context(), "INSERT INTO thing VALUES (1)"); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestNew_GivesTheRightsOfTheServiceAndNoMore(t *testing.T) {
	pool := pgtest.New(t, migrations, "things")
	for _, sql := range []string{"DROP TABLE thing", "ALTER TABLE thing ADD x int", "CREATE TABLE another (n int)"} {
		if _, err := pool.Exec(t.Context(), sql); err == nil {
			t.Errorf("the service may %s", sql)
		}
		if _, err := pgtest.Admin(t, pool).Exec(t.Context(), sql); err != nil && !strings.Contains(err.Error(), "does not exist") {
			t.Errorf("the owner may not %s: %v", sql, err)
		}
	}
}

func TestNew_LeavesNothingWhenTheTestProcessIsKilled(t *testing.T) {
	if os.Getenv(holdVariable) != "" {
		pool := pgtest.New(t, migrations, "things")
		fmt.Fprintln(os.Stderr, marker, filepath.Dir(pool.Config().ConnConfig.Host))
		select {}
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), holdVariable+"=1", "CERTCTL_DATABASE_URL=", "CERTCTL_TEST_POSTGRES=")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 256)
	n, _ := stderr.Read(line)
	_ = cmd.Process.Signal(syscall.SIGKILL)
	_ = cmd.Wait()
	dir, ok := strings.CutPrefix(strings.TrimSpace(string(line[:n])), marker)
	if !ok {
		t.Fatalf("the process said %q", line[:n])
	}
	deadline := time.After(15 * time.Second)
	ticks := time.NewTicker(20 * time.Millisecond)
	defer ticks.Stop()
	for {
		if _, err := os.Stat(strings.TrimSpace(dir)); os.IsNotExist(err) {
			return
		}
		select {
		case <-ticks.C:
		case <-deadline:
			t.Fatalf("%s is still there", dir)
		}
	}
}
