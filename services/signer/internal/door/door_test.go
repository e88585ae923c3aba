package door_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certctl/certctl/services/signer/internal/door"
)

// A socket's path may have some hundred bytes, and a test's own folder is named for the test.
func socket(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "door-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

func open(t *testing.T, path string, uid int) (*door.Door, error) {
	t.Helper()
	d, err := door.Open(t.Context(), path, uid, slog.New(slog.DiscardHandler))
	if err == nil {
		t.Cleanup(func() { _ = d.Close() })
	}
	return d, err
}

// greet answers whoever is admitted.
func greet(d *door.Door) {
	for {
		c, err := d.Accept()
		if err != nil {
			return
		}
		_, _ = io.WriteString(c, "come in")
		_ = c.Close()
	}
}

func knock(t *testing.T, path string) string {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	said, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(said)
}

func TestDoor_AdmitsOneUserAndHangsUpOnOthers(t *testing.T) {
	for uid, want := range map[int]string{os.Geteuid(): "come in", os.Geteuid() + 1: ""} {
		path := socket(t)
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		d := door.Guard(l, uid, slog.New(slog.NewTextHandler(&log, nil)))
		done := make(chan struct{})
		go func() {
			greet(d)
			close(done)
		}()
		if said := knock(t, path); said != want {
			t.Errorf("for user %d: %q, want %q", uid, said, want)
		}
		_ = d.Close()
		<-done
		if (want == "") != strings.Contains(log.String(), "refused") {
			t.Errorf("logged %q", log.String())
		}
	}
}

func TestDoor_IsForItsUserAlone(t *testing.T) {
	path := socket(t)
	if _, err := open(t, path, os.Geteuid()); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("mode %s: %v", info.Mode(), err)
	}
}

func TestDoor_ReplacesWhatACrashLeftAndNothingElse(t *testing.T) {
	path := socket(t)
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	if _, err := open(t, path, os.Geteuid()); err == nil || !strings.Contains(err.Error(), "served by another signer") {
		t.Errorf("one that is served: %v", err)
	}
	_ = left.Close()
	d, err := open(t, path, os.Geteuid())
	if err != nil {
		t.Fatalf("one that was left behind: %v", err)
	}
	_ = d.Close()
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, path, os.Geteuid()); err == nil || !strings.Contains(err.Error(), "is no socket") {
		t.Errorf("a file: %v", err)
	}
	if _, err := open(t, "s", os.Geteuid()); err == nil || !strings.Contains(err.Error(), "absolute") {
		t.Errorf("a relative path: %v", err)
	}
}

const asChild = "DOOR_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(asChild) == "" {
		os.Exit(m.Run())
	}
	d, err := door.Open(context.Background(), "", os.Geteuid(), slog.New(slog.DiscardHandler))
	if err == nil {
		var c net.Conn
		if c, err = d.Accept(); err == nil {
			_, err = io.WriteString(c, "come in")
			err = errors.Join(err, c.Close())
		}
	}
	if err != nil {
		os.Stderr.WriteString(err.Error())
		os.Exit(1)
	}
}

func TestDoor_TakesTheSocketOfSystemd(t *testing.T) {
	path := socket(t)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	// systemd's stays where it is when it is handed over.
	l.SetUnlinkOnClose(false)
	_ = l.Close()
	cmd := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec "$0"`, os.Args[0])
	cmd.Env = append(os.Environ(), asChild+"=1")
	cmd.ExtraFiles = []*os.File{f}
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := errors.Join(cmd.Start(), f.Close()); err != nil {
		t.Fatal(err)
	}
	if got := knock(t, path); got != "come in" {
		t.Errorf("it says %q", got)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v: %s", err, said.String())
	}
}
