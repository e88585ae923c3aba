// Package scratch gives tests a Postgres that nobody has to set up and that nothing remains of.
//
// Private is one server per test process, started by the first test that asks for it, with its data in memory where
// the system has a place for that. It ends with the process, however that ends; its folder is then removed by a child
// that waits for just this. Making a cluster takes longer than most tests, so a pristine one is kept among the
// temporary files and copied.
//
// Pool is a database of the test's own, cloned from a template with the migrations applied, seen through the runtime
// role of the schema: what the service may not do, the test may not do.
//
// Nothing here is durable: fsync is off. Tests of what survives a crash run package pg/local on their own folder.
package scratch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/certctl/certctl/libs/pg/local"
)

// Server is a Postgres whose administrator we are.
type Server struct {
	// AdminURL is the URL of a superuser.
	AdminURL string
}

const startLimit = time.Minute

var private struct {
	mu      sync.Mutex
	cluster *local.Cluster
	dir     string
	mourner io.Closer // its end tells the child that removes dir
}

// Private returns this process's own server, and starts it if need be.
func Private() (Server, error) {
	private.mu.Lock()
	defer private.mu.Unlock()
	if private.cluster == nil {
		if err := startPrivate(); err != nil {
			return Server{}, fmt.Errorf("start a Postgres for tests: %w", err)
		}
	}
	return Server{AdminURL: private.cluster.AdminURL()}, nil
}

// Shutdown ends this process's server and removes its folder. It is for packages that count their goroutines after the
// tests; the others can leave it to the end of the process.
func Shutdown() error {
	private.mu.Lock()
	defer private.mu.Unlock()
	if private.cluster == nil {
		return nil
	}
	err := private.cluster.Stop(context.Background())
	private.cluster = nil
	return errors.Join(err, private.mourner.Close(), os.RemoveAll(private.dir))
}

func startPrivate() error {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	options := local.Options{
		BinDir: os.Getenv("CERTCTL_POSTGRES_BIN"), PeersDir: peersDir(),
		Settings: settings, Log: slog.New(slog.DiscardHandler),
	}
	seed, err := pristine(ctx, options)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(memoryDir(), "certctl-pg-")
	if err != nil {
		return err
	}
	mourner, err := removeAfterUs(dir)
	if err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	cluster, err := copyAndStart(ctx, seed, dir, options)
	if err != nil {
		return errors.Join(err, mourner.Close(), os.RemoveAll(dir))
	}
	private.cluster, private.dir, private.mourner = cluster, dir, mourner
	return nil
}

var settings = map[string]string{
	"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "shared_buffers": "32MB",
	"max_connections": "200", "max_wal_size": "256MB", "autovacuum_naptime": "10s",
}

func copyAndStart(ctx context.Context, seed, dir string, o local.Options) (*local.Cluster, error) {
	if err := os.CopyFS(dir, os.DirFS(seed)); err != nil {
		return nil, err
	}
	for path, mode := range map[string]os.FileMode{dir: 0o755, filepath.Join(dir, "data"): 0o700} {
		if err := os.Chmod(path, mode); err != nil {
			return nil, err
		}
	}
	o.Dir = dir
	return local.Start(ctx, o)
}

// removeAfterUs starts a child that outlives this process and then removes dir.
func removeAfterUs(dir string) (io.Closer, error) {
	const script = `read -r _
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
	[ -e "$1/data/postmaster.pid" ] || break
	sleep 0.25
done
rm -rf -- "$1"`
	cmd := exec.Command("/bin/sh", "-c", script, "sh", dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return mourner{stdin, cmd}, nil
}

type mourner struct {
	io.Closer
	cmd *exec.Cmd
}

func (m mourner) Close() error { return errors.Join(m.Closer.Close(), m.cmd.Wait()) }

// memoryDir is where files are kept in memory, if this system has it and there is room; else "", the temporary files.
func memoryDir() string {
	const dir, room = "/dev/shm", 1 << 30
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil || fs.Bavail*uint64(fs.Bsize) < room {
		return ""
	}
	if probe, err := os.MkdirTemp(dir, "certctl-pg-"); err != nil || os.Remove(probe) != nil {
		return ""
	}
	return dir
}

// pristine returns the folder of a cluster that has never been used, and makes it if there is none for this user and
// version.
func pristine(ctx context.Context, o local.Options) (string, error) {
	bin, err := local.Find(ctx, local.FindOptions{BinDir: o.BinDir, PeersDir: o.PeersDir})
	if err != nil {
		return "", err
	}
	shelf := filepath.Join(os.TempDir(), "certctl-pgtest-"+strconv.Itoa(os.Geteuid()))
	if err := ownFolder(shelf); err != nil {
		return "", err
	}
	unlock, err := lockFile(filepath.Join(shelf, "lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	seed := filepath.Join(shelf, "postgres-"+strconv.Itoa(bin.Major))
	if _, err := os.Stat(seed); err == nil {
		return seed, nil
	}
	o.Dir = seed + ".partial"
	if err := os.RemoveAll(o.Dir); err != nil {
		return "", err
	}
	cluster, err := local.Start(ctx, o)
	if err != nil {
		return "", err
	}
	if err := cluster.Stop(ctx); err != nil {
		return "", err
	}
	for _, name := range []string{"run", "lock", "postgres.log"} {
		if err := os.RemoveAll(filepath.Join(o.Dir, name)); err != nil {
			return "", err
		}
	}
	return seed, os.Rename(o.Dir, seed)
}

// ownFolder makes a folder that others can pass through and only this user can change.
func ownFolder(path string) error {
	if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() || int(stat.Uid) != os.Geteuid() || info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s is not a folder of ours alone", path)
	}
	return nil
}

func lockFile(path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return func() { _ = file.Close() }, nil
}

// peersDir is .peers beside the go.work above the working folder, which for a test is that of its package.
func peersDir() string {
	dir, err := os.Getwd()
	for err == nil && dir != filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			return filepath.Join(dir, ".peers")
		}
		dir = filepath.Dir(dir)
	}
	return ""
}
