// Package softhsm makes PKCS#11 tokens of software for tests, each in a folder of its own. The module is SoftHSM 2, as
// .setup/softhsm.sh finds or fetches it.
package softhsm

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

const (
	// Label is that of every token.
	Label = "certctl-test"
	// PIN is the user's.
	PIN = "271828"
	// SOPIN is the security officer's.
	SOPIN = "31415926"
)

// Token is a token that was made for a test.
type Token struct {
	// Module is the path of the library, PINFile that of a file with the PIN.
	Module, PINFile string
	// Conf is the path that the library has to find in SOFTHSM2_CONF.
	Conf string

	tool, dir string
}

// New makes a token that is ready to log in to.
func New(t testing.TB) *Token {
	t.Helper()
	dir := t.TempDir()
	k := &Token{
		PINFile: filepath.Join(dir, "pin"), Conf: filepath.Join(dir, "softhsm2.conf"), dir: filepath.Join(dir, "tokens"),
	}
	k.Module, k.tool = find(t)
	if err := os.Mkdir(k.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	// Its complaints would go to the machine's log.
	conf := fmt.Sprintf("directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n", k.dir)
	if err := os.WriteFile(k.Conf, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	k.WritePIN(t, PIN)
	k.Init(t)
	return k
}

// Init makes the token, empty, also where it was taken away.
func (k *Token) Init(t testing.TB) {
	t.Helper()
	k.run(t, "--init-token", "--free", "--label", Label, "--so-pin", SOPIN, "--pin", PIN)
}

// Import puts a private key in PEM (PKCS #8) into the token.
func (k *Token) Import(t testing.TB, path, label, id string) {
	t.Helper()
	k.run(t, "--import", path, "--token", Label, "--label", label, "--id", id, "--pin", PIN)
}

func (k *Token) run(t testing.TB, args ...string) {
	t.Helper()
	command := exec.Command(k.tool, append([]string{"--module", k.Module}, args...)...)
	command.Env = append(os.Environ(), k.Env())
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("softhsm2-util %v: %v\n%s", args, err, out)
	}
}

// Env is what a process that loads the module needs in its environment.
func (k *Token) Env() string { return "SOFTHSM2_CONF=" + k.Conf }

// WritePIN writes another PIN into the file.
func (k *Token) WritePIN(t testing.TB, pin string) {
	t.Helper()
	if err := os.WriteFile(k.PINFile, []byte(pin+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TakeOut takes the token away, as if it were pulled out of its slot. What it returns puts it back.
func (k *Token) TakeOut(t testing.TB) (putBack func()) {
	t.Helper()
	aside := k.dir + ".aside"
	if err := os.Rename(k.dir, aside); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(k.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if err := os.RemoveAll(k.dir); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(aside, k.dir); err != nil {
			t.Fatal(err)
		}
	}
}

// find looks where .setup/softhsm.sh leaves it, above the test's folder, and then where distributions put it.
func find(t testing.TB) (module, tool string) {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	modules, tools := []string{}, []string{}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		modules = append(modules, filepath.Join(dir, ".peers/lib/libsofthsm2.so"))
		tools = append(tools, filepath.Join(dir, ".peers/bin/softhsm2-util"))
	}
	modules = append(modules, "/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so", "/usr/local/lib/softhsm/libsofthsm2.so")
	if path, err := exec.LookPath("softhsm2-util"); err == nil {
		tools = append(tools, path)
	}
	if module, tool = first(modules), first(tools); module == "" || tool == "" {
		t.Fatal("SoftHSM 2 is not there; make peers finds or fetches it")
	}
	return module, tool
}

func first(paths []string) string {
	for _, path := range paths {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return ""
}
