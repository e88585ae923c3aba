package local_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/libs/pg/local"
)

func TestStart_MakesAClusterAndFindsItAgain(t *testing.T) {
	dir := openFolder(t)
	began := time.Now()
	c := start(t, local.Options{Dir: dir})
	t.Logf("first start, with initdb: %v", time.Since(began))
	conn := connect(t, c.AdminURL())
	run(t, conn, "CREATE TABLE kept AS SELECT 1")
	must(t, conn.Close(t.Context()))
	must(t, c.Stop(t.Context()))

	began = time.Now()
	c = start(t, local.Options{Dir: dir})
	t.Logf("second start: %v", time.Since(began))
	if n := count(t, connect(t, c.AdminURL()), "kept"); n != 1 {
		t.Errorf("%d rows, want 1", n)
	}
}

func TestStart_ListensOnLoopbackOnlyWhenAsked(t *testing.T) {
	c := start(t, local.Options{Dir: clusterFolder(t)})
	var addresses string
	must(t, connect(t, c.AdminURL()).QueryRow(t.Context(), "SHOW listen_addresses").Scan(&addresses))
	if addresses != "" {
		t.Errorf("listens on %q, want nothing", addresses)
	}
}

func TestStart_KeepsThePasswordToItself(t *testing.T) {
	dir := openFolder(t)
	c := start(t, local.Options{Dir: dir})
	info, err := os.Stat(filepath.Join(dir, "superuser.password"))
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, want 0600", info.Mode())
	}
	wrong := strings.Replace(c.AdminURL(), "postgres:", "postgres:x", 2)
	if _, err := connectError(wrong); err == nil {
		t.Error("a wrong password was taken")
	}
}

func TestStart_TakesAFolderWhoseNameHasASpace(t *testing.T) {
	c := start(t, local.Options{Dir: filepath.Join(clusterFolder(t), "my data & more+")})
	run(t, connect(t, c.AdminURL()), "SELECT 1")
}

func TestStart_RefusesAFolderInUse(t *testing.T) {
	dir := clusterFolder(t)
	start(t, local.Options{Dir: dir})
	_, err := local.Start(t.Context(), local.Options{Dir: dir})
	if !errors.Is(err, local.ErrInUse) || !strings.Contains(err.Error(), "held by process") {
		t.Errorf("got %v, want ErrInUse and who holds it", err)
	}
}

func TestStart_BeginsAnewAfterAnUnfinishedInitdb(t *testing.T) {
	dir := openFolder(t)
	must(t, os.MkdirAll(filepath.Join(dir, "data.partial", "base"), 0o755))
	start(t, local.Options{Dir: dir})
	if _, err := os.Stat(filepath.Join(dir, "data.partial")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("unfinished cluster is still there: %v", err)
	}
}

func TestStart_TellsWhatTheServerComplainedOf(t *testing.T) {
	_, err := local.Start(t.Context(), local.Options{
		Dir: clusterFolder(t), Settings: map[string]string{"shared_buffers": "plenty", "fsync": "off"},
	})
	if err == nil || !strings.Contains(err.Error(), `invalid value for parameter "shared_buffers"`) {
		t.Errorf("got %v, want the server's own words", err)
	}
}

func TestStart_EndsWithItsContext(t *testing.T) {
	dir := openFolder(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := local.Start(ctx, local.Options{Dir: dir}); err == nil {
		t.Fatal("started although its context had ended")
	}
	start(t, local.Options{Dir: dir})
}

func TestStart_WillNotLoseThePasswordOfData(t *testing.T) {
	dir := clusterFolder(t)
	must(t, start(t, local.Options{Dir: dir}).Stop(t.Context()))
	must(t, os.Remove(filepath.Join(dir, "superuser.password")))
	_, err := local.Start(t.Context(), local.Options{Dir: dir})
	if err == nil || !strings.Contains(err.Error(), "put it back") {
		t.Errorf("got %v, want to be told to restore the password", err)
	}
}

func TestStart_NamesTheFolderThatItsUserCannotEnter(t *testing.T) {
	closed := t.TempDir()
	must(t, os.Chmod(closed, 0o700))
	c, err := local.Start(t.Context(), local.Options{Dir: filepath.Join(closed, "pg")})
	if os.Geteuid() != 0 {
		must(t, err)
		must(t, c.Stop(t.Context()))
		return
	}
	if !errors.Is(err, local.ErrUnreachable) {
		t.Errorf("got %v, want ErrUnreachable", err)
	}
}

func TestStart_WorksWhereThePathIsTooLongForASocket(t *testing.T) {
	dir := filepath.Join(openFolder(t), strings.Repeat("long", 25))
	connect(t, start(t, local.Options{Dir: dir}).AdminURL())
}

func TestStop_MayBeRepeated(t *testing.T) {
	c := start(t, local.Options{Dir: clusterFolder(t)})
	must(t, c.Stop(t.Context()))
	must(t, c.Stop(t.Context()))
	if pid := c.PID(); pid != 0 {
		t.Errorf("process %d after Stop", pid)
	}
}

func TestFind_TakesOnlyTheVersionOfTheData(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "PG_VERSION"), []byte("9\n"), 0o600))
	_, err := local.Find(t.Context(), local.FindOptions{DataDir: dir})
	if !errors.Is(err, local.ErrNoBinaries) || !strings.Contains(err.Error(), "version 9") {
		t.Errorf("got %v, want ErrNoBinaries for version 9", err)
	}
}

func TestFind_LooksNowhereElseThanWhereItIsTold(t *testing.T) {
	_, err := local.Find(t.Context(), local.FindOptions{BinDir: t.TempDir()})
	if !errors.Is(err, local.ErrNoBinaries) {
		t.Errorf("got %v, want ErrNoBinaries", err)
	}
}
