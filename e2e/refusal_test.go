package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/certctl/certctl/contracts/httpapi/client"
	"github.com/certctl/certctl/e2e/internal/rig"
)

// TestRefusal_BadInputGetsAClearAnswerAndChangesNothing sends what a hostile or careless
// client sends.
func TestRefusal_BadInputGetsAClearAnswerAndChangesNothing(t *testing.T) {
	t.Parallel()
	in := rig.Up(t, rig.Dir(t), "CERTCTL_LOG_LEVEL=warn")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	good := rig.SignCSR(t, key, "a.e2e.test")
	create := func(fields map[string]any) string {
		b, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	const certificates = "/api/v1/certificates"
	cases := []struct {
		name, method, path, body string
		status                   int
		says                     string
	}{
		{"broken JSON", "POST", certificates, `{"common_name":`, 400, ""},
		{"no JSON", "POST", certificates, `hello`, 400, ""},
		{"a wrong type", "POST", certificates, `{"common_name":1}`, 400, "common_name"},
		{"a list for an object", "POST", certificates, `[]`, 400, ""},
		{"an empty body", "POST", certificates, ``, 400, ""},
		{"no common name", "POST", certificates, `{}`, 400, "common_name"},
		{"a bad common name", "POST", certificates, `{"common_name":"a b"}`, 400, "common_name"},
		{"a name with a NUL", "POST", certificates, `{"common_name":"a\u0000.e2e.test"}`, 400, ""},
		{"10 MB", "POST", certificates, `{"common_name":"` + strings.Repeat("a", 10<<20) + `"}`, 413, ""},
		{"a bad id", "POST", certificates, `{"common_name":"a.e2e.test","id":"A.*"}`, 400, "id"},
		{"an unknown issuer", "POST", certificates, `{"common_name":"a.e2e.test","issuer_id":"iss-nowhere"}`, 400, "issuer_id"},
		{"an unknown target", "POST", certificates, `{"common_name":"a.e2e.test","target_ids":["tgt-nowhere"]}`, 400, "tgt-nowhere"},
		{"a CSR that is none", "POST", certificates, create(map[string]any{"common_name": "a.e2e.test", "csr_pem": "hello"}), 400, ""},
		{"a CSR with a bad signature", "POST", certificates, create(map[string]any{"common_name": "a.e2e.test", "csr_pem": forge(t, good)}), 400, ""},
		{"a weak key", "POST", certificates, create(map[string]any{"common_name": "a.e2e.test", "csr_pem": rig.SignCSR(t, weak, "a.e2e.test")}), 400, "2048"},
		{"a CSR for other names", "POST", certificates, create(map[string]any{"common_name": "b.e2e.test", "csr_pem": good}), 400, ""},
		{"an unknown certificate", "GET", certificates + "/mc-nowhere", ``, 404, "mc-nowhere"},
		{"an odd id", "GET", certificates + "/%00", ``, 404, ""},
		{"a renewal of nothing", "POST", certificates + "/mc-nowhere/renew", `{}`, 404, ""},
		{"an unknown job", "GET", "/api/v1/jobs/job-i-nowhere", ``, 404, ""},
		{"no job's id", "GET", "/api/v1/jobs/nowhere", ``, 404, "job-i-"},
		{"a bad page", "GET", certificates + "?page=-1", ``, 400, "page"},
		{"a bad cursor", "GET", certificates + "?cursor=!!", ``, 400, "cursor"},
		{"a bad status", "GET", certificates + "?status=Banana", ``, 400, "status"},
		{"a bad sort", "GET", certificates + "?sort=color", ``, 400, "sort"},
		{"a target of a kind that cannot be installed", "POST", "/api/v1/targets", `{"name":"x","type":"Toaster","agent_id":"a"}`, 400, "NGINX"},
		{"a target of no agent", "POST", "/api/v1/targets", `{"name":"x","type":"nginx","agent_id":"agent-nowhere","config":{"cert_path":"/a","key_path":"/b"}}`, 400, "agent-nowhere"},
		{"a token for no site", "POST", "/api/v1/enrolment-tokens", `{"site_id":"site-nowhere"}`, 404, "site-nowhere"},
		{"a leaf with a made-up token", "POST", "/api/v1/sites/site-local/enrol", `{"token":"cet_xyz","public_key":"U"}`, 400, ""},
		{"a method that is none", "PATCH", certificates, `{}`, 405, ""},
		{"a path that is none", "GET", "/api/v2/certificates", ``, 404, ""},
		{"a serial number that is none", "GET", "/api/v1/ocsp/iss-local/zz-not-hex", ``, 400, ""},
		{"a CRL of nobody", "GET", "/api/v1/crl/iss-nowhere", ``, 404, "iss-nowhere"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			status, text := send(t, in, c.method, c.path, c.body)
			if status != c.status {
				t.Errorf("status %d, want %d: %.300s", status, c.status, text)
			}
			var p client.Problem
			if err := json.Unmarshal([]byte(text), &p); err != nil || p.Message == "" || p.RequestID == nil {
				t.Errorf("no problem document with a message and a request id: %.300s", text)
			}
			if !strings.Contains(text, c.says) {
				t.Errorf("the answer does not say %q: %.300s", c.says, text)
			}
		})
	}
	if list := rig.Must[client.CertificateList](t)(in.ListCertificates(t.Context(), nil)); list.Total != 0 {
		t.Errorf("%d certificates came of it", list.Total)
	}
}

func send(t *testing.T, in *rig.Installation, method, path, body string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, in.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(in.DataDir + "/admin.key")
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(key)))
	r.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

// forge changes the last byte of a request, which is of its signature.
func forge(t *testing.T, request string) string {
	t.Helper()
	block, _ := pem.Decode([]byte(request))
	if block == nil {
		t.Fatal("no PEM")
	}
	forged := bytes.Clone(block.Bytes)
	forged[len(forged)-1] ^= 1
	if _, err := x509.ParseCertificateRequest(forged); err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: forged}))
}

// TestRefusal_AConfigurationThatNGINXRefusesLeavesTheOldCertificateServed breaks the
// configuration of an NGINX before a renewal.
func TestRefusal_AConfigurationThatNGINXRefusesLeavesTheOldCertificateServed(t *testing.T) {
	t.Parallel()
	in := rig.Up(t, rig.Dir(t), "CERTCTL_LOG_LEVEL=warn", "CERTCTL_DEPLOYMENT_RETRY_BASE=100ms", "CERTCTL_DEPLOYMENT_MAX_ATTEMPTS=2")
	agent := in.Enrol("host", "site-local", in.LeafURL, "CERTCTL_LOG_LEVEL=warn")
	nginx := rig.StartNGINX(t, in.Dir, "nginx", "www.e2e.test")
	target := in.Target(agent, nginx.Sites[0])
	created := rig.Must[client.Certificate](t)(in.CreateCertificate(t.Context(), client.CertificateCreate{
		CommonName: nginx.Sites[0].Name, TargetIds: &[]string{target.ID},
	}))
	first := in.Active(t, created.ID, "")

	nginx.WriteConfig("no_such_directive on;")
	rig.Must[client.RenewalTriggered](t)(in.RenewCertificate(t.Context(), created.ID, client.CertificateRenew{}))
	failed := in.Failed(t, created.ID)
	if reason := rig.Value(failed.StatusReason); !strings.Contains(reason, "no_such_directive") {
		t.Errorf("the reason does not say what nginx -t said: %s", reason)
	}
	if got := nginx.Sites[0].Fingerprint(t); got != rig.Value(first.FingerprintSha256) {
		t.Errorf("%s is served instead of the old certificate", got)
	}

	nginx.WriteConfig("")
	rig.Must[client.RenewalTriggered](t)(in.RenewCertificate(t.Context(), created.ID, client.CertificateRenew{}))
	third := in.Active(t, created.ID, rig.Value(first.FingerprintSha256))
	if got := nginx.Sites[0].Fingerprint(t); got != rig.Value(third.FingerprintSha256) {
		t.Errorf("after the mend %s is served, the record says %s", got, rig.Value(third.FingerprintSha256))
	}
}
