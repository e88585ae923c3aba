package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certctl/certctl/contracts/httpapi/client"
)

func TestListIssuers_PrintsUntilWhenTheirCAsHoldAndWhetherTheyAnswer(t *testing.T) {
	a := newAPI(t)
	a.on("GET /api/v1/issuers", 200, client.IssuerList{
		Data: []client.Issuer{
			{ID: "iss-local", Name: "Local CA", Type: "GenericCA", Enabled: true, CaNotAfter: &day, CaExpiryWarning: new("it ends")},
			{ID: "iss-acme", Name: "ACME", Type: "ACME", Health: &client.IssuerHealth{
				Circuit: client.Open, Failures: 5, Waiting: 3, RetryAt: &day, LastError: new("it\x1b[2J is sealed"),
			}},
			{ID: "iss-vault", Name: "Vault", Type: "Vault", Enabled: true, Health: &client.IssuerHealth{Circuit: client.Closed}},
		}, Total: 3,
	})
	out, _ := a.want(0, "list-issuers")
	equal(t, `
ID         NAME      TYPE       ENABLED  CA ENDS           CIRCUIT  WARNING
iss-local  Local CA  GenericCA  true     2026-11-23 12:30  -        it ends
iss-acme   ACME      ACME       false    -                 open     its CA fails, 3 jobs wait, tried again at 2026-11-23T12:30:00Z: it?[2J is sealed
iss-vault  Vault     Vault      true     -                 closed   -
`, out)
}

func TestCAKeys_AreListedRolledOverAndGoneBackTo(t *testing.T) {
	a := newAPI(t)
	key := client.IssuerKey{ID: "cak-1", IssuerID: "iss-local", Status: "active", Active: true, KeyAlgorithm: "ECDSA-P256", Subject: new("CN=CA"), NotAfter: &day, ValidCertificates: new(int64(7))}
	a.on("GET /api/v1/issuers/iss-local/keys", 200, client.IssuerKeyList{
		Data: []client.IssuerKey{key, {ID: "cak-2", Status: "pending", KeyAlgorithm: "RSA-2048"}}, Total: 2,
	})
	out, _ := a.want(0, "list-ca-keys", "iss-local")
	equal(t, `
ID     STATUS   ALGORITHM   SUBJECT  ENDS              VALID CERTIFICATES
cak-1  active   ECDSA-P256  CN=CA    2026-11-23 12:30  7
cak-2  pending  RSA-2048    -        -                 -
`, out)
	a.on("POST /api/v1/issuers/iss-local/rollover", 200, key)
	out, _ = a.want(0, "rollover-issuer", "iss-local", "--cross-sign", "--days", "30", "--key-algorithm", "Ed25519")
	equal(t, "iss-local signs with cak-1, ECDSA-P256 CN=CA\n", out)
	equal(t, `POST /api/v1/issuers/iss-local/rollover {"ca_validity_days":30,"cross_sign":true,"key_algorithm":"Ed25519"}`, a.last())
	a.on("POST /api/v1/issuers/iss-local/keys/cak-1/activate", 200, key)
	a.want(0, "activate-ca-key", "iss-local", "cak-1")
	a.want(2, "activate-ca-key", "iss-local")
}

func TestCARequest_IsPrintedAsItIsSentAndItsCertificateHandedIn(t *testing.T) {
	a := newAPI(t)
	request := client.IssuerCARequest{KeyID: "cak-1", CsrPem: "-----BEGIN X-----\nAA==\n-----END X-----\n", CreatedAt: day}
	a.on("GET /api/v1/issuers/iss-out/ca-request", 200, request)
	out, _ := a.want(0, "ca-request", "iss-out")
	equal(t, request.CsrPem, out)
	if _, errs := a.want(1, "ca-request", "iss-out", "--common-name", "CA 2"); !strings.Contains(errs, "--new") {
		t.Errorf("it says %q", errs)
	}
	a.on("POST /api/v1/issuers/iss-out/ca-request", 200, request)
	a.want(0, "ca-request", "iss-out", "--new", "--common-name", "CA 2")
	equal(t, `POST /api/v1/issuers/iss-out/ca-request {"common_name":"CA 2"}`, a.last())
	a.on("POST /api/v1/issuers/iss-out/ca-certificate", 200, client.IssuerKey{ID: "cak-1", IssuerID: "iss-out", KeyAlgorithm: "Ed25519"})
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, []byte("PEM"), 0o600); err != nil {
		t.Fatal(err)
	}
	a.want(0, "ca-certificate", "iss-out", file)
	equal(t, `POST /api/v1/issuers/iss-out/ca-certificate {"ca_cert_pem":"PEM"}`, a.last())
	if _, errs := a.want(1, "ca-certificate", "iss-out", file+".no"); !strings.Contains(errs, "read the certificate") {
		t.Errorf("%s", errs)
	}
}
