package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/retry"
)

// What a signal means to Postgres.
const (
	sigFast      = syscall.SIGINT  // Cut off sessions, write everything out, exit.
	sigImmediate = syscall.SIGQUIT // Exit at once, recover at the next start.
	sigKill      = syscall.SIGKILL
)

const (
	stopLimit = 30 * time.Second
	killLimit = 6 * time.Second // Postgres itself kills what has not quit after five.
	readyPoll = 5 * time.Millisecond
	// answerWithin is how long a server that says it is ready may not answer.
	answerWithin = 15 * time.Second
	steadyAfter  = 30 * time.Second
	logLimit     = 16 << 20
)

var restartPolicy = retry.Policy{Base: 50 * time.Millisecond, Cap: 5 * time.Second, Jitter: 0.2}

// child is one server process.
type child struct {
	cmd      *exec.Cmd
	exited   chan struct{} // closed when it is gone
	err      error         // how it went; read after exited
	logStart int64
}

// supervise starts servers until Stop. It reports on ready how the first start went; if it failed there is no second.
func (c *Cluster) supervise(ctx context.Context, ready chan<- error) {
	// The kernel sends the parent-death signal when the thread that made the child ends, not the process. This thread
	// makes all children and ends after the last.
	runtime.LockOSThread()
	defer close(c.done)
	failures := 0
	for first := true; ; first = false {
		began := time.Now()
		report := func(err error) {
			if first {
				ready <- err
			} else {
				c.logStart(err, began)
			}
		}
		ok, err := c.serve(ctx, report)
		if c.stopping() || first && !ok {
			return
		}
		if time.Since(began) > steadyAfter {
			failures = 0
		}
		failures++
		delay := restartPolicy.Delay(failures, nil)
		c.o.Log.Error("Postgres died; starting it again", "error", err, "delay", delay)
		select {
		case <-c.stop:
			return
		case <-time.After(delay):
		}
	}
}

func (c *Cluster) logStart(err error, began time.Time) {
	if err != nil {
		c.o.Log.Error("Postgres did not start", "error", err)
		return
	}
	c.o.Log.Info("Postgres answers again", "after", time.Since(began))
}

// serve runs one server from start to end, and returns whether it ever answered and how it ended.
func (c *Cluster) serve(ctx context.Context, report func(error)) (ok bool, err error) {
	if err := c.clearLeftovers(); err != nil {
		report(err)
		return false, err
	}
	s, err := c.spawn()
	if err != nil {
		report(err)
		return false, err
	}
	c.setChild(s)
	defer c.setChild(nil)
	answered := make(chan bool, 1)
	go func() {
		err := c.untilReady(ctx, s)
		report(err)
		answered <- err == nil
	}()
	stopped := make(chan struct{})
	go c.endOnStop(s, stopped)
	s.err = s.cmd.Wait()
	close(s.exited)
	<-stopped
	return <-answered, s.err
}

// endOnStop passes Stop on to the server.
func (c *Cluster) endOnStop(s *child, stopped chan<- struct{}) {
	defer close(stopped)
	select {
	case <-s.exited:
	case <-c.stop:
		_ = s.cmd.Process.Signal(sigFast)
	}
}

func (c *Cluster) spawn() (*child, error) {
	log, start, err := c.openLog()
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(filepath.Join(c.bin.Dir, "postgres"), c.arguments()...) //nolint:noctx // lives until Stop
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = environment(), c.at.data, log, log
	cmd.SysProcAttr = attributes(c.as, sigImmediate)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start Postgres: %w", err)
	}
	return &child{cmd: cmd, exited: make(chan struct{}), logStart: start}, nil
}

func (c *Cluster) arguments() []string {
	settings := map[string]string{
		"unix_socket_directories": c.at.socket,
		"port":                    strconv.Itoa(c.port()),
		"listen_addresses":        "",
		"logging_collector":       "off",
		"log_destination":         "stderr",
		"log_timezone":            "UTC",
		// Our statements are short and prepared; compiling them never pays.
		"jit": "off",
		// After a checkpoint each page is written whole into the log when it is first touched. With the defaults, 5 min
		// and 1 GB, a burst of work pays for that twice over. The log takes up to 2 GB of disk in such a burst and is
		// recycled after it, and what recovery has to read after a kill is bounded by the same: seconds.
		"checkpoint_timeout": "15min",
		"max_wal_size":       "2GB",
		// Segments that are kept are written over; new ones are filled with zeros first, and written twice.
		"min_wal_size": "256MB",
		// What indexes are entered into at random has to stay in reach. Memory is taken page by page as it is used, and an
		// installation that does little uses little of it.
		"shared_buffers": "256MB",
	}
	// Neither log nor rows are compressed by lz4: builds without it could read neither, and which build is found may change
	// from start to start. The log is not compressed at all, since pglz costs more than it saves.
	if c.o.Port != 0 {
		settings["listen_addresses"] = "127.0.0.1"
	}
	maps.Copy(settings, c.o.Settings)
	args := []string{"-D", c.at.data}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		args = append(args, "-c", name+"="+settings[name])
	}
	return args
}

// untilReady waits until the server has answered a query, or is gone, or says that it is ready and does not answer.
func (c *Cluster) untilReady(ctx context.Context, s *child) error {
	poll := time.NewTicker(readyPoll)
	defer poll.Stop()
	var ready time.Time
	for {
		select {
		case <-s.exited:
			return fmt.Errorf("Postgres exited: %w; its log ends: %s", exitError(s.err), c.logTail(s.logStart)) //nolint:staticcheck // a name
		case <-poll.C:
		}
		// Asking for a connection costs milliseconds, so the server's own word that it is ready comes first.
		if !c.saysReady(s.cmd.Process.Pid) {
			continue
		}
		err := c.answers(ctx)
		if err == nil {
			return nil
		}
		if ready.IsZero() {
			ready = time.Now()
		}
		if time.Since(ready) > answerWithin {
			return fmt.Errorf("Postgres says that it is ready, but it does not answer: %w", err) //nolint:staticcheck // a name
		}
	}
}

func exitError(err error) error {
	if err == nil {
		return errors.New("without an error")
	}
	return err
}

func (c *Cluster) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, c.AdminURL())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	return conn.Ping(ctx)
}

func (c *Cluster) openLog() (*os.File, int64, error) {
	if info, err := os.Stat(c.at.log); err == nil && info.Size() > logLimit {
		if err := os.Rename(c.at.log, c.at.log+".1"); err != nil {
			return nil, 0, err
		}
	}
	log, err := os.OpenFile(c.at.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, 0, err
	}
	start, err := log.Seek(0, io.SeekEnd)
	return log, start, err
}

// logTail returns what the server has logged since it started, as far as it tells why it ended.
func (c *Cluster) logTail(from int64) string {
	raw, err := os.ReadFile(c.at.log)
	if err != nil || int64(len(raw)) < from {
		return "(unreadable)"
	}
	lines := strings.Split(strings.TrimSpace(string(raw[from:])), "\n")
	return strings.Join(lines[max(0, len(lines)-8):], "\n")
}

func (c *Cluster) setChild(s *child) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.child = s
}

func (c *Cluster) signal(sig syscall.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.child != nil {
		_ = c.child.cmd.Process.Signal(sig)
	}
}

func (c *Cluster) stopping() bool {
	select {
	case <-c.stop:
		return true
	default:
		return false
	}
}
