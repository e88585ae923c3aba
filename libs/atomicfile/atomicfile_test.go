package atomicfile

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// writerVariable names the file that the test binary, started again, writes until it is
// killed.
const writerVariable = "ATOMICFILE_WRITER"

func TestMain(m *testing.M) {
	if path := os.Getenv(writerVariable); path != "" {
		writeUntilKilled(path)
	}
	os.Exit(m.Run())
}

func writeUntilKilled(path string) {
	for n := byte(0); ; n++ {
		if err := Write(path, content(n), 0o600); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

// content is as long as its first byte says, and made of that byte alone.
func content(n byte) []byte { return bytes.Repeat([]byte{n}, 1+int(n)*257) }

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := []string{}
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func TestWrite_ReplacesContentAndMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	for _, c := range []struct {
		text string
		mode fs.FileMode
	}{{"a long first text", 0o644}, {"short", 0o600}, {"", 0o400}, {"after a read-only one", 0o600}} {
		if err := Write(path, []byte(c.text), c.mode); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != c.text {
			t.Errorf("read %q, %v; want %q", got, err, c.text)
		}
		if info, err := os.Stat(path); err != nil || info.Mode() != c.mode {
			t.Errorf("mode %v, %v; want %v", info.Mode(), err, c.mode)
		}
	}
	if left := names(t, filepath.Dir(path)); len(left) != 1 {
		t.Errorf("the folder holds %q", left)
	}
}

func TestWrite_ThatFailsLeavesWhatWasThereAndNothingElse(t *testing.T) {
	dir := t.TempDir()
	occupied := filepath.Join(dir, "occupied")
	if err := os.MkdirAll(filepath.Join(occupied, "child"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Write(occupied, []byte("x"), 0o600); err == nil || !strings.Contains(err.Error(), occupied) {
		t.Errorf("a folder was replaced, or the error does not name it: %v", err)
	}
	if left := names(t, dir); len(left) != 1 {
		t.Errorf("the folder holds %q", left)
	}
	if err := Write(filepath.Join(dir, "no", "such", "folder"), []byte("x"), 0o600); err == nil {
		t.Error("a file was written into a folder that does not exist")
	}
}

func TestWrite_LetsAReaderSeeOnlyWholeContents(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	if err := Write(path, content(0), 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		for n := range byte(200) {
			if err := Write(path, content(n), 0o600); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for {
		whole(t, path)
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			return
		default:
		}
	}
}

func whole(t *testing.T, path string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || len(got) == 0 || !bytes.Equal(got, content(got[0])) {
		t.Fatalf("%d bytes that were never written as a whole, %v", len(got), err)
	}
}

// TestWrite_SurvivesAKilledWriter kills a writer at ten moments and sweeps up behind it.
func TestWrite_SurvivesAKilledWriter(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	for round := range 10 {
		if err := Remove(path); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), writerVariable+"="+path)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		appears(t, path)
		for range round * 50 {
			whole(t, path)
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		whole(t, path)
		if err := Sweep(dir); err != nil {
			t.Fatal(err)
		}
		if left := names(t, dir); len(left) != 1 {
			t.Errorf("round %d: the folder holds %q", round, left)
		}
	}
}

func appears(t *testing.T, path string) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for {
		if _, err := os.Stat(path); err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s was not written", path)
		}
	}
}

func TestRename_MovesOverWhatIsThere(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	for _, path := range []string{from, to} {
		if err := Write(path, []byte(filepath.Base(path)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := Rename(from, to); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(to); err != nil || string(got) != "from" {
		t.Errorf("read %q, %v", got, err)
	}
	if err := Rename(from, to); err == nil {
		t.Error("a file that is gone was moved")
	}
}

func TestRemove_TakesAbsenceForSuccessAndNothingElse(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	if err := Write(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := Remove(path); err != nil {
			t.Error(err)
		}
	}
	if left := names(t, dir); len(left) != 0 {
		t.Errorf("the folder holds %q", left)
	}
	if err := Write(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Remove(filepath.Join(path, "below a file")); err == nil {
		t.Error("a path that cannot be was removed")
	}
}

func TestSweep_LeavesWhatIsNotItsOwn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "site [1]*")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{".new-123", ".new-abc", "new-1", "state.new-1", ".newer"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := Sweep(dir); err != nil {
		t.Fatal(err)
	}
	if left := strings.Join(names(t, dir), " "); left != ".newer new-1 state.new-1" {
		t.Errorf("left are %s", left)
	}
	if err := Sweep(filepath.Join(dir, "absent")); err != nil {
		t.Errorf("a folder that is not there: %v", err)
	}
}
