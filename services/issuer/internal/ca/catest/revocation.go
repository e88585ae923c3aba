package catest

import (
	"crypto/x509"
	"encoding/asn1"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/libs/testkit/relyingparty"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca"
)

func revokes(t *testing.T, issuer ca.Issuer, revoker ca.Revoker, b Bounds) {
	issued, _ := issue(t, issuer, NewRequest(t, NewKey(t, "ECDSA P-256"), "www.example.com"), b)
	for range 2 {
		if err := revoker.Revoke(t.Context(), ca.Revocation{Serial: issued.Serial, Leaf: issued.DER, Reason: 4}); err != nil {
			t.Fatal(err)
		}
	}
}

func revocationList(t *testing.T, issuer ca.Issuer, signer ca.CRLSigner) {
	now := time.Now().UTC().Truncate(time.Second)
	serial := big.NewInt(0xabcdef)
	der, err := signer.SignCRL(t.Context(), ca.RevocationList{
		Number: big.NewInt(7), ThisUpdate: now, NextUpdate: now.Add(24 * time.Hour),
		Entries: []ca.Revoked{{Serial: serial, At: now.Add(-time.Hour), Reason: 1}, {Serial: big.NewInt(5), At: now}},
	})
	if err != nil {
		t.Fatal(err)
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	if err := list.CheckSignatureFrom(issuer.Chain()[0]); err != nil {
		t.Error(err)
	}
	if list.Number.Int64() != 7 || !list.ThisUpdate.Equal(now) || !list.NextUpdate.Equal(now.Add(24*time.Hour)) {
		t.Errorf("number %s, from %s to %s", list.Number, list.ThisUpdate, list.NextUpdate)
	}
	entries := list.RevokedCertificateEntries
	slices.SortFunc(entries, func(a, b x509.RevocationListEntry) int { return b.SerialNumber.Cmp(a.SerialNumber) })
	if len(entries) != 2 || entries[0].SerialNumber.Cmp(serial) != 0 || entries[0].ReasonCode != 1 || len(entries[1].Extensions) != 0 {
		t.Errorf("entries %+v", entries)
	}
	dir := t.TempDir()
	crl, above := filepath.Join(dir, "list.crl"), filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(crl, der, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(above, x509x.EncodeCertificates(issuer.Chain()...), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "openssl", "crl", "-inform", "DER", "-in", crl, "-CAfile", above, "-noout").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "verify OK") {
		t.Errorf("openssl: %v\n%s", err, out)
	}
}

func responder(t *testing.T, issuer ca.Issuer, responders ca.OCSPResponderIssuer, b Bounds) {
	key := NewKey(t, "ECDSA P-256")
	csr, err := x509x.ParseCSR([]byte(NewCSR(t, key, "responder")))
	if err != nil {
		t.Fatal(err)
	}
	issued, err := responders.IssueOCSPResponder(t.Context(), csr)
	if err != nil {
		t.Fatal(err)
	}
	certs, err := x509x.ParseCertificates(issued.ChainPEM)
	if err != nil {
		t.Fatal(err)
	}
	leaf := certs[0]
	if !slices.Equal(leaf.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}) || !x509x.SameKey(leaf.PublicKey, key.Public()) {
		t.Errorf("extended key usage %v", leaf.ExtKeyUsage)
	}
	nocheck := false
	for _, e := range leaf.Extensions {
		nocheck = nocheck || e.Id.Equal(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5})
	}
	if !nocheck {
		t.Error("relying parties are not told that the responder need not be checked")
	}
	if life := time.Until(leaf.NotAfter); life > 31*24*time.Hour {
		t.Errorf("the responder lives for %s and cannot be revoked", life)
	}
	// A delegated responder must be issued by the very CA it answers for.
	if err := leaf.CheckSignatureFrom(issuer.Chain()[0]); err != nil {
		t.Error(err)
	}
	lints(t, leaf, b)
	verify(t, issuer, certs, x509.ExtKeyUsageOCSPSigning)
	relies(t, relyingparty.GnuTLS, issuer, certs, x509.ExtKeyUsageOCSPSigning)
}
