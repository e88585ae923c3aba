package e2e

import (
	"testing"

	"github.com/certctl/certctl/contracts/httpapi/client"
	"github.com/certctl/certctl/e2e/internal/rig"
	"github.com/certctl/certctl/libs/x509x"
)

// TestKey_IsKeptOverARenewalOnlyWhileTheProfileSaysSo renews a certificate on a host with
// the key that is there, then with a new one, and sees each time what NGINX serves.
func TestKey_IsKeptOverARenewalOnlyWhileTheProfileSaysSo(t *testing.T) {
	t.Parallel()
	in := rig.Up(t, rig.Dir(t), "CERTCTL_LOG_LEVEL=warn")
	agent := in.Enrol("host", "site-local", in.LeafURL, "CERTCTL_LOG_LEVEL=warn")
	nginx := rig.StartNGINX(t, in.Dir, "nginx", "pinned.e2e.test")
	target := in.Target(agent, nginx.Sites[0])
	pinned := rig.Must[client.Profile](t)(in.CreateProfile(t.Context(), client.ProfileCreate{
		Name: "Pinned", Enabled: new(true), ReuseKey: new(true),
	}))
	created := rig.Must[client.Certificate](t)(in.CreateCertificate(t.Context(), client.CertificateCreate{
		CommonName: nginx.Sites[0].Name, TargetIds: &[]string{target.ID}, CertificateProfileID: &pinned.ID,
	}))
	served := ""
	// renewed waits until another version is served, and returns the hash of its key.
	renewed := func() string {
		t.Helper()
		served = rig.Value(in.Active(t, created.ID, served).FingerprintSha256)
		if got := nginx.Sites[0].Fingerprint(t); got != served {
			t.Errorf("NGINX serves %s, want %s", got, served)
		}
		versions := rig.Must[client.CertificateVersionList](t)(in.ListCertificateVersions(t.Context(), created.ID, nil))
		certs, err := x509x.ParseCertificates([]byte(versions.Data[0].PemChain))
		if err != nil || versions.Data[0].FingerprintSha256 != served {
			t.Fatalf("the newest version is %s: %v", versions.Data[0].FingerprintSha256, err)
		}
		return x509x.SPKIHash(certs[0].RawSubjectPublicKeyInfo)
	}
	first := renewed()
	rig.Must[client.RenewalTriggered](t)(in.RenewCertificate(t.Context(), created.ID, client.CertificateRenew{}))
	if second := renewed(); second != first {
		t.Error("the key changed")
	}
	rig.Must[client.Profile](t)(in.UpdateProfile(t.Context(), pinned.ID, nil, client.ProfileUpdate{ReuseKey: new(false)}))
	rig.Must[client.RenewalTriggered](t)(in.RenewCertificate(t.Context(), created.ID, client.CertificateRenew{}))
	if third := renewed(); third == first {
		t.Error("the key is the same, though the profile no longer says so")
	}
}
