package e2e

import (
	"crypto/x509"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/certctl/certctl/contracts/httpapi/client"
	"github.com/certctl/certctl/e2e/internal/rig"
	"github.com/certctl/certctl/libs/x509x"
)

// TestRollover_NobodyWhoTrustsTheOldRootNotices changes the key of the Local CA under a web server, kills the installation
// in the midst of the next change, and has openssl ask about what each key issued where the certificates point.
func TestRollover_NobodyWhoTrustsTheOldRootNotices(t *testing.T) {
	t.Parallel()
	in := rig.NewInstallation(t, rig.Dir(t), "CERTCTL_LOG_LEVEL=warn")
	in.Env = append(in.Env, "CERTCTL_PUBLIC_URL="+in.API.URL)
	in.Start()
	in.Ready()
	agent := in.Enrol("host", "site-local", in.LeafURL, "CERTCTL_LOG_LEVEL=warn")
	site := rig.StartNGINX(t, in.Dir, "nginx", "www.e2e.test").Sites[0]
	target := in.Target(agent, site)
	created := rig.Must[client.Certificate](t)(in.CreateCertificate(t.Context(), client.CertificateCreate{
		CommonName: site.Name, TargetIds: &[]string{target.ID},
	}))
	first := in.Active(t, created.ID, "")
	old := served(t, site)
	oldRoot := caOf(t, in)

	key := rig.Must[client.IssuerKey](t)(in.RollOverIssuer(t.Context(), "iss-local", client.IssuerRollover{
		CrossSign: new(true), CommonName: new("Local CA G2"), KeyAlgorithm: new("ECDSA-P384"),
	}))
	rig.Must[client.RenewalTriggered](t)(in.RenewCertificate(t.Context(), created.ID, client.CertificateRenew{}))
	in.Active(t, created.ID, rig.Value(first.FingerprintSha256))
	renewed := served(t, site)
	newRoot := caOf(t, in)
	if newRoot.Subject.CommonName != "Local CA G2" || renewed[0].Issuer.CommonName != "Local CA G2" || !strings.HasSuffix(renewed[0].OCSPServer[0], "/"+key.ID) {
		t.Errorf("served is a certificate of %s, of OCSP %v; the CA is %s", renewed[0].Issuer, renewed[0].OCSPServer, newRoot.Subject)
	}
	trusted(t, oldRoot, renewed)
	trusted(t, newRoot, renewed)

	// Killed while it is asked for another key, it has made the change or it has not.
	var asked sync.WaitGroup
	asked.Go(func() {
		_, _ = rig.Read[client.IssuerKey](in.RollOverIssuer(t.Context(), "iss-local", client.IssuerRollover{CrossSign: new(true)}))
	})
	in.Kill()
	asked.Wait()
	in.Start()
	in.Ready()
	keys := rig.Must[client.IssuerKeyList](t)(in.ListIssuerKeys(t.Context(), "iss-local"))
	active := 0
	for _, k := range keys.Data {
		if k.Active {
			active++
			newRoot = certificates(t, rig.Value(k.CaChainPem))[0]
		}
	}
	if active != 1 || len(keys.Data) > 3 {
		t.Errorf("%d keys, %d of them active", len(keys.Data), active)
	}
	issue(t, in, "mc-after", "after.e2e.test")
	v := rig.Must[client.CertificateVersionList](t)(in.ListCertificateVersions(t.Context(), "mc-after", nil)).Data[0]
	after := certificates(t, v.PemChain)
	trusted(t, oldRoot, after)
	trusted(t, newRoot, after)

	for name, of := range map[string]struct {
		chain []*x509.Certificate
		by    *x509.Certificate
	}{"old": {old, oldRoot}, "renewed": {renewed, renewedBy(t, keys, key.ID)}, "after": {after, newRoot}} {
		good(t, in, name, of.chain[0], of.by)
	}
}

func certificates(t *testing.T, text string) []*x509.Certificate {
	t.Helper()
	certs, err := x509x.ParseCertificates([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return certs
}

func served(t *testing.T, s *rig.Served) []*x509.Certificate {
	t.Helper()
	chain, err := s.Chain(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return chain
}

func caOf(t *testing.T, in *rig.Installation) *x509.Certificate {
	t.Helper()
	return certificates(t, rig.Value(rig.Must[client.Issuer](t)(in.GetIssuer(t.Context(), "iss-local")).CaChainPem))[0]
}

func renewedBy(t *testing.T, keys client.IssuerKeyList, id string) *x509.Certificate {
	t.Helper()
	for _, k := range keys.Data {
		if k.ID == id {
			return certificates(t, rig.Value(k.CaChainPem))[0]
		}
	}
	t.Fatalf("key %s is gone", id)
	return nil
}

func openssl(t *testing.T, dir string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "openssl", args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func pemFiles(t *testing.T, of map[string][]*x509.Certificate) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, certs := range of {
		if err := os.WriteFile(filepath.Join(dir, name), x509x.EncodeCertificates(certs...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// trusted has openssl verify what is served up to a root.
func trusted(t *testing.T, root *x509.Certificate, chain []*x509.Certificate) {
	t.Helper()
	dir := pemFiles(t, map[string][]*x509.Certificate{"root": {root}, "leaf": chain[:1], "between": chain})
	if out, err := openssl(t, dir, "verify", "-x509_strict", "-CAfile", "root", "-untrusted", "between", "leaf"); err != nil {
		t.Errorf("who trusts %s does not trust %s: %s", root.Subject, chain[0].Subject, out)
	}
}

// good asks where a certificate points, for its issuer, its list and its status.
func good(t *testing.T, in *rig.Installation, name string, leaf, by *x509.Certificate) {
	t.Helper()
	fetch := func(url string) []byte {
		t.Helper()
		id, what := filepath.Base(url), filepath.Base(filepath.Dir(url))
		if !strings.HasPrefix(url, in.API.URL) {
			t.Fatalf("%s points to %s", name, url)
		}
		var body []byte
		rig.Within(t, rig.Patience, url+" is answered", func() (err error) {
			if id == "certificate" {
				body, err = rig.Raw(in.GetCACertificate(t.Context(), what))
				return err
			}
			body, err = rig.Raw(in.GetCRL(t.Context(), id))
			return err
		})
		return body
	}
	if got := fetch(leaf.IssuingCertificateURL[0]); string(got) != string(by.Raw) {
		t.Errorf("%s: %s is not its issuer's certificate", name, leaf.IssuingCertificateURL[0])
	}
	dir := pemFiles(t, map[string][]*x509.Certificate{"ca": {by}, "leaf": {leaf}})
	if err := os.WriteFile(filepath.Join(dir, "crl"), fetch(leaf.CRLDistributionPoints[0]), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := openssl(t, dir, "verify", "-CAfile", "ca", "-crl_check", "-CRLfile", "crl", "leaf"); err != nil {
		t.Errorf("%s: %s", name, out)
	}
	rig.Within(t, rig.Patience, "OCSP says good of "+name, func() error {
		out, err := openssl(t, dir, "ocsp", "-CAfile", "ca", "-issuer", "ca", "-cert", "leaf", "-url", leaf.OCSPServer[0])
		if err == nil && strings.Contains(out, "leaf: good") && strings.Contains(out, "Response verify OK") {
			return nil
		}
		return errors.New(out)
	})
}
