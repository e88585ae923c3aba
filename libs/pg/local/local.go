// Package local runs a private Postgres: one cluster in one folder, for as long as this process lives.
//
// Start makes the cluster if there is none, starts it, and returns once it has answered a query. From then on it is
// kept alive: a server that dies is started again on the same socket until Stop. Where the process runs as root, the
// server runs as the user postgres or, failing that, nobody.
//
// No server outlives its launcher. It gets SIGQUIT from the kernel when the launcher dies, however it dies, and the
// next Start stops whatever is left of an earlier run in the same folder before it starts its own. Where the kernel
// cannot do the first (it is Linux that can), the second is what there is. A folder is used by one launcher at a time;
// the second gets ErrInUse.
//
// The server is reached through a Unix socket in its folder, on TCP only when a port is asked for and then only on
// 127.0.0.1, and by password (SCRAM) in any case. The superuser's password lies beside the data, for its owner only.
//
// It does not install Postgres, and does not upgrade a cluster to another major version.
package local

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// ErrInUse means that another process runs a server in the same folder.
var ErrInUse = errors.New("folder is in use by another process")

// Options say what to run, and where.
type Options struct {
	// Dir is the cluster's folder: data, socket, log and password lie in it. Start makes it.
	Dir string
	// BinDir is the folder of initdb and postgres. Empty means that Find looks for it.
	BinDir string
	// PeersDir is a folder into which npm installed the package of Postgres binaries, for Find.
	PeersDir string
	// Port makes the server listen on 127.0.0.1 too. Zero means on the Unix socket alone.
	Port int
	// User is who the server runs as when this process is root. Empty means postgres or nobody.
	User string
	// Settings are server settings beyond our own, which they override.
	Settings map[string]string
	// Log receives starts, deaths and restarts. Nil means slog.Default.
	Log *slog.Logger
}

// Cluster is a running private Postgres.
type Cluster struct {
	o        Options
	at       layout
	bin      Binaries
	as       *identity // nil: this process's own
	password string
	lock     *folderLock

	stopOnce sync.Once
	stop     chan struct{} // closed by Stop
	done     chan struct{} // closed when the last server is gone

	mu    sync.Mutex // guards child
	child *child
}

// layout is where things lie in a cluster's folder.
type layout struct{ root, data, socket, log, password, lock string }

func layoutOf(dir string) (layout, error) {
	root, err := filepath.Abs(dir)
	if err != nil {
		return layout{}, err
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		return layout{}, err
	}
	// The kernel shows a process's folder with links resolved, and leftovers are found by it.
	if root, err = filepath.EvalSymlinks(root); err != nil {
		return layout{}, err
	}
	in := func(name string) string { return filepath.Join(root, name) }
	return layout{
		root: root, data: in("data"), socket: socketDir(root), log: in("postgres.log"),
		password: in("superuser.password"), lock: in("lock"),
	}, nil
}

const (
	superuser  = "postgres"
	socketPort = 5432
)

// Start runs a server in o.Dir and waits until it answers, or ctx ends. Recovery after a crash is part of the wait.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	at, err := layoutOf(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("folder for Postgres: %w", err)
	}
	lock, err := lockFolder(at.lock)
	if err != nil {
		return nil, err
	}
	c := &Cluster{o: o, at: at, lock: lock, stop: make(chan struct{}), done: make(chan struct{})}
	if err := c.prepare(ctx); err != nil {
		lock.release()
		return nil, err
	}
	ready := make(chan error, 1)
	go c.supervise(context.WithoutCancel(ctx), ready)
	select {
	case err = <-ready:
	case <-ctx.Done():
		err = fmt.Errorf("wait for Postgres to answer: %w", ctx.Err())
	}
	if err != nil {
		return nil, errors.Join(err, c.Stop(context.WithoutCancel(ctx)))
	}
	return c, nil
}

// prepare does all that comes before the first server: binaries, user, cluster.
func (c *Cluster) prepare(ctx context.Context) (err error) {
	if c.as, err = chooseIdentity(c.o.User, c.at.data); err != nil {
		return err
	}
	if err := c.as.mustReach(c.at.root); err != nil {
		return err
	}
	if c.bin, err = Find(ctx, FindOptions{DataDir: c.at.data, BinDir: c.o.BinDir, PeersDir: c.o.PeersDir}); err != nil {
		return err
	}
	if c.bin, err = c.as.bringNear(c.bin, c.at.root); err != nil {
		return err
	}
	if c.password, err = loadPassword(c.at); err != nil {
		return err
	}
	if err := c.as.makeFolder(c.at.socket); err != nil {
		return fmt.Errorf("folder for the socket: %w", err)
	}
	return c.initialize(ctx)
}

// Stop ends the server the way that loses nothing: sessions are cut off, all is written out. When ctx ends before that
// is done, or after half a minute, it is ended at once and recovers at its next start. Stop may be called again.
func (c *Cluster) Stop(ctx context.Context) error {
	c.stopOnce.Do(func() { close(c.stop) })
	defer c.lock.release()
	ctx, cancel := context.WithTimeout(ctx, stopLimit)
	defer cancel()
	select {
	case <-c.done:
	case <-ctx.Done():
		c.end()
	}
	if err := os.RemoveAll(c.at.socket); err != nil {
		return fmt.Errorf("remove folder of the socket: %w", err)
	}
	return nil
}

// end does not let the server take its time.
func (c *Cluster) end() {
	c.signal(sigImmediate)
	select {
	case <-c.done:
	case <-time.After(killLimit):
		c.signal(sigKill)
		<-c.done
	}
}

// AdminURL returns the URL of the superuser, on the database postgres. It holds for as long as the cluster runs.
func (c *Cluster) AdminURL() string {
	return (&url.URL{
		Scheme: "postgres", User: url.UserPassword(superuser, c.password), Path: "/postgres",
		// A plus is no space to those who read the URLs of databases.
		RawQuery: strings.ReplaceAll(url.Values{"host": {c.at.socket}, "port": {strconv.Itoa(c.port())}}.Encode(), "+", "%20"),
	}).String()
}

// Version returns the major version of the server.
func (c *Cluster) Version() int { return c.bin.Major }

// PID returns the process id of the server, or 0 while there is none.
func (c *Cluster) PID() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.child == nil {
		return 0
	}
	return c.child.cmd.Process.Pid
}

func (c *Cluster) port() int {
	if c.o.Port != 0 {
		return c.o.Port
	}
	return socketPort // Names the socket's file, nothing else.
}
