package local_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/certctl/certctl/libs/pg/local"
)

// launcherDir makes the test binary behave as a launcher of the cluster in that folder, which tests can kill.
const launcherDir = "PG_LOCAL_TEST_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(launcherDir); dir != "" {
		launch(dir)
		return
	}
	goleak.VerifyTestMain(cleanup{m})
}

// cleanup removes the pristine cluster after the tests.
type cleanup struct{ *testing.M }

func (c cleanup) Run() int {
	defer func() {
		if dir, err := pristine(); err == nil {
			_ = os.RemoveAll(dir)
		}
	}()
	return c.M.Run()
}

// pristine is a folder with a cluster that no test has touched, since making one takes longer than most tests.
var pristine = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp(base(), "pglocal")
	if err != nil {
		return "", err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	c, err := local.Start(context.Background(), local.Options{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return "", err
	}
	return dir, c.Stop(context.Background())
})

// base is where folders are made: in memory if there is such a place, since the tests make thousands of files.
func base() string {
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		return "/dev/shm"
	}
	return "/tmp"
}

// clusterFolder returns a folder with a cluster of its own, as if it came back from a backup: all of it belongs to
// whoever runs the tests.
func clusterFolder(t *testing.T) string {
	t.Helper()
	from, err := pristine()
	must(t, err)
	dir := openFolder(t)
	must(t, os.CopyFS(dir, os.DirFS(from)))
	must(t, os.Chmod(filepath.Join(dir, "data"), 0o700))
	must(t, os.Chmod(filepath.Join(dir, "superuser.password"), 0o600))
	return dir
}

// launch starts a cluster, says where it is, and stays.
func launch(dir string) {
	c, err := local.Start(context.Background(), local.Options{Dir: dir})
	if err != nil {
		fmt.Printf("error %q\n", err)
		os.Exit(1)
	}
	fmt.Println("pid", c.PID())
	fmt.Println("url", c.AdminURL())
	select {}
}

// launcher is a process that runs launch.
type launcher struct {
	once sync.Once
	cmd  *exec.Cmd
	url  string
	pid  int // of the server
}

// startLauncher runs a launcher as this process's user, or as nobody if asked to.
func startLauncher(t *testing.T, dir string, asNobody bool) *launcher {
	t.Helper()
	l := &launcher{cmd: exec.CommandContext(t.Context(), testBinary(t))}
	l.cmd.Env = append(os.Environ(), launcherDir+"="+dir)
	l.cmd.Stderr = os.Stderr
	if asNobody {
		l.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	out, err := l.cmd.StdoutPipe()
	must(t, err)
	must(t, l.cmd.Start())
	t.Cleanup(l.kill)
	lines := bufio.NewScanner(out)
	for l.url == "" && lines.Scan() {
		word, rest, _ := strings.Cut(lines.Text(), " ")
		switch word {
		case "pid":
			_, err := fmt.Sscan(rest, &l.pid)
			must(t, err)
		case "url":
			l.url = rest
		default:
			t.Fatalf("launcher says %q", lines.Text())
		}
	}
	if l.url == "" {
		t.Fatal("launcher ended before its server was ready")
	}
	return l
}

// kill ends the launcher the way that leaves it no time for anything.
func (l *launcher) kill() {
	l.once.Do(func() {
		_ = l.cmd.Process.Kill()
		_ = l.cmd.Wait()
	})
}

const nobody = 65534

// testBinary returns this program where every user can run it; the go command builds it where only one can.
func testBinary(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	raw, err := os.ReadFile(self)
	must(t, err)
	path := filepath.Join(openFolder(t), "launcher")
	must(t, os.WriteFile(path, raw, 0o755))
	return path
}

// openFolder returns a temporary folder that every user can enter, as the parents of a cluster's folder must be.
func openFolder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(base(), "pglocal")
	must(t, err)
	must(t, os.Chmod(dir, 0o755))
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	return dir
}

func start(t *testing.T, o local.Options) *local.Cluster {
	t.Helper()
	o.Log = slog.New(slog.DiscardHandler)
	c, err := local.Start(t.Context(), o)
	must(t, err)
	t.Cleanup(func() { must(t, c.Stop(context.Background())) })
	return c
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	must(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func run(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	_, err := conn.Exec(t.Context(), sql)
	must(t, err)
}

func count(t *testing.T, conn *pgx.Conn, from string) (n int) {
	t.Helper()
	must(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM "+from).Scan(&n))
	return n
}

// eventually waits until ok, for at most ten seconds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ticks := time.NewTicker(5 * time.Millisecond)
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

// alive reports whether a process runs. One that has ended and waits to be reaped does not.
func alive(pid int) bool {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, state, _ := strings.Cut(string(raw), ") ")
	return err == nil && !strings.HasPrefix(state, "Z")
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
