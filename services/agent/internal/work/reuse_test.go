package work_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/libs/x509x"
)

// keyOf is the hash of the key that a deployment's certificate is for.
func keyOf(t *testing.T, d command.Deploy) string {
	t.Helper()
	certs, err := x509x.ParseCertificates([]byte(d.PEMChain))
	if err != nil {
		t.Fatal(err)
	}
	return x509x.SPKIHash(certs[0].RawSubjectPublicKeyInfo)
}

// keyFiles are the names of the keys that the worker has.
func (b *bench) keyFiles() (names []string) {
	b.t.Helper()
	entries, err := os.ReadDir(filepath.Join(b.dir, "keys"))
	if err != nil {
		b.t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func (b *bench) deployed(job string, d command.Deploy) {
	b.t.Helper()
	if r := b.do(b.order(command.VerbDeploy, job, 1, d)); r.Outcome != command.OutcomeCompleted {
		b.t.Fatalf("%s: %+v", job, r)
	}
}

func TestRenewal_HasANewKeyUnlessTheOrderAsksForTheOneBefore(t *testing.T) {
	b := newBench(t)
	first := b.request("job-i-1")
	b.deployed("job-d-1", first)
	again := b.requestAgain("job-i-2", keyOf(t, first))
	if keyOf(t, again) != keyOf(t, first) {
		t.Error("the order asked for the key before, and got another")
	}
	if d := cmp.Diff([]string{"mc-1.key"}, b.keyFiles()); d != "" {
		t.Errorf("keys:\n%s", d)
	}
	b.open()
	b.deployed("job-d-2", again)
	if d := cmp.Diff([]string{"mc-1.key"}, b.keyFiles()); d != "" {
		t.Errorf("keys after it was installed:\n%s", d)
	}
	if d := cmp.Diff([]string{first.FingerprintSHA256, again.FingerprintSHA256}, b.target.deployed); d != "" {
		t.Error(d)
	}
	other := b.request("job-i-3")
	if keyOf(t, other) == keyOf(t, first) {
		t.Error("the order asked for no key, and got the one before")
	}
}

func TestKeyRequest_ForAKeyThatIsNotAtHandMakesANewOne(t *testing.T) {
	b := newBench(t)
	first := b.request("job-i-1")
	b.deployed("job-d-1", first)
	hash := keyOf(t, first)
	if err := os.WriteFile(filepath.Join(b.dir, "keys", "mc-1.key"), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	damaged := b.requestAgain("job-i-2", hash)
	never := b.requestAgain("job-i-3", strings.Repeat("0", 64))
	if keyOf(t, damaged) == hash || keyOf(t, never) == hash || keyOf(t, never) == keyOf(t, damaged) {
		t.Error("a key was used that nobody asked for")
	}
	b.deployed("job-d-3", never)
}

func TestKeyRequest_ForAKeyGoesBackToOneThatWasReplaced(t *testing.T) {
	b := newBench(t)
	first := b.request("job-i-1")
	b.deployed("job-d-1", first)
	b.deployed("job-d-2", b.request("job-i-2"))
	again := b.requestAgain("job-i-3", keyOf(t, first))
	if keyOf(t, again) != keyOf(t, first) {
		t.Error("got another key")
	}
	b.deployed("job-d-3", again)
}
