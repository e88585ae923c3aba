package secret_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/certctl/certctl/libs/secret"
)

func TestSealer_UnsealsWhatItSealed(t *testing.T) {
	s := secret.New(secret.NewKey())
	rapid.Check(t, func(t *rapid.T) {
		plain := rapid.SliceOf(rapid.Byte()).Draw(t, "plain")
		aad := rapid.SliceOf(rapid.Byte()).Draw(t, "aad")
		sealed := seal(t, s, plain, aad)
		got, err := s.Unseal(sealed, aad)
		if err != nil || !bytes.Equal(plain, got) {
			t.Fatalf("got %x, %v", got, err)
		}
	})
}

type fataler interface{ Fatal(...any) }

func seal(t fataler, s *secret.Sealer, plain, aad []byte) []byte {
	sealed, err := s.Seal(plain, aad)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func TestSealer_NoticesAnyAlteration(t *testing.T) {
	s := secret.New(secret.NewKey())
	sealed := seal(t, s, []byte("ca key"), []byte("iss-local"))
	for i := range sealed {
		altered := bytes.Clone(sealed)
		altered[i] ^= 1
		if _, err := s.Unseal(altered, []byte("iss-local")); !errors.Is(err, secret.ErrCorrupt) && !errors.Is(err, secret.ErrKey) {
			t.Errorf("byte %d altered: err = %v", i, err)
		}
		if _, err := s.Unseal(sealed[:i], []byte("iss-local")); !errors.Is(err, secret.ErrCorrupt) {
			t.Errorf("cut to %d bytes: err = %v", i, err)
		}
	}
	if _, err := s.Unseal(sealed, []byte("iss-other")); !errors.Is(err, secret.ErrCorrupt) {
		t.Errorf("under other additional data: err = %v", err)
	}
}

func TestSealer_SealsTheSameTwiceInDifferentForms(t *testing.T) {
	s := secret.New(secret.NewKey())
	if bytes.Equal(seal(t, s, []byte("x"), nil), seal(t, s, []byte("x"), nil)) {
		t.Error("a nonce was used twice")
	}
}

func TestSealer_RotatesItsKey(t *testing.T) {
	oldKey, newKey := secret.NewKey(), secret.NewKey()
	before := seal(t, secret.New(oldKey), []byte("v"), nil)
	during := secret.New(newKey, oldKey)

	if got, err := during.Unseal(before, nil); err != nil || string(got) != "v" {
		t.Errorf("with both keys: %q, %v", got, err)
	}
	after := seal(t, during, []byte("v"), nil)
	if during.Current(before) || !during.Current(after) {
		t.Error("Current does not tell which values need sealing again")
	}
	if _, err := secret.New(newKey).Unseal(after, nil); err != nil {
		t.Errorf("sealed during rotation: %v", err)
	}
	if _, err := secret.New(newKey).Unseal(before, nil); !errors.Is(err, secret.ErrKey) {
		t.Errorf("after the old key is dropped: err = %v, want ErrKey", err)
	}
}

func TestKey_DoesNotPrint(t *testing.T) {
	k := secret.NewKey()
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		if got := fmt.Sprintf(format, k); got != "[sealing key]" {
			t.Errorf("%s prints %q", format, got)
		}
	}
}

func TestLoadOrCreateKey_MakesAPrivateFileOnceAndKeepsIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys", "sealing.key")
	first, err := secret.LoadOrCreateKey(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != 0o600 {
		t.Errorf("mode = %04o, want 0600", got)
	}
	second, err := secret.LoadOrCreateKey(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := second.Unseal(seal(t, first, []byte("v"), nil), nil); err != nil {
		t.Errorf("the second start has another key: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".sealing-*")); len(left) > 0 {
		t.Errorf("temporary files are left: %v", left)
	}
}

func TestLoadOrCreateKey_GivesAllWhoStartAtOnceTheSameKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sealing.key")
	sealers := make([]*secret.Sealer, 16)
	var wg sync.WaitGroup
	for i := range sealers {
		wg.Go(func() {
			s, err := secret.LoadOrCreateKey(path)
			if err != nil {
				t.Error(err)
				return
			}
			sealers[i] = s
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	sealed := seal(t, sealers[0], []byte("v"), nil)
	for i, s := range sealers {
		if _, err := s.Unseal(sealed, nil); err != nil {
			t.Errorf("sealer %d: %v", i, err)
		}
	}
}

func TestOpen_RefusesAFileThatOthersMayRead(t *testing.T) {
	path := writeKeyFile(t, secret.NewKey())
	for mode, want := range map[fs.FileMode]bool{0o600: true, 0o400: true, 0o644: false, 0o604: false, 0o660: false} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := secret.Open(path)
		if (err == nil) != want {
			t.Errorf("mode %04o: err = %v", mode, err)
		}
		if !want && err != nil && !strings.Contains(err.Error(), "chmod") {
			t.Errorf("mode %04o: err = %q does not say what to do", mode, err)
		}
	}
}

func TestOpen_ReadsSeveralKeys(t *testing.T) {
	oldKey, newKey := secret.NewKey(), secret.NewKey()
	s, err := secret.Open(writeKeyFile(t, newKey, oldKey))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Unseal(seal(t, secret.New(oldKey), []byte("v"), nil), nil); err != nil {
		t.Errorf("the older key is not held: %v", err)
	}
	if !s.Current(seal(t, secret.New(newKey), []byte("v"), nil)) {
		t.Error("the first key of the file is not the current one")
	}
}

func TestOpen_RefusesWhatIsNoKeyFile(t *testing.T) {
	tests := map[string]string{
		"empty":     "",
		"comment":   "# nothing\n",
		"short key": base64.StdEncoding.EncodeToString(make([]byte, 16)),
		"not text":  "\x00\x01\x02",
		"huge":      strings.Repeat("#", 17<<10),
	}
	for name, content := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "k")
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := secret.Open(path); err == nil {
				t.Error("accepted")
			}
			if _, err := secret.LoadOrCreateKey(path); err == nil {
				t.Error("a broken key file was passed over")
			}
		})
	}
	if _, err := secret.Open(t.TempDir()); err == nil {
		t.Error("a directory was accepted")
	}
	if _, err := secret.Open(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: err = %v", err)
	}
}

func writeKeyFile(t *testing.T, keys ...secret.Key) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("# sealing keys, the current one first\n")
	for _, k := range keys {
		b.WriteString(base64.StdEncoding.EncodeToString(k[:]) + "\n")
	}
	path := filepath.Join(t.TempDir(), "sealing.key")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
