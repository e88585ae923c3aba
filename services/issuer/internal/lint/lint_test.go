package lint_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode"

	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/lint"
)

// issued is when the certificates below begin: rules come and go, so that what is found is a matter of time.
var issued = time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)

// certificate makes the certificate of a server that breaks no rule, but for what change does to it.
func certificate(t testing.TB, change func(*x509.Certificate)) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	above := &x509.Certificate{
		SerialNumber: x509x.NewSerial(), Subject: pkix.Name{Country: []string{"SE"}, Organization: []string{"Example"}, CommonName: "Example CA"},
		NotBefore: issued.AddDate(-1, 0, 0), NotAfter: issued.AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, SubjectKeyId: []byte("twenty bytes of a ca"),
	}
	return sign(t, leaf(change), above, key)
}

func leaf(change func(*x509.Certificate)) *x509.Certificate {
	c := &x509.Certificate{
		SerialNumber: x509x.NewSerial(), DNSNames: []string{"www.example.com"},
		NotBefore: issued, NotAfter: issued.AddDate(0, 0, 40),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		SubjectKeyId: []byte("twenty bytes of leaf"),
		// That of a certificate whose names, and nothing else, were validated (BRs 7.1.6.1).
		Policies:              []x509.OID{oid(2, 23, 140, 1, 2, 1)},
		CRLDistributionPoints: []string{"http://pki.example.com/crl"}, IssuingCertificateURL: []string{"http://pki.example.com/ca"},
	}
	change(c)
	return c
}

func oid(parts ...uint64) x509.OID {
	o, err := x509.OIDFromInts(parts)
	if err != nil {
		panic(err)
	}
	return o
}

func sign(t testing.TB, c, above *x509.Certificate, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, above, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func named(findings []lint.Finding, name string) *lint.Finding {
	i := slices.IndexFunc(findings, func(f lint.Finding) bool { return f.Lint == name })
	if i < 0 {
		return nil
	}
	return &findings[i]
}

func TestCertificate_ThatKeepsAllRulesHasNoGraveFindings(t *testing.T) {
	der := certificate(t, func(*x509.Certificate) {})
	if found := lint.Check(der, lint.RFC); len(found) > 0 {
		t.Errorf("%v", found)
	}
	// The RFC would have a key identifier in each leaf, the Forum would not.
	if found := lint.Check(der, lint.CABF); slices.ContainsFunc(found, func(f lint.Finding) bool { return f.Level.Breaks() }) {
		t.Errorf("%v", found)
	}
}

func TestFinding_SaysWhichRuleIsBrokenHowAndWhereItIsWritten(t *testing.T) {
	tests := []struct {
		name   string
		change func(*x509.Certificate)
		lint   string
		level  lint.Level
		source string
		set    lint.Ruleset
	}{
		{
			"an underscore", func(c *x509.Certificate) { c.DNSNames = []string{"a_b.example.com"} },
			"e_underscore_not_permissible_in_dnsname", lint.Error, "CABF_BR", lint.CABF,
		},
		{
			"an underscore, by the RFC", func(c *x509.Certificate) { c.DNSNames = []string{"a_b.example.com"} },
			"w_rfc_dnsname_underscore_in_trd", lint.Warn, "RFC5280", lint.RFC,
		},
		{
			"three years", func(c *x509.Certificate) { c.NotAfter = c.NotBefore.AddDate(3, 0, 0) },
			"e_sub_cert_valid_time_longer_than_825_days", lint.Error, "CABF_BR", lint.CABF,
		},
		{
			"a year, when 200 days are the most", func(c *x509.Certificate) { c.NotAfter = c.NotBefore.AddDate(1, 0, 0) },
			"e_server_cert_valid_time_longer_than_200_days", lint.Error, "CABF_BR", lint.CABF,
		},
		{"an extension that ought to be critical", func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 36}, Value: asn1.NullBytes}}
		}, "e_ext_policy_constraints_not_critical", lint.Error, "RFC5280", lint.RFC},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			found := lint.Check(certificate(t, tt.change), tt.set)
			f := named(found, tt.lint)
			if f == nil {
				t.Fatalf("not found among %v", found)
			}
			if f.Level != tt.level || f.Source != tt.source || f.Text == "" || f.Citation == "" {
				t.Errorf("%+v", *f)
			}
			for _, part := range []string{f.Lint, f.Text, f.Citation, f.Detail} {
				if !strings.Contains(f.String(), part) {
					t.Errorf("%q lacks %q", f.String(), part)
				}
			}
		})
	}
}

func TestRFC_HasNoWordOfTheForum(t *testing.T) {
	der := certificate(t, func(c *x509.Certificate) { c.NotAfter, c.Policies = c.NotBefore.AddDate(3, 0, 0), nil })
	if found := lint.Check(der, lint.RFC); len(found) > 0 {
		t.Errorf("%v", found)
	}
	if found := lint.Check(der, lint.CABF); len(found) == 0 {
		t.Error("the Forum has nothing to say")
	}
}

func TestFindings_StandInTheOrderOfTheirNames(t *testing.T) {
	found := lint.Check(certificate(t, func(c *x509.Certificate) {
		c.NotAfter, c.Policies, c.DNSNames = c.NotBefore.AddDate(3, 0, 0), nil, []string{"a_b.example.com"}
	}), lint.CABF)
	if len(found) < 3 || !slices.IsSortedFunc(found, func(a, b lint.Finding) int { return strings.Compare(a.Lint, b.Lint) }) {
		t.Errorf("%v", found)
	}
}

func TestUnreadable_IsAFindingAndAGraveOne(t *testing.T) {
	for name, der := range map[string][]byte{"nothing": nil, "no ASN.1": []byte("hello"), "cut off": certificate(t, func(*x509.Certificate) {})[:100]} {
		found := lint.Check(der, lint.RFC)
		if len(found) != 1 || found[0].Lint != lint.Unreadable || !found[0].Level.Breaks() {
			t.Errorf("%s: %v", name, found)
		}
	}
}

func TestFindings_AreBoundedAndPrintable(t *testing.T) {
	hostile := strings.Repeat("\x00\x1b_", 500)
	found := lint.Check(certificate(t, func(c *x509.Certificate) {
		c.Subject = pkix.Name{CommonName: hostile, Organization: []string{hostile}, Country: []string{"\x00\x1b["}}
	}), lint.CABF)
	if len(found) == 0 {
		t.Fatal("nothing is found")
	}
	for _, f := range found {
		if len(f.Detail) > 310 || len(f.Text) > 310 || strings.ContainsFunc(f.String(), unicode.IsControl) {
			t.Errorf("%q", f.String())
		}
	}
}

func TestCheck_MayBeCalledByManyAtOnce(t *testing.T) {
	der := certificate(t, func(c *x509.Certificate) { c.DNSNames = []string{"a_b.example.com"} })
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if named(lint.Check(der, lint.CABF), "e_underscore_not_permissible_in_dnsname") == nil {
				t.Error("not found")
			}
		})
	}
	wg.Wait()
}

// BenchmarkCheck is what a certificate of a server costs to be looked at. What counts is the CPU, that of the garbage
// collector beside it included.
func BenchmarkCheck(b *testing.B) {
	der := certificate(b, func(*x509.Certificate) {})
	for _, set := range []lint.Ruleset{lint.RFC, lint.CABF} {
		b.Run(string(set), func(b *testing.B) {
			b.ReportAllocs()
			before := cpu(b)
			for b.Loop() {
				lint.Check(der, set)
			}
			b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/float64(b.N)/1000, "µs-cpu/op")
		})
	}
}

func cpu(b *testing.B) time.Duration {
	b.Helper()
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		b.Fatal(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}
