package e2e

import (
	"net/http"
	"strings"
	"testing"

	"github.com/certctl/certctl/contracts/httpapi/client"
	"github.com/certctl/certctl/e2e/internal/rig"
	"github.com/certctl/certctl/libs/x509x"
)

// TestSample_ShowsCertificatesInEveryStateAndGoesAgain fills an installation to look
// around in, and empties it.
func TestSample_ShowsCertificatesInEveryStateAndGoesAgain(t *testing.T) {
	t.Parallel()
	in := rig.Up(t, rig.Dir(t), "CERTCTL_LOG_LEVEL=warn")
	for range 2 {
		if out, err := in.Admin("sample-data", "add"); err != nil {
			t.Fatal(out)
		}
		if out, err := in.Admin("sample-data", "add"); err == nil {
			t.Errorf("it was added twice: %s", out)
		}
		all, err := in.Certificates(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		states := map[client.CertificateStatus]int{}
		for _, c := range all {
			states[c.Status]++
		}
		if len(states) != 8 {
			t.Errorf("the states are %v", states)
		}
		versions := rig.Must[client.CertificateVersionList](t)(in.ListCertificateVersions(t.Context(), "mc-sample-00", nil))
		if len(versions.Data) != 3 {
			t.Fatalf("there are %d versions", len(versions.Data))
		}
		chain, err := x509x.ParseCertificates([]byte(versions.Data[0].PemChain))
		if err != nil || x509x.SerialHex(chain[0].SerialNumber) != versions.Data[0].SerialNumber {
			t.Errorf("the newest version holds %v: %v", chain, err)
		}
		for what, list := range map[string]func() (*http.Response, error){
			"policies":         func() (*http.Response, error) { return in.ListPolicies(t.Context(), nil) },
			"violations":       func() (*http.Response, error) { return in.ListViolations(t.Context(), nil) },
			"profiles":         func() (*http.Response, error) { return in.ListProfiles(t.Context(), nil) },
			"renewal policies": func() (*http.Response, error) { return in.ListRenewalPolicies(t.Context(), nil) },
			"agent groups":     func() (*http.Response, error) { return in.ListAgentGroups(t.Context(), nil) },
		} {
			text, err := rig.Raw(list())
			if err != nil || !strings.Contains(string(text), "sample") {
				t.Errorf("the %s are %s, %v", what, text, err)
			}
		}
		in.HoldsUp()
		if out, err := in.Admin("sample-data", "remove"); err != nil {
			t.Fatal(out)
		}
		if all, err = in.Certificates(t.Context()); err != nil || len(all) != 0 {
			t.Errorf("%d certificates are left: %v", len(all), err)
		}
	}
}
