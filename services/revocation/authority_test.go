package revocation_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ocsp"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/id"
	"github.com/certctl/certctl/libs/x509x"
)

// rolled tells of an issuer whose key has been changed: from the first, whose place is the issuer's, to a second.
func (w *world) rolled(issuerID string, first, second *authority, version int64) {
	w.Helper()
	w.issuer.put("cak-first", first)
	w.issuer.put("cak-second", second)
	w.publish(event.IssuerConfigured{
		IssuerID: issuerID, Name: issuerID, Type: "GenericCA", CAChainPEM: second.pem(), SignsCRL: true,
		Authorities: []event.Authority{
			{ID: issuerID, KeyID: "cak-first", CAChainPEM: first.pem(), SignsCRL: true},
			{ID: "cak-second", KeyID: "cak-second", CAChainPEM: second.pem(), SignsCRL: true, Active: true},
		},
	}, version)
}

// issuedBy tells of a certificate with its chain, as the issuer did before it named keys.
func (w *world) issuedBy(issuerID string, c *x509.Certificate) {
	w.Helper()
	w.publish(event.CertificateIssued{
		CertificateID: id.New("mc-"), IssuerID: issuerID,
		Version: event.Version{
			VersionID: id.New("cv-"), SerialNumber: x509x.SerialHex(c.SerialNumber), NotAfter: c.NotAfter,
			PEMChain: string(x509x.EncodeCertificates(c)),
		},
	}, 1)
}

// keyed tells of a certificate with the key that signed it, as the issuer does.
func (w *world) keyed(issuerID string, c *x509.Certificate) {
	w.Helper()
	w.publish(event.CertificateIssued{
		CertificateID: id.New("mc-"), IssuerID: issuerID,
		Version: event.Version{
			VersionID: id.New("cv-"), SerialNumber: x509x.SerialHex(c.SerialNumber), NotAfter: c.NotAfter,
			AuthorityKeyID: hex.EncodeToString(c.AuthorityKeyId), PEMChain: "not looked at",
		},
	}, 1)
}

func TestRollover_EachKeyGoesOnAnsweringForWhatItIssued(t *testing.T) {
	w := newWorld(t)
	first, second := newAuthority(t, w.clock, "Issuing CA"), newAuthority(t, w.clock, "Issuing CA")
	url, end := w.run()
	w.configure("iss-local", first, 1)
	// One of before certificates' chains were kept track of, and one of after.
	older, old := first.leaf(), first.leaf()
	w.issued("iss-local", older)
	w.issuedBy("iss-local", old)
	w.heard()
	before := w.list(url+"/api/v1/crl/iss-local", first)

	w.rolled("iss-local", first, second, 2)
	leaf, leafOfFirst := second.leaf(), first.leaf()
	w.keyed("iss-local", leaf)
	w.keyed("iss-local", leafOfFirst)
	w.heard()
	end()
	url, _ = w.run()
	if l := w.list(url+"/api/v1/crl/iss-local", first); l.Number.Cmp(before.Number) != 0 {
		t.Errorf("list %d of the first key, before %d", l.Number, before.Number)
	}
	if l := w.list(url+"/api/v1/crl/cak-second", second); l.Number.Int64() != 1 {
		t.Errorf("list %d of the second key", l.Number)
	}
	for _, c := range []struct {
		place string
		by    *authority
		of    *x509.Certificate
		want  int
	}{
		{"iss-local", first, older, ocsp.Good},
		{"iss-local", first, old, ocsp.Good},
		{"iss-local", first, leafOfFirst, ocsp.Good},
		{"cak-second", second, leaf, ocsp.Good},
		// One key has not issued what another did.
		{"iss-local", first, leaf, ocsp.Unknown},
		{"cak-second", second, old, ocsp.Unknown},
		{"cak-second", second, leafOfFirst, ocsp.Unknown},
		{"cak-second", second, older, ocsp.Unknown},
	} {
		if got := w.status(url, c.place, x509x.SerialHex(c.of.SerialNumber), c.by).Status; got != c.want {
			t.Errorf("at %s: %d, want %d", c.place, got, c.want)
		}
		answer := w.post(url+"/api/v1/ocsp/"+c.place, request(t, c.of, c.by, crypto.SHA1))
		if r, err := ocsp.ParseResponse(answer, c.by.cert); err != nil || r.Status != c.want {
			t.Errorf("at %s: %+v %v", c.place, r, err)
		}
	}
	for place, by := range map[string]*authority{"iss-local": first, "cak-second": second} {
		if _, chain := w.get(url + "/api/v1/ca/" + place); string(chain) != by.pem() {
			t.Errorf("the CA at %s is\n%s", place, chain)
		}
		res, der := w.get(url + "/api/v1/ca/" + place + "/certificate")
		if !bytes.Equal(der, by.cert.Raw) || res.Header.Get("Content-Type") != "application/pkix-cert" {
			t.Errorf("the certificate at %s is of %d bytes, %s", place, len(der), res.Header.Get("Content-Type"))
		}
	}
	w.wantStatus(url+"/api/v1/crl/cak-third", http.StatusNotFound)
}

func TestRollover_ListsAndAnswersSatisfyOpenSSL(t *testing.T) {
	w := newWorld(t)
	first, second := newAuthority(t, w.clock, "Issuing CA"), newAuthority(t, w.clock, "Issuing CA")
	url, _ := w.run()
	w.rolled("iss-local", first, second, 1)
	leaves := map[string]*x509.Certificate{"iss-local": first.leaf(), "cak-second": second.leaf()}
	for _, leaf := range leaves {
		w.issuedBy("iss-local", leaf)
	}
	w.heard()
	dir := t.TempDir()
	write := func(name string, content []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for place, by := range map[string]*authority{"iss-local": first, "cak-second": second} {
		_, der := w.get(url + "/api/v1/crl/" + place)
		write("crl", der)
		write("ca", x509x.EncodeCertificates(by.cert))
		write("leaf", x509x.EncodeCertificates(leaves[place]))
		for _, args := range [][]string{
			{"verify", "-CAfile", "ca", "-crl_check", "-CRLfile", "crl", "leaf"},
			{"ocsp", "-CAfile", "ca", "-issuer", "ca", "-cert", "leaf", "-url", url + "/api/v1/ocsp/" + place},
		} {
			cmd := exec.CommandContext(t.Context(), "openssl", args...)
			cmd.Dir = dir
			if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "OK") && !strings.Contains(string(out), "leaf: good") {
				t.Errorf("openssl %s: %v\n%s", args, err, out)
			}
		}
	}
}
