package local_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/secret"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca"
	"github.com/certctl/certctl/services/issuer/internal/ca/catest"
	"github.com/certctl/certctl/services/issuer/internal/ca/local"
	"github.com/certctl/certctl/services/issuer/internal/lint"
)

var _ ca.Drafter = (*local.Authority)(nil)

// counted is a key that counts its signatures.
type counted struct {
	crypto.Signer
	signatures atomic.Int64
}

func (c *counted) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	c.signatures.Add(1)
	return c.Signer.Sign(random, digest, opts)
}

// everyKind are the kinds of keys that a CA may have.
var everyKind = []string{"ECDSA P-256", "ECDSA P-384", "RSA 2048", "Ed25519"}

func TestDraft_IsWhatIsIssuedButForItsSignature(t *testing.T) {
	for _, kind := range everyKind {
		t.Run(kind, func(t *testing.T) {
			root := newCA(t, kind, nil, nil)
			key := &counted{Signer: root.key}
			a := local.New([]*x509.Certificate{root.cert}, key, places, clock.System)
			r := catest.NewRequest(t, catest.NewKey(t, "ECDSA P-256"), "www.example.com", "10.0.0.1")
			draft, err := a.Draft(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			shown, err := x509.ParseCertificate(draft.DER)
			if err != nil {
				t.Fatal(err)
			}
			if n := key.signatures.Load(); n != 0 {
				t.Errorf("the CA's key has signed %d times for a draft", n)
			}
			if shown.CheckSignatureFrom(root.cert) == nil {
				t.Error("the draft bears a signature of the CA")
			}
			issued, err := draft.Sign(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			leaf, err := x509.ParseCertificate(issued.DER)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(shown.RawTBSCertificate, leaf.RawTBSCertificate) || shown.SignatureAlgorithm != leaf.SignatureAlgorithm {
				t.Errorf("drafted %x\nissued %x", shown.RawTBSCertificate, leaf.RawTBSCertificate)
			}
			if issued.Serial.Cmp(shown.SerialNumber) != 0 || key.signatures.Load() != 1 {
				t.Errorf("serial %x, drafted %x; %d signatures", issued.Serial, shown.SerialNumber, key.signatures.Load())
			}
			if err := leaf.CheckSignatureFrom(root.cert); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestDraft_RefusesWhatIssueRefuses(t *testing.T) {
	a := openRoot(t, &keys{}, secret.New(secret.NewKey()))
	r := catest.NewRequest(t, catest.NewKey(t, "ECDSA P-256"), "www.example.com")
	r.Names = x509x.Names{{Kind: x509x.Email, Value: "a@example.com"}}
	_, want := a.Issue(t.Context(), r)
	if _, err := a.Draft(t.Context(), r); want == nil || err == nil || err.Error() != want.Error() {
		t.Errorf("draft: %v, issue: %v", err, want)
	}
}

func usage(usages ...x509.ExtKeyUsage) func(*ca.Request) {
	return func(r *ca.Request) { r.Usages = usages }
}

// No installation is to begin with findings about what certctl itself makes.
func TestLeaf_BreaksNoRuleOfTheRFCs(t *testing.T) {
	long := strings.Repeat("long.", 12) + "example.com"
	for _, kind := range everyKind {
		root := newCA(t, kind, nil, nil)
		a := local.New([]*x509.Certificate{root.cert}, root.key, places, clock.System)
		for _, of := range everyKind {
			for name, change := range map[string]func(*ca.Request){
				"usual":       func(*ca.Request) {},
				"for a while": func(r *ca.Request) { r.Lifetime, r.ShortLived = 10*time.Minute, true },
				"a long name": func(r *ca.Request) { r.CommonName, r.Names = long, x509x.Names{{Kind: x509x.DNS, Value: long}} },
				"a short one": func(r *ca.Request) { r.CommonName, r.Names = "db", x509x.Names{{Kind: x509x.DNS, Value: "db"}} },
				"addresses":   func(r *ca.Request) { r.CommonName, r.Names = "::1", x509x.Names{{Kind: x509x.IP, Value: "::1"}} },
				"a wildcard":  func(r *ca.Request) { r.Names = x509x.Names{{Kind: x509x.DNS, Value: "*.example.com"}} },
				"a SPIFFE id": func(r *ca.Request) { r.Names = x509x.Names{{Kind: x509x.URI, Value: "spiffe://example.org/a"}} },
				"a server":    usage(x509.ExtKeyUsageServerAuth),
				"a client":    usage(x509.ExtKeyUsageClientAuth),
				"code":        usage(x509.ExtKeyUsageCodeSigning),
				"mail":        usage(x509.ExtKeyUsageEmailProtection),
				"code, mail":  usage(x509.ExtKeyUsageCodeSigning, x509.ExtKeyUsageEmailProtection),
			} {
				r := catest.NewRequest(t, catest.NewKey(t, of), "www.example.com")
				change(&r)
				issued, err := a.Issue(t.Context(), r)
				if err != nil {
					t.Fatal(err)
				}
				for _, f := range lint.Check(issued.DER, lint.RFC) {
					t.Errorf("%s by %s, %s: %s", of, kind, name, f)
				}
			}
		}
	}
}

func TestRootAndResponder_BreakNoRuleOfTheRFCs(t *testing.T) {
	a := openRoot(t, &keys{}, secret.New(secret.NewKey()))
	responder, err := a.IssueOCSPResponder(t.Context(), catest.NewRequest(t, catest.NewKey(t, "ECDSA P-256"), "responder").CSR)
	if err != nil {
		t.Fatal(err)
	}
	for name, der := range map[string][]byte{"root": a.Chain()[0].Raw, "responder": responder.DER} {
		for _, f := range lint.Check(der, lint.RFC) {
			t.Errorf("%s: %s", name, f)
		}
	}
}

// BenchmarkDraft is what linting costs a certificate of this CA: to make the draft, to lint it, and to see in the end that
// it was the draft that was signed; the signature of the CA itself is BenchmarkIssue.
func BenchmarkDraft(b *testing.B) {
	a, err := local.OpenRoot(b.Context(), "iss-local", &keys{}, secret.New(secret.NewKey()), places, clock.System)
	if err != nil {
		b.Fatal(err)
	}
	r := catest.NewRequest(b, catest.NewKey(b, "ECDSA P-256"), "a.example.com")
	b.ReportAllocs()
	for b.Loop() {
		draft, err := a.Draft(b.Context(), r)
		if err != nil {
			b.Fatal(err)
		}
		lint.Check(draft.DER, lint.RFC)
		if _, err := draft.Sign(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
