package app_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/health"
	"github.com/certctl/certctl/libs/obs"
	"github.com/certctl/certctl/libs/secret"
	"github.com/certctl/certctl/libs/service"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/app"
	"github.com/certctl/certctl/services/issuer/internal/ca/catest"
)

// ask makes a request that is no HTTP operation.
func ask[Answer any](w *world, operation string, request any) command.Reply[Answer] {
	w.t.Helper()
	body, err := json.Marshal(request)
	if err != nil {
		w.t.Fatal(err)
	}
	m, err := w.conn.NC.Request(subject.Operation("issuer", operation), body, patience)
	if err != nil {
		w.t.Fatal(err)
	}
	var reply command.Reply[Answer]
	if err := json.Unmarshal(m.Data, &reply); err != nil {
		w.t.Fatal(err)
	}
	return reply
}

func TestRPC_SignsRevocationLists(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	configured, _ := hear(w, func(event.IssuerConfigured) bool { return true })
	own, err := x509x.ParseCertificates([]byte(configured.CAChainPEM))
	if err != nil {
		t.Fatal(err)
	}
	request := command.SignCRL{
		IssuerID: "iss-local", Number: 3, ThisUpdate: "2026-11-24T00:00:00Z", NextUpdate: "2026-11-25T00:00:00Z",
		Entries: []command.CRLEntry{{SerialNumber: "00AB:cd", RevokedAt: "2026-11-23T00:00:00Z", ReasonCode: 4}},
	}
	reply := ask[command.SignedCRL](w, "signCRL", request)
	if reply.Fault != nil {
		t.Fatalf("fault %+v", reply.Fault)
	}
	list, err := x509.ParseRevocationList(reply.Body.DER)
	if err != nil {
		t.Fatal(err)
	}
	if err := list.CheckSignatureFrom(own[0]); err != nil || list.Number.Int64() != 3 || list.RevokedCertificateEntries[0].SerialNumber.Text(16) != "abcd" {
		t.Errorf("list %+v: %v", list, err)
	}
	for want, change := range map[string]func(*command.SignCRL){
		"not_found": func(r *command.SignCRL) { r.IssuerID = "iss-none" },
		"invalid": func(r *command.SignCRL) {
			r.Entries = []command.CRLEntry{{SerialNumber: "zz", RevokedAt: "2026-11-23T00:00:00Z"}}
		},
	} {
		bad := request
		change(&bad)
		if reply := ask[command.SignedCRL](w, "signCRL", bad); reply.Fault == nil || reply.Fault.Code != want || reply.Body != nil {
			t.Errorf("want %s, got %+v", want, reply)
		}
	}
	if reply := ask[command.SignedCRL](w, "signCRL", 7); reply.Fault == nil || reply.Fault.Code != "invalid" {
		t.Errorf("got %+v", reply)
	}
}

func TestRPC_IssuesForOCSPResponders(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	key := catest.NewKey(t, ecdsa)
	reply := ask[command.OCSPResponder](w, "issueOCSPResponder", command.IssueOCSPResponder{
		IssuerID: "iss-local", CSRPEM: catest.NewCSR(t, key, "responder"),
	})
	if reply.Fault != nil {
		t.Fatalf("fault %+v", reply.Fault)
	}
	certs, err := x509x.ParseCertificates([]byte(reply.Body.PEMChain))
	if err != nil || len(certs) != 2 {
		t.Fatalf("chain of %d: %v", len(certs), err)
	}
	if err := certs[0].CheckSignatureFrom(certs[1]); err != nil || !x509x.SameKey(certs[0].PublicKey, key.Public()) {
		t.Errorf("responder %s: %v", certs[0].Subject, err)
	}
	if reply := ask[command.OCSPResponder](w, "issueOCSPResponder", command.IssueOCSPResponder{IssuerID: "iss-local", CSRPEM: "x"}); reply.Fault == nil {
		t.Error("a request that is none was signed")
	}
}

func TestSubordinate_TakesThePlaceOfTheRoot(t *testing.T) {
	w := newWorld(t)
	first := w.start(app.Settings{})
	hear(w, func(event.IssuerConfigured) bool { return true })
	first.end()
	certPath, keyPath, root := subordinate(t)
	w.start(app.Settings{CACertPath: certPath, CAKeyPath: keyPath})
	_, second := hear(w, func(e event.IssuerConfigured) bool { return strings.Count(e.CAChainPEM, "BEGIN CERTIFICATE") == 2 })
	if second.AggVersion != 2 {
		t.Errorf("version %d", second.AggVersion)
	}
	c := w.create(map[string]any{"common_name": "www.example.com", "csr_pem": csrFor(t, "www.example.com")})
	chain, err := x509x.ParseCertificates([]byte(c.Version.PemChain))
	if err != nil || len(chain) != 2 {
		t.Fatalf("chain of %d: %v", len(chain), err)
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(root)
	between.AddCert(chain[1])
	if _, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between}); err != nil {
		t.Error(err)
	}
}

// subordinate writes the files of a CA below another, the root last.
func subordinate(t *testing.T) (certPath, keyPath string, root *x509.Certificate) {
	t.Helper()
	var chain []*x509.Certificate
	rootKey, key := catest.NewKey(t, ecdsa), catest.NewKey(t, "RSA 2048")
	template := func(name string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: x509x.NewSerial(), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
			NotAfter: time.Now().AddDate(1, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		}
	}
	above := template("Root")
	der, err := x509.CreateCertificate(rand.Reader, above, above, rootKey.Public(), rootKey)
	if err != nil {
		t.Fatal(err)
	}
	if root, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	if der, err = x509.CreateCertificate(rand.Reader, template("Sub"), root, key.Public(), rootKey); err != nil {
		t.Fatal(err)
	}
	sub, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	chain = append(chain, sub, root)
	text, err := x509x.EncodePrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certPath, keyPath = filepath.Join(t.TempDir(), "ca.pem"), filepath.Join(t.TempDir(), "ca.key")
	for path, content := range map[string][]byte{certPath: x509x.EncodeCertificates(chain...), keyPath: text} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certPath, keyPath, root
}

func TestStart_RefusesACAThatCannotBeUsed(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{}).end()
	certPath, _, _ := subordinate(t)
	_, otherKey, _ := subordinate(t)
	tests := map[string]struct {
		settings app.Settings
		sealer   *secret.Sealer
		want     string
	}{
		"a key of another CA":      {app.Settings{CACertPath: certPath, CAKeyPath: otherKey}, w.sealer, "the key is not that of the first certificate"},
		"a file that is not there": {app.Settings{CACertPath: "/none", CAKeyPath: otherKey}, w.sealer, "CERTCTL_CA_CERT_PATH"},
		"another sealing key":      {app.Settings{}, secret.New(secret.NewKey()), "sealed with another sealing key"},
		"no sealing key":           {app.Settings{}, nil, "CERTCTL_SEALING_KEY_FILE"},
	}
	conn := w.nats.Connect(bus.Options{Name: "issuer", Log: w.log})
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			err := app.Run(ctx, tt.settings, service.Deps{
				Log: w.log, DB: w.pool, Bus: conn, Metrics: obs.NewRegistry(), Health: health.New(w.log), Clock: clock.System, Sealer: tt.sealer,
			})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
	if n := w.count(`SELECT count(*) FROM ca_keys`); n != 1 {
		t.Errorf("%d CA keys", n)
	}
}
