package local_test

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/secret"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca"
	"github.com/certctl/certctl/services/issuer/internal/ca/catest"
	"github.com/certctl/certctl/services/issuer/internal/ca/local"
)

// bench makes and opens CAs.
type bench struct {
	*testing.T
	sealer *secret.Sealer
	clock  *clock.Manual
}

func newBench(t *testing.T) *bench {
	return &bench{T: t, sealer: secret.New(secret.NewKey()), clock: clock.At(time.Now())}
}

func named(name string) local.Description {
	return local.Description{Subject: pkix.Name{CommonName: name}, Days: 3650, MaxPathLen: local.Unbounded}
}

func (b *bench) open(k ca.Key, err error) *local.Authority {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
	a, err := local.OpenKey(&k, b.sealer, local.PlacesAt("http://127.0.0.1:8080", k.Place), b.clock)
	if err != nil {
		b.Fatal(err)
	}
	return a
}

func (b *bench) root(d local.Description) *local.Authority {
	b.Helper()
	return b.open(local.MakeRoot("iss-root", d, b.sealer, b.clock.Now()))
}

func (b *bench) below(parent *local.Authority, d local.Description) *local.Authority {
	b.Helper()
	return b.open(parent.Below("iss-below", d, b.sealer))
}

// issue issues for names and returns the served chain, leaf first.
func (b *bench) issue(a *local.Authority, names ...string) []*x509.Certificate {
	b.Helper()
	issued, err := a.Issue(b.Context(), catest.NewRequest(b.T, catest.NewKey(b.T, "ECDSA P-256"), names...))
	if err != nil {
		b.Fatal(err)
	}
	chain, err := x509x.ParseCertificates(issued.ChainPEM)
	if err != nil {
		b.Fatal(err)
	}
	return chain
}

// verify has openssl and crypto/x509 verify a served chain up to a root, and returns openssl's answer.
func (b *bench) verify(root *x509.Certificate, served []*x509.Certificate) (string, error) {
	b.Helper()
	dir := b.TempDir()
	write := func(name string, certs ...*x509.Certificate) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, x509x.EncodeCertificates(certs...), 0o600); err != nil {
			b.Fatal(err)
		}
		return path
	}
	args := []string{"verify", "-x509_strict", "-check_ss_sig", "-purpose", "sslserver", "-CAfile", write("root", root)}
	pool, between := x509.NewCertPool(), x509.NewCertPool()
	pool.AddCert(root)
	if len(served) > 1 {
		args = append(args, "-untrusted", write("between", served[1:]...))
		for _, c := range served[1:] {
			between.AddCert(c)
		}
	}
	out, err := exec.CommandContext(b.Context(), "openssl", append(args, write("leaf", served[0]))...).CombinedOutput()
	_, errGo := served[0].Verify(x509.VerifyOptions{Roots: pool, Intermediates: between, CurrentTime: b.clock.Now()})
	if (err == nil) != (errGo == nil) {
		b.Errorf("openssl: %v %s, crypto/x509: %v", err, out, errGo)
	}
	return string(out), err
}

func (b *bench) mustVerify(root *x509.Certificate, served []*x509.Certificate) {
	b.Helper()
	if out, err := b.verify(root, served); err != nil {
		b.Errorf("%v\n%s", err, out)
	}
}

func TestCA_OfEveryKindOfKeyConforms(t *testing.T) {
	for _, algorithm := range local.Algorithms {
		t.Run(algorithm, func(t *testing.T) {
			b := newBench(t)
			d := named("Root of " + algorithm)
			d.Algorithm = algorithm
			root := b.root(d)
			if got := local.AlgorithmOf(root.Chain()[0].PublicKey); got != algorithm {
				t.Errorf("its key is %s", got)
			}
			catest.Run(t, root)
		})
	}
}

func TestIntermediate_Conforms(t *testing.T) {
	b := newBench(t)
	middle := b.below(b.root(named("Root")), named("Middle"))
	d := named("Issuing")
	d.MaxPathLen, d.Algorithm = 0, local.Ed25519
	issuing := b.below(middle, d)
	if len(issuing.Chain()) != 3 {
		t.Fatalf("a chain of %d", len(issuing.Chain()))
	}
	catest.Run(t, issuing)
	b.mustVerify(issuing.Chain()[2], b.issue(issuing, "www.example.com"))
}

func TestIntermediate_SaysWhereItsOwnRevocationIsTold(t *testing.T) {
	b := newBench(t)
	c := b.below(b.root(named("Root")), named("Middle")).Chain()
	if c[0].MaxPathLen != -1 || !c[0].IsCA || c[0].KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign {
		t.Errorf("path length %d, key usage %b", c[0].MaxPathLen, c[0].KeyUsage)
	}
	if len(c[0].CRLDistributionPoints) != 1 || !strings.HasSuffix(c[0].CRLDistributionPoints[0], "/crl/iss-root") ||
		!strings.HasSuffix(c[0].IssuingCertificateURL[0], "/ca/iss-root/certificate") || len(c[0].OCSPServer) != 0 {
		t.Errorf("it points to %v %v %v", c[0].CRLDistributionPoints, c[0].IssuingCertificateURL, c[0].OCSPServer)
	}
	if len(c[0].SubjectKeyId) != 20 || !bytes.Equal(c[0].AuthorityKeyId, c[1].SubjectKeyId) {
		t.Errorf("SKI %x, AKI %x", c[0].SubjectKeyId, c[0].AuthorityKeyId)
	}
	if bits := c[0].SerialNumber.BitLen(); bits > 128 || bits < 64 {
		t.Errorf("a serial number of %d bits", bits)
	}
}

func TestIntermediate_NeverOutlivesItsParent(t *testing.T) {
	b := newBench(t)
	d := named("Root")
	d.Days = 30
	root := b.root(d)
	middle := b.below(root, named("Middle"))
	if end := root.Chain()[0].NotAfter; !middle.Chain()[0].NotAfter.Equal(end) {
		t.Errorf("until %s, its parent until %s", middle.Chain()[0].NotAfter, end)
	}
	issued, err := middle.Issue(t.Context(), catest.NewRequest(t, catest.NewKey(t, "ECDSA P-256"), "www.example.com"))
	if err != nil || !issued.EndsWithCA || !issued.NotAfter.Equal(root.Chain()[0].NotAfter) {
		t.Errorf("a leaf until %s, told of: %t, error %v", issued.NotAfter, issued.EndsWithCA, err)
	}
	issued, err = middle.Lasting(7*24*time.Hour).Issue(t.Context(), catest.NewRequest(t, catest.NewKey(t, "ECDSA P-256"), "www.example.com"))
	if err != nil || issued.EndsWithCA {
		t.Errorf("a leaf that is not cut short is told of as such: %v", err)
	}
}

func TestIntermediate_IsRefusedWherePathLengthLeavesNoPlace(t *testing.T) {
	b := newBench(t)
	d := named("Root")
	d.MaxPathLen = 1
	root := b.root(d)
	if _, err := root.Below("iss-a", named("unbounded"), b.sealer); fault.CodeOf(err) != fault.Invalid || !strings.Contains(err.Error(), "max_path_len") {
		t.Errorf("unbounded below 1: %v", err)
	}
	d = named("Issuing")
	d.MaxPathLen = 0
	issuing := b.below(root, d)
	if _, err := issuing.Below("iss-b", d, b.sealer); fault.CodeOf(err) != fault.Invalid || !strings.Contains(err.Error(), "allows no CA below it") {
		t.Errorf("below 0: %v", err)
	}
}

func network(t *testing.T, s string) *net.IPNet {
	t.Helper()
	_, n, err := net.ParseCIDR(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestConstraints_AreJudgedAsVerifiersJudgeThem has names issued for by a CA without constraints that bears the key of one
// with them, so that openssl and crypto/x509 say what they make of what was refused.
func TestConstraints_AreObeyedAndNamed(t *testing.T) {
	b := newBench(t)
	root := b.root(named("Root"))
	d := named("Limited")
	d.Constraints = local.Constraints{
		PermittedDNS: []string{"corp.example", ".below.example"}, ExcludedDNS: []string{"secret.corp.example"},
		PermittedIP: []*net.IPNet{network(t, "10.0.0.0/8"), network(t, "2001:db8::/32")}, ExcludedIP: []*net.IPNet{network(t, "10.9.0.0/16")},
	}
	limited := b.below(root, d)
	// Constraints of a CA above count for those below it.
	issuing := b.below(limited, named("Issuing"))
	for _, name := range []string{"corp.example", "a.b.corp.example", "*.a.corp.example", "x.below.example", "*.below.example", "10.1.2.3", "2001:db8::5"} {
		b.mustVerify(root.Chain()[0], b.issue(issuing, name))
	}
	for name, why := range map[string]string{
		"other.example":         "permits only corp.example, .below.example",
		"notcorp.example":       "permits only",
		"below.example":         "permits only",
		"secret.corp.example":   "excludes secret.corp.example",
		"a.secret.corp.example": "excludes secret.corp.example",
		"*.corp.example":        "excludes secret.corp.example",
		"192.0.2.1":             "permits only 10.0.0.0/8, 2001:db8::/32",
		"10.9.1.1":              "excludes 10.9.0.0/16",
	} {
		_, err := issuing.Issue(t.Context(), catest.NewRequest(t, catest.NewKey(t, "ECDSA P-256"), name))
		if fault.CodeOf(err) != fault.Invalid || !strings.Contains(err.Error(), why) || !strings.Contains(err.Error(), "CN=Limited") {
			t.Errorf("%s: %v, want %q", name, err, why)
		}
	}
}

// TestConstraints_ThatAreBrokenWouldBeRefusedByVerifiers shows that what is refused is refused for a reason.
func TestConstraints_ThatAreBrokenWouldBeRefusedByVerifiers(t *testing.T) {
	root := newCA(t, "ECDSA P-256", nil, nil)
	sub := newCA(t, "ECDSA P-256", root, func(c *x509.Certificate) {
		c.PermittedDNSDomainsCritical, c.PermittedDNSDomains = true, []string{"corp.example"}
		c.ExcludedIPRanges = []*net.IPNet{network(t, "10.9.0.0/16")}
	})
	plain := *sub.cert
	plain.PermittedDNSDomains, plain.ExcludedIPRanges = nil, nil
	careless := local.New([]*x509.Certificate{&plain, root.cert}, sub.key, places, clock.System)
	b := newBench(t)
	for _, name := range []string{"other.example", "10.9.1.1"} {
		if out, err := b.verify(root.cert, b.issue(careless, name)); err == nil {
			t.Errorf("openssl verifies %s: %s", name, out)
		}
	}
	b.mustVerify(root.cert, b.issue(careless, "a.corp.example"))
}

func TestConstraints_OfNoUseBelowTheParentAreRefused(t *testing.T) {
	b := newBench(t)
	d := named("Root")
	d.Constraints.PermittedDNS = []string{"corp.example"}
	root := b.root(d)
	for domain, ok := range map[string]bool{"a.corp.example": true, "corp.example": true, "example": true, "other.example": false} {
		d := named("Below")
		d.Constraints.PermittedDNS = []string{domain}
		if _, err := root.Below("iss-b", d, b.sealer); (err == nil) != ok {
			t.Errorf("%s: %v", domain, err)
		}
	}
}
