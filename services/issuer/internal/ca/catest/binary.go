package catest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Binary finds the server of a real CA where make builds it, else on PATH.
func Binary(t testing.TB, name string) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		path := filepath.Join(dir, ".bin", name)
		if info, err := os.Stat(path); err == nil && info.Mode()&0o111 != 0 {
			return path
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatal(name + " is not there; make authorities builds it")
	}
	return path
}
