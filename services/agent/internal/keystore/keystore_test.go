package keystore_test

import (
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/agent/internal/keystore"
)

func open(t *testing.T) (*keystore.Store, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "keys")
	s, err := keystore.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s, dir
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func makeKey(t *testing.T, s *keystore.Store, job string, attempt int) keystore.Key {
	t.Helper()
	key, err := s.Make("mc-1", job, attempt, keystore.Spec{})
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestKeystore_MakesTheKindsOfKeysThatAreOrdered(t *testing.T) {
	s, dir := open(t)
	tests := []struct {
		spec      keystore.Spec
		algorithm string
		bits      int
	}{
		{keystore.Spec{}, x509x.ECDSA, 256},
		{keystore.Spec{Algorithm: "ECDSA", Bits: 256}, x509x.ECDSA, 256},
		{keystore.Spec{Algorithm: "ECDSA", Bits: 384}, x509x.ECDSA, 384},
		{keystore.Spec{Algorithm: "RSA"}, x509x.RSA, 2048},
		{keystore.Spec{Algorithm: "Ed25519"}, x509x.Ed25519, 256},
	}
	for i, tt := range tests {
		key, err := s.Make("mc-1", "job-i-1", i+1, tt.spec)
		if err != nil {
			t.Fatalf("%+v: %v", tt.spec, err)
		}
		algorithm, bits, _ := x509x.KeyAlgorithm(key.Signer.Public())
		if algorithm != tt.algorithm || bits != tt.bits {
			t.Errorf("%+v made %s %d", tt.spec, algorithm, bits)
		}
	}
	for _, name := range names(t, dir) {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v", name, info.Mode(), err)
		}
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder has mode %v, %v", info.Mode(), err)
	}
}

func TestKeystore_RefusesKindsThatDoNotExist(t *testing.T) {
	s, dir := open(t)
	for _, spec := range []keystore.Spec{
		{Algorithm: "DSA"}, {Algorithm: "ECDSA", Bits: 224}, {Algorithm: "RSA", Bits: 1024}, {Algorithm: "RSA", Bits: 65536},
	} {
		if _, err := s.Make("mc-1", "job-i-1", 1, spec); fault.CodeOf(err) != fault.Invalid {
			t.Errorf("%+v: %v", spec, err)
		}
	}
	for _, id := range []string{"../mc-1", "", "a.b", "/etc/x"} {
		if _, err := s.Make(id, "job-i-1", 1, keystore.Spec{}); fault.CodeOf(err) != fault.Invalid {
			t.Errorf("certificate %q: %v", id, err)
		}
		if _, err := s.Find(id, nil); fault.CodeOf(err) != fault.Invalid {
			t.Errorf("find certificate %q: %v", id, err)
		}
	}
	if left := names(t, dir); len(left) > 0 {
		t.Errorf("made %v", left)
	}
}

func TestKeystore_MakesOneKeyForOneAttempt(t *testing.T) {
	s, dir := open(t)
	first := makeKey(t, s, "job-i-1", 1)
	again, err := keystore.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first.PEM, makeKey(t, again, "job-i-1", 1).PEM); diff != "" {
		t.Error("the same attempt made another key")
	}
	if slices.Equal(first.PEM, makeKey(t, s, "job-i-1", 2).PEM) {
		t.Error("another attempt did not make another key")
	}
}

func TestKeystore_LeavesTheKeyInUseAloneUntilTheNextIsDeployed(t *testing.T) {
	s, dir := open(t)
	used := makeKey(t, s, "job-i-1", 1)
	if err := s.Promote("mc-1", used); err != nil {
		t.Fatal(err)
	}
	next := makeKey(t, s, "job-i-2", 1)
	for _, want := range []keystore.Key{used, next} {
		got, err := s.Find("mc-1", want.Signer.(*ecdsa.PrivateKey).Public())
		if err != nil || !slices.Equal(got.PEM, want.PEM) {
			t.Fatalf("find: %v", err)
		}
	}
	if diff := cmp.Diff([]string{"mc-1.key", "mc-1.key.job-i-2-1"}, names(t, dir)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	found, err := s.Find("mc-1", next.Signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Promote("mc-1", found); err != nil {
			t.Fatal(err)
		}
		if found, err = s.Find("mc-1", next.Signer.Public()); err != nil {
			t.Fatal(err)
		}
	}
	if got := names(t, dir); len(got) != 2 || got[0] != "mc-1.key" || !strings.HasPrefix(got[1], "mc-1.previous.") {
		t.Errorf("files %v", got)
	}
}

func TestKeystore_FindsTheKeysOfTheLastThreeCertificatesAgain(t *testing.T) {
	s, dir := open(t)
	var keys []keystore.Key
	for i := range 6 {
		key := makeKey(t, s, fmt.Sprintf("job-i-%d", i), 1)
		if err := s.Promote("mc-1", key); err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
		age(t, dir)
	}
	find := func(i int) (keystore.Key, error) { return s.Find("mc-1", keys[i].Signer.Public()) }
	for i, kept := range []bool{false, false, true, true, true, true} {
		if key, err := find(i); kept != (err == nil) || kept && !slices.Equal(key.PEM, keys[i].PEM) {
			t.Errorf("key %d: %v", i, err)
		}
	}
	if _, err := find(0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an old key: %v", err)
	}
	// Back to an older one, and forward again: both stay.
	for _, i := range []int{2, 5, 2} {
		key, err := find(i)
		if err != nil {
			t.Fatalf("key %d: %v", i, err)
		}
		if err := s.Promote("mc-1", key); err != nil {
			t.Fatal(err)
		}
		age(t, dir)
		active, err := os.ReadFile(filepath.Join(dir, "mc-1.key"))
		if err != nil || !slices.Equal(active, keys[i].PEM) {
			t.Errorf("key %d is not in use: %v", i, err)
		}
	}
	for _, name := range names(t, dir) {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v", name, info.Mode(), err)
		}
	}
}

// age makes all files a second older, since those made within the clock's grain would have
// no order.
func age(t *testing.T, dir string) {
	t.Helper()
	for _, name := range names(t, dir) {
		path := filepath.Join(dir, name)
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		at := info.ModTime().Add(-time.Second)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
}

func TestKeystore_KeepsFewCandidates(t *testing.T) {
	s, dir := open(t)
	var last keystore.Key
	for attempt := 1; attempt <= 7; attempt++ {
		last = makeKey(t, s, "job-i-1", attempt)
		// Files made within the clock's grain would have no order.
		for i, name := range names(t, dir) {
			at := time.Now().Add(time.Duration(i-10) * time.Second)
			if err := os.Chtimes(filepath.Join(dir, name), at, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := []string{"mc-1.key.job-i-1-4", "mc-1.key.job-i-1-5", "mc-1.key.job-i-1-6", "mc-1.key.job-i-1-7"}
	if diff := cmp.Diff(want, names(t, dir)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if err := s.Promote("mc-1", last); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"mc-1.key"}, names(t, dir)); diff != "" {
		t.Errorf("after the newest is in use (-want +got):\n%s", diff)
	}
}

func TestKeystore_ClearsAwayWhatACrashLeft(t *testing.T) {
	_, dir := open(t)
	if err := os.WriteFile(filepath.Join(dir, ".new-123"), []byte("half a key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := keystore.Open(dir); err != nil {
		t.Fatal(err)
	}
	if left := names(t, dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
