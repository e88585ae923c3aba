package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/certctl/certctl/contracts/httpapi/client"
	"github.com/certctl/certctl/e2e/internal/rig"
)

// TestFullDisk_LeavesTheOldCertificateServed renews a certificate onto a disk that has
// no room for it.
func TestFullDisk_LeavesTheOldCertificateServed(t *testing.T) {
	in := rig.Up(t, rig.Dir(t), "CERTCTL_LOG_LEVEL=warn", "CERTCTL_DEPLOYMENT_RETRY_BASE=100ms", "CERTCTL_DEPLOYMENT_MAX_ATTEMPTS=2")
	const name = "www.e2e.test"
	folder := filepath.Join(in.Dir, "nginx", "tls", name)
	fill, free, says := disk(t, folder)
	agent := in.Enrol("host", "site-local", in.LeafURL, "CERTCTL_LOG_LEVEL=warn")
	nginx := rig.StartNGINX(t, in.Dir, "nginx", name)
	target := in.Target(agent, nginx.Sites[0])
	created := rig.Must[client.Certificate](t)(in.CreateCertificate(t.Context(), client.CertificateCreate{
		CommonName: name, TargetIds: &[]string{target.ID},
	}))
	first := in.Active(t, created.ID, "")
	before := content(t, folder)

	fill()
	rig.Must[client.RenewalTriggered](t)(in.RenewCertificate(t.Context(), created.ID, client.CertificateRenew{}))
	failed := in.Failed(t, created.ID)
	if reason := rig.Value(failed.StatusReason); !strings.Contains(reason, says) {
		t.Errorf("the reason does not say %q: %s", says, reason)
	}
	if got := nginx.Sites[0].Fingerprint(t); got != rig.Value(first.FingerprintSha256) {
		t.Errorf("%s is served instead of the old certificate", got)
	}
	free()
	for file, was := range before {
		if is := content(t, folder)[file]; is != was {
			t.Errorf("%s has changed", file)
		}
	}
	if n := len(content(t, folder)); n != len(before) {
		t.Errorf("there are %d files, before there were %d", n, len(before))
	}

	rig.Must[client.RenewalTriggered](t)(in.RenewCertificate(t.Context(), created.ID, client.CertificateRenew{}))
	second := in.Active(t, created.ID, rig.Value(first.FingerprintSha256))
	if got := nginx.Sites[0].Fingerprint(t); got != rig.Value(second.FingerprintSha256) {
		t.Errorf("when there was room again %s is served, the record says %s", got, rig.Value(second.FingerprintSha256))
	}
}

// disk makes a folder a small disk of its own, which can be filled up and freed. For an
// ordinary user, who cannot have one, it is a folder that can be shut; says is what the
// system then calls the trouble.
func disk(t *testing.T, folder string) (fill, free func(), says string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(folder, 0o755)) //nolint:gosec // NGINX's workers run as somebody else
	if err := syscall.Mount("none", folder, "tmpfs", 0, "size=256k,mode=755"); err != nil {
		if os.Geteuid() == 0 {
			// Permissions do not bind root; what cannot be changed does.
			t.Logf("no small disk (%v): the folder is mounted over by nothing, so NGINX's files are shut by their attribute", err)
		}
		return func() { must(os.Chmod(folder, 0o555)) }, //nolint:gosec // as above
			func() { must(os.Chmod(folder, 0o755)) }, syscall.EACCES.Error() //nolint:gosec // as above
	}
	t.Cleanup(func() { _ = syscall.Unmount(folder, syscall.MNT_DETACH) })
	ballast := filepath.Join(folder, "ballast")
	fill = func() {
		f, err := os.Create(ballast)
		must(err)
		defer f.Close()
		for err == nil {
			_, err = f.Write(make([]byte, 4096))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
	return fill, func() { must(os.Remove(ballast)) }, syscall.ENOSPC.Error()
}

func content(t *testing.T, folder string) map[string]string {
	t.Helper()
	files := map[string]string{}
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(folder, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = string(text)
	}
	return files
}
