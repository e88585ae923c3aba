// Package rig runs certctl as its users do, for stories that are told of the whole
// system: real binaries, real processes, the HTTP API and the command line.
//
// Programs can be killed and started again at any moment. Everything that they write
// lies in one folder, which goes when the test ends; when the test fails, the last lines
// of every program are shown first. Whatever is waited for has a deadline.
package rig

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"
)

// Patience is how long something may take that is usually done in a second or two, on a
// machine that has other things to do.
const Patience = 60 * time.Second

// tick is how often a condition is looked at.
const tick = 50 * time.Millisecond

// sources is a variable that says what the binaries are built from. It is set by make test, and only read: go test remembers
// an outcome for as long as what its tests have read is the same, and of other modules' files it does not know.
const sources = "E2E_SOURCES"

// Main builds the binaries, runs the tests and removes what was built.
func Main(m *testing.M) int {
	dir, err := os.MkdirTemp("", "certctl-e2e-bin-")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(dir)
	// Some programs run as another user.
	if err := os.Chmod(dir, 0o755); err != nil {
		return fail(err)
	}
	commands, err := filepath.Glob("../services/*/cmd/*")
	if err != nil || len(commands) == 0 {
		return fail(fmt.Errorf("no commands were found: %w", err))
	}
	// What loads PKCS#11 libraries is not static, and runs in no story.
	commands = slices.DeleteFunc(commands, func(path string) bool { return filepath.Base(path) == "certctl-signer" })
	build := exec.Command("go", append([]string{"build", "-o", dir + "/"}, commands...)...)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fail(fmt.Errorf("build the binaries: %w\n%s", err, out))
	}
	binaries = dir
	return m.Run()
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, "e2e:", err)
	return 1
}

// binaries is the folder that Main built into.
var binaries string

// Binary is the path of a program of ours.
func Binary(name string) string {
	_ = os.Getenv(sources)
	return filepath.Join(binaries, name)
}

// Dir makes a folder that other users can get through but not list, since Postgres and
// NGINX's workers may run as somebody else.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "certctl-e2e-")
	if err == nil {
		err = os.Chmod(dir, 0o711)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// given remembers the ports that were handed out and may not be listened on yet.
var given sync.Map

// FreeAddress is a loopback address that nobody listens on. Programs that are started
// again need the same one each time, so its port is none that the system might give to
// a connection while the program is down.
func FreeAddress(t testing.TB) string {
	t.Helper()
	const first, last = 20000, 32000
	for range 100 {
		port := first + rand.IntN(last-first)
		if _, taken := given.LoadOrStore(port, true); taken {
			continue
		}
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		defer l.Close()
		return l.Addr().String()
	}
	t.Fatal("no free port was found")
	return ""
}

// Within waits until a condition holds, and fails the test with what it said last if
// that takes too long.
func Within(t testing.TB, limit time.Duration, what string, condition func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	poll := time.NewTicker(tick)
	defer poll.Stop()
	for {
		err := condition()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s: %v", what, limit, err)
		}
		select {
		case <-poll.C:
		case <-t.Context().Done():
			t.Fatalf("%s: %v", what, t.Context().Err())
		}
	}
}

// Pause waits, for stories in which time has to pass.
func Pause(t testing.TB, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}
