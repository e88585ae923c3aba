package local_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
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

// keys is a KeyStore of one process.
type keys struct {
	mu  sync.Mutex
	key *ca.Key // guarded by mu
}

func (k *keys) ActiveKey(context.Context, string) (*ca.Key, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.key, nil
}

func (k *keys) Keys(context.Context, string) ([]ca.Key, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.key == nil {
		return nil, nil
	}
	return []ca.Key{*k.key}, nil
}

func (k *keys) AddKey(_ context.Context, key ca.Key) (*ca.Key, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.key == nil {
		k.key = &key
	}
	return k.key, nil
}

var places = local.PlacesAt("http://127.0.0.1:8080/", "iss-local")

func openRoot(t *testing.T, store *keys, sealer *secret.Sealer) *local.Authority {
	t.Helper()
	a, err := local.OpenRoot(t.Context(), "iss-local", store, sealer, places, clock.System)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestLeaf_OfAnRSAKeyMayEncipherToo(t *testing.T) {
	a := openRoot(t, &keys{}, secret.New(secret.NewKey()))
	issued, err := a.Issue(t.Context(), catest.NewRequest(t, catest.NewKey(t, "RSA 2048"), "www.example.com"))
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(issued.DER)
	if err != nil || leaf.KeyUsage != x509.KeyUsageDigitalSignature|x509.KeyUsageKeyEncipherment {
		t.Errorf("key usage %b: %v", leaf.KeyUsage, err)
	}
}

func TestRoot_Conforms(t *testing.T) {
	catest.Conforms(t, "Local CA", "itself", openRoot(t, &keys{}, secret.New(secret.NewKey())))
}

func TestRoot_IsMadeOnceAndKeptSealed(t *testing.T) {
	store, sealer := &keys{}, secret.New(secret.NewKey())
	first := openRoot(t, store, sealer).Chain()[0]
	if first.Subject.CommonName != "CertCtl Local CA" || first.NotAfter.Before(time.Now().AddDate(9, 11, 0)) {
		t.Errorf("root %s until %s", first.Subject, first.NotAfter)
	}
	if bytes.Contains(store.key.Sealed, []byte("PRIVATE KEY")) {
		t.Error("the key is stored in the clear")
	}
	if again := openRoot(t, store, sealer).Chain()[0]; !again.Equal(first) {
		t.Error("a restart made another CA")
	}
}

func TestRoot_IsNotMadeAnewWhenItsKeyCannotBeUnsealed(t *testing.T) {
	store := &keys{}
	openRoot(t, store, secret.New(secret.NewKey()))
	before := store.key.ID
	_, err := local.OpenRoot(t.Context(), "iss-local", store, secret.New(secret.NewKey()), places, clock.System)
	if !errors.Is(err, secret.ErrKey) || store.key.ID != before {
		t.Errorf("error %v", err)
	}
}

func TestRoot_IsTheSameForAllWhoOpenItAtOnce(t *testing.T) {
	store, sealer := &keys{}, secret.New(secret.NewKey())
	serials := make([]*big.Int, 8)
	var wg sync.WaitGroup
	for i := range serials {
		wg.Go(func() {
			a, err := local.OpenRoot(t.Context(), "iss-local", store, sealer, places, clock.System)
			if err != nil {
				t.Error(err)
				return
			}
			serials[i] = a.Chain()[0].SerialNumber
		})
	}
	wg.Wait()
	for _, s := range serials {
		if s == nil || s.Cmp(serials[0]) != 0 {
			t.Fatalf("serial numbers %v", serials)
		}
	}
}

func TestRoot_SealedKeyIsBoundToItsRow(t *testing.T) {
	store, sealer := &keys{}, secret.New(secret.NewKey())
	openRoot(t, store, sealer)
	store.key.ID = "cak-other"
	if _, err := local.OpenRoot(t.Context(), "iss-local", store, sealer, places, clock.System); !errors.Is(err, secret.ErrCorrupt) {
		t.Errorf("error %v", err)
	}
}

func TestLeaf_NeverOutlivesItsCA(t *testing.T) {
	now := clock.At(time.Now())
	store, sealer := &keys{}, secret.New(secret.NewKey())
	a, err := local.OpenRoot(t.Context(), "iss-local", store, sealer, places, now)
	if err != nil {
		t.Fatal(err)
	}
	key := catest.NewKey(t, "ECDSA P-256")
	csr, err := x509x.ParseCSR([]byte(catest.NewCSR(t, key, "a.example.com")))
	if err != nil {
		t.Fatal(err)
	}
	r := ca.Request{CSR: csr, CommonName: "a.example.com", Names: x509x.Names{{Kind: x509x.DNS, Value: "a.example.com"}}}
	end := a.Chain()[0].NotAfter

	now.Set(end.Add(-24 * time.Hour))
	issued, err := a.Issue(t.Context(), r)
	if err != nil || !issued.NotAfter.Equal(end) {
		t.Errorf("until %s, CA until %s, error %v", issued.NotAfter, end, err)
	}
	now.Set(end)
	if _, err := a.Issue(t.Context(), r); fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("an expired CA: %v", err)
	}
}

func TestLeaf_PointsToWhereRelyingPartiesAsk(t *testing.T) {
	a := openRoot(t, &keys{}, secret.New(secret.NewKey()))
	csr, err := x509x.ParseCSR([]byte(catest.NewCSR(t, catest.NewKey(t, "ECDSA P-256"), "a.example.com")))
	if err != nil {
		t.Fatal(err)
	}
	issued, err := a.Issue(t.Context(), ca.Request{CSR: csr, CommonName: "a.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(issued.DER)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join([]string{leaf.CRLDistributionPoints[0], leaf.OCSPServer[0], leaf.IssuingCertificateURL[0]}, " ")
	want := "http://127.0.0.1:8080/api/v1/crl/iss-local http://127.0.0.1:8080/api/v1/ocsp/iss-local http://127.0.0.1:8080/api/v1/ca/iss-local/certificate"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestLeaf_PointsToNoListOfACAThatMaySignNone(t *testing.T) {
	root := newCA(t, "ECDSA P-256", nil, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign })
	a := local.New([]*x509.Certificate{root.cert}, root.key, places, clock.System)
	issued, err := a.Issue(t.Context(), catest.NewRequest(t, catest.NewKey(t, "ECDSA P-256"), "a.example.com"))
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(issued.DER)
	if err != nil || len(leaf.CRLDistributionPoints) != 0 || len(leaf.OCSPServer) != 1 {
		t.Errorf("it points to %v and %v: %v", leaf.CRLDistributionPoints, leaf.OCSPServer, err)
	}
}

// authority is a CA made for a test.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newCA(t *testing.T, kind string, parent *authority, change func(*x509.Certificate)) *authority {
	t.Helper()
	a := &authority{key: catest.NewKey(t, kind)}
	template := &x509.Certificate{
		SerialNumber: x509x.NewSerial(), Subject: pkix.Name{CommonName: "CA " + x509x.SerialHex(x509x.NewSerial())[:6]},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	if change != nil {
		change(template)
	}
	above := &authority{cert: template, key: a.key}
	if parent != nil {
		above = parent
	}
	der, err := x509.CreateCertificate(rand.Reader, template, above.cert, a.key.Public(), above.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

func files(t *testing.T, key crypto.Signer, chain ...*x509.Certificate) (certPath, keyPath string) {
	t.Helper()
	dir := t.TempDir()
	certPath, keyPath = filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca.key")
	text, err := x509x.EncodePrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(certPath, x509x.EncodeCertificates(chain...), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(keyPath, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return certPath, keyPath
}

func TestSubordinate_Conforms(t *testing.T) {
	for _, kind := range []string{"ECDSA P-256", "ECDSA P-384", "RSA 2048"} {
		t.Run(kind, func(t *testing.T) {
			root := newCA(t, "ECDSA P-384", nil, nil)
			middle := newCA(t, "ECDSA P-256", root, func(c *x509.Certificate) { c.MaxPathLen = 1 })
			sub := newCA(t, kind, middle, func(c *x509.Certificate) { c.MaxPathLenZero = true })
			certPath, keyPath := files(t, sub.key, sub.cert, middle.cert, root.cert)
			a, err := local.Files{CertPath: certPath, KeyPath: keyPath}.Open(places, clock.System)
			if err != nil {
				t.Fatal(err)
			}
			catest.Run(t, a)
		})
	}
}

func TestSubordinate_RefusesWhatCannotWork(t *testing.T) {
	root := newCA(t, "ECDSA P-256", nil, nil)
	sub := newCA(t, "ECDSA P-256", root, nil)
	other := newCA(t, "ECDSA P-256", nil, nil)
	leaf := newCA(t, "ECDSA P-256", root, func(c *x509.Certificate) { c.IsCA, c.KeyUsage = false, x509.KeyUsageDigitalSignature })
	noSign := newCA(t, "ECDSA P-256", root, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign })
	ended := newCA(t, "ECDSA P-256", root, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	narrow := newCA(t, "ECDSA P-256", nil, func(c *x509.Certificate) { c.MaxPathLenZero = true })
	below := newCA(t, "ECDSA P-256", narrow, nil)
	tests := []struct {
		name  string
		key   crypto.Signer
		chain []*x509.Certificate
		want  string
	}{
		{"a key that is not the certificate's", other.key, []*x509.Certificate{sub.cert, root.cert}, "the key is not that of the first certificate"},
		{"a chain in the wrong order", root.key, []*x509.Certificate{root.cert, sub.cert}, "is not signed by the next one"},
		{"a certificate that is no CA's", leaf.key, []*x509.Certificate{leaf.cert, root.cert}, "is not that of a CA"},
		{"a CA that may not sign", noSign.key, []*x509.Certificate{noSign.cert, root.cert}, "does not allow its key to sign certificates"},
		{"a CA that has expired", ended.key, []*x509.Certificate{ended.cert, root.cert}, "expired on"},
		{"a path that is too long", below.key, []*x509.Certificate{below.cert, narrow.cert}, "path length"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			certPath, keyPath := files(t, tt.key, tt.chain...)
			_, err := local.Files{CertPath: certPath, KeyPath: keyPath}.Open(places, clock.System)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
	certPath, keyPath := files(t, sub.key, sub.cert)
	for _, paths := range [][2]string{{certPath, certPath}, {keyPath, keyPath}, {certPath + ".no", keyPath}, {certPath, keyPath + ".no"}} {
		if _, err := (local.Files{CertPath: paths[0], KeyPath: paths[1]}).Open(places, clock.System); err == nil || !strings.Contains(err.Error(), "CERTCTL_CA_") {
			t.Errorf("%v: %v", paths, err)
		}
	}
}

func BenchmarkIssue(b *testing.B) {
	store, sealer := &keys{}, secret.New(secret.NewKey())
	a, err := local.OpenRoot(b.Context(), "iss-local", store, sealer, places, clock.System)
	if err != nil {
		b.Fatal(err)
	}
	csr, err := x509x.ParseCSR([]byte(catest.NewCSR(b, catest.NewKey(b, "ECDSA P-256"), "a.example.com")))
	if err != nil {
		b.Fatal(err)
	}
	names, err := x509x.ParseNames("a.example.com", nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.Issue(b.Context(), ca.Request{CSR: csr, CommonName: "a.example.com", Names: names}); err != nil {
			b.Fatal(err)
		}
	}
}

func TestLeaf_HoldsNoLongerThanItMayAndIsForWhatIsAsked(t *testing.T) {
	a := openRoot(t, &keys{}, secret.New(secret.NewKey()))
	csr, err := x509x.ParseCSR([]byte(catest.NewCSR(t, catest.NewKey(t, "ECDSA P-256"), "www.example.com", "www.example.com")))
	if err != nil {
		t.Fatal(err)
	}
	names, err := x509x.ParseNames("www.example.com", []string{"spiffe://example.org/a"})
	if err != nil {
		t.Fatal(err)
	}
	for asked, want := range map[time.Duration]time.Duration{0: local.DefaultLifetime, time.Hour: time.Hour, 10 * 365 * 24 * time.Hour: local.DefaultLifetime} {
		before := time.Now().Truncate(time.Second)
		issued, err := a.Issue(t.Context(), ca.Request{
			CSR: csr, CommonName: "www.example.com", Names: names, Lifetime: asked, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		})
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(issued.DER)
		if err != nil {
			t.Fatal(err)
		}
		if leaf.NotAfter.Before(before.Add(want)) || leaf.NotAfter.After(time.Now().Add(want)) {
			t.Errorf("asked for %s: until %s", asked, leaf.NotAfter)
		}
		if len(leaf.ExtKeyUsage) != 1 || leaf.ExtKeyUsage[0] != x509.ExtKeyUsageCodeSigning || len(leaf.URIs) != 1 {
			t.Errorf("for %v, URIs %v", leaf.ExtKeyUsage, leaf.URIs)
		}
	}
}
