package install

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/certctl/certctl/services/agent/internal/process"
	"github.com/certctl/certctl/services/agent/internal/target"
)

const somePEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"

func put(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func link(t *testing.T, to, path string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPlaces_RefuseWhatWouldHarmTheHost(t *testing.T) {
	dir := t.TempDir()
	inside := filepath.Join(dir, "tls")
	places := Places{Roots: []string{inside}, Private: []string{filepath.Join(inside, "agent")}}
	outside := put(t, filepath.Join(dir, "elsewhere", "cert.pem"), somePEM)
	put(t, filepath.Join(inside, "agent", "agent.nk"), somePEM)
	fifo := filepath.Join(inside, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct{ path, want string }{
		"relative":                     {"tls/cert.pem", "not absolute"},
		"with a detour":                {inside + "/../elsewhere/cert.pem", "not absolute and clean"},
		"outside":                      {outside, "outside the folders"},
		"a link outside":               {link(t, outside, filepath.Join(inside, "link.pem")), "outside the folders"},
		"a folder that leads out":      {link(t, filepath.Dir(outside), filepath.Join(inside, "folder")) + "/cert.pem", "outside the folders"},
		"a link to nothing":            {link(t, inside+"/nothing", filepath.Join(inside, "dangling.pem")), "link to nothing"},
		"no folder":                    {inside + "/no/cert.pem", "the folder of"},
		"a folder":                     {filepath.Join(inside, "agent"), "not a file"},
		"a pipe":                       {fifo, "not a file"},
		"the agent's own":              {filepath.Join(inside, "agent", "agent.nk"), "nothing is installed under"},
		"another kind of file":         {put(t, filepath.Join(inside, "passwd"), "root:x:0:0::/:/bin/sh\n"), "something else"},
		"the root folder":              {inside, "outside the folders"},
		"a sibling with a longer name": {put(t, filepath.Join(dir, "tls2", "cert.pem"), somePEM), "outside the folders"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			at, err := places.locate(tt.path)
			if err == nil {
				at.dir.Close()
				t.Fatalf("%s was accepted", tt.path)
			}
			if !strings.Contains(err.Error(), tt.want) || !target.AsError(err).Permanent {
				t.Errorf("error = %v, want a permanent one with %q", err, tt.want)
			}
		})
	}
}

func TestPlaces_FollowLinksWithinTheirFolders(t *testing.T) {
	dir := t.TempDir()
	file := put(t, filepath.Join(dir, "archive", "cert1.pem"), somePEM)
	path := link(t, "../archive/cert1.pem", filepath.Join(dir, "live", "cert.pem"))
	at, err := Places{Roots: []string{dir}}.locate(path)
	if err != nil {
		t.Fatal(err)
	}
	defer at.dir.Close()
	if want, err := filepath.EvalSymlinks(file); err != nil || at.path != want {
		t.Errorf("resolved to %s, want %s (%v)", at.path, want, err)
	}
}

// memory is a progress that can end the installation that saves, as a crash would.
type memory struct {
	state  json.RawMessage
	saved  int
	stopAt int
}

func (m *memory) Load() json.RawMessage { return m.state }

func (m *memory) Save(state json.RawMessage) error {
	m.state = state
	if m.saved++; m.saved == m.stopAt {
		runtime.Goexit()
	}
	return nil
}

// plan replaces one certificate and one key; its server never answers, so everything
// is put back.
func plan(cert, key, other string) Plan {
	nothing := process.Command{Path: "/bin/true"}
	return Plan{
		Files: []File{
			{Path: cert, Data: []byte("new certificate")},
			{Path: key, Data: []byte("new key"), Secret: true},
			{Path: other, Data: []byte("new chain")},
		},
		Test: nothing, Reload: process.Command{Path: "/bin/false"}, Address: "127.0.0.1:1", Fingerprint: "00",
	}
}

func TestInstall_KeepsOwnerAndModeAndPutsEverythingBack(t *testing.T) {
	dir := t.TempDir()
	cert, key := put(t, filepath.Join(dir, "cert.pem"), somePEM), put(t, filepath.Join(dir, "key.pem"), somePEM)
	other := filepath.Join(dir, "chain.pem")
	owner := os.Getuid()
	if owner == 0 {
		owner = 65534
	}
	for path, mode := range map[string]os.FileMode{cert: 0o640, key: 0o644} {
		if err := os.Chown(path, owner, -1); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	// The server sees the new files when it is asked to reload.
	seen := filepath.Join(dir, "seen")
	script := put(t, filepath.Join(dir, "reload"), "#!/bin/sh\n[ -e "+seen+" ] || stat -c '%n %u %a' "+strings.Join([]string{cert, key, other}, " ")+
		" > "+seen+"\nexit 1\n")
	if err := os.Chmod(script, 0o755); err != nil {
		t.Fatal(err)
	}
	p := plan(cert, key, other)
	p.Reload = process.Command{Path: script}
	_, err := Installer{}.Install(t.Context(), p, &memory{})
	if err == nil || target.AsError(err).State != target.Restored {
		t.Fatalf("install = %v", err)
	}
	got, readErr := os.ReadFile(seen)
	if readErr != nil {
		t.Fatal(readErr)
	}
	self := os.Getuid()
	want := strings.Join([]string{
		cert + " " + strconv.Itoa(owner) + " 640", key + " " + strconv.Itoa(owner) + " 640", other + " " + strconv.Itoa(self) + " 644", "",
	}, "\n")
	if string(got) != want {
		t.Errorf("while they were in place:\n%swant:\n%s", got, want)
	}
	for _, path := range []string{cert, key} {
		if text, err := os.ReadFile(path); err != nil || string(text) != somePEM {
			t.Errorf("%s holds %q, %v", path, text, err)
		}
	}
	if info, err := os.Stat(key); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("the old key is back as %v, %v", info.Mode(), err)
	}
	if _, err := os.Stat(other); !os.IsNotExist(err) {
		t.Errorf("the chain, which was not there, is: %v", err)
	}
}

func TestInstall_SaysThatNothingCouldBeReloaded(t *testing.T) {
	dir := t.TempDir()
	start := time.Now()
	_, err := Installer{}.Install(t.Context(), plan(dir+"/cert.pem", dir+"/key.pem", dir+"/chain.pem"), &memory{})
	if err == nil || !strings.Contains(err.Error(), "the reload failed") || !strings.Contains(err.Error(), "could not be reloaded") {
		t.Errorf("install = %v", err)
	}
	if time.Since(start) > 5*time.Second {
		t.Error("a reload that failed was waited for")
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestInstall_RefusesTwoFilesInOnePlace(t *testing.T) {
	dir := t.TempDir()
	path := put(t, filepath.Join(dir, "cert.pem"), somePEM)
	_, err := Installer{}.Install(t.Context(), plan(path, link(t, path, filepath.Join(dir, "key.pem")), dir+"/chain.pem"), &memory{})
	if err == nil || !strings.Contains(err.Error(), "two files") || !target.AsError(err).Permanent {
		t.Errorf("install = %v", err)
	}
}

func TestInstall_TakenUpLateLeavesANewerOneAlone(t *testing.T) {
	dir := t.TempDir()
	cert, key, other := put(t, filepath.Join(dir, "cert.pem"), somePEM), put(t, filepath.Join(dir, "key.pem"), somePEM), filepath.Join(dir, "chain.pem")
	cutOff := &memory{stopAt: 2}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = Installer{}.Install(t.Context(), plan(cert, key, other), cutOff)
	}()
	<-ended
	newer := somePEM + somePEM
	for _, path := range []string{cert, key, other} {
		put(t, path, newer)
	}
	cutOff.stopAt = 0
	_, err := Installer{}.Install(t.Context(), plan(cert, key, other), cutOff)
	if err == nil || !strings.Contains(err.Error(), "somebody else") {
		t.Errorf("install = %v", err)
	}
	for _, path := range []string{cert, key, other} {
		if text, err := os.ReadFile(path); err != nil || string(text) != newer {
			t.Errorf("%s holds %q, %v", path, text, err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
