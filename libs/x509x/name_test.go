package x509x_test

import (
	"crypto/x509"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/x509x"
)

func TestRequestNames_AreOneNormalSet(t *testing.T) {
	csr, err := x509x.ParseCSR(csrPEM(t, edKey(t)))
	if err != nil {
		t.Fatal(err)
	}
	want := x509x.Names{
		{Kind: x509x.DNS, Value: "*.example.com"},
		{Kind: x509x.DNS, Value: "www.example.com"},
		{Kind: x509x.Email, Value: "ops@example.com"},
		{Kind: x509x.IP, Value: "10.0.0.7"},
		{Kind: x509x.IP, Value: "2001:db8::1"},
		{Kind: x509x.URI, Value: "spiffe://example.org/web"},
	}
	got := x509x.RequestNames(csr)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	record, err := x509x.ParseNames("www.Example.com.", []string{
		"2001:db8:0::1", "10.0.0.7", "*.EXAMPLE.com", "ops@example.com", "SPIFFE://EXAMPLE.org/web",
	})
	if err != nil {
		t.Fatal(err)
	}
	if !got.Equal(record) {
		t.Errorf("record and request differ:\n%s", cmp.Diff(record, got))
	}
}

func TestCertificateNames_CountTheCommonNameAmongThem(t *testing.T) {
	got := x509x.CertificateNames(certificate(t, "A.example"))
	if diff := cmp.Diff(x509x.Names{{Kind: x509x.DNS, Value: "a.example"}}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	got = x509x.CertificateNames(&x509.Certificate{})
	if len(got) != 0 || len(got.Values()) != 0 {
		t.Errorf("no names = %v", got)
	}
}

func TestNames_KeepACommonNameThatIsNoHost(t *testing.T) {
	csr := &x509.CertificateRequest{DNSNames: []string{"a.example"}}
	csr.Subject.CommonName = "Jane Doe"
	names := x509x.RequestNames(csr)
	if diff := cmp.Diff([]string{"jane doe"}, names.Values(x509x.Text)); diff != "" {
		t.Error(diff)
	}
	wantInvalid(t, names.Validate(), `"jane doe" is not accepted`)
}

func TestNames_SayWhatIsMissing(t *testing.T) {
	a, err := x509x.ParseNames("a.example", []string{"b.example", "10.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	b, err := x509x.ParseNames("b.example", nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a.example", "10.0.0.1"}, a.Minus(b).Values()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(b.Minus(a)) != 0 || a.Equal(b) || len(a) != 3 {
		t.Error("a subset has names that its superset lacks")
	}
	if diff := cmp.Diff([]string{"10.0.0.1"}, a.Values(x509x.IP)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestParseNames_AcceptsWhatCertificatesHold(t *testing.T) {
	for _, s := range []string{
		"localhost", "a_b.example", "xn--bcher-kva.example", "*.example.com", "1.example", "a-b.example",
		"::ffff:10.0.0.1", "[2001:db8::1]", "urn:uuid:0af7651916cd43dd", "https://example.com/a?b",
		strings.Repeat("a", 63) + ".example",
	} {
		if _, err := x509x.ParseNames(s, nil); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestParseNames_RefusesTheRestAndNamesTheField(t *testing.T) {
	bad := map[string]string{
		"":                                    "empty",
		"a b.example":                         "letters, digits",
		"a..example":                          "empty label",
		".example":                            "empty label",
		"-a.example":                          "hyphen",
		"a-.example":                          "hyphen",
		"w*.example":                          "wildcard",
		"a.*.example":                         "wildcard",
		"*":                                   "wildcard",
		"10.0.0.256":                          "end in a number",
		"fe80::1%eth0":                        "letters, digits",
		"bücher.example":                      "punycode",
		"host:8080":                           "letters, digits",
		"a/b":                                 "letters, digits",
		"Jane <jane@example.com>":             "mail address",
		"https://user:pw@example.com/":        "URI",
		"a0://":                               "URI",
		strings.Repeat("a", 64) + ".example":  "63 characters",
		strings.Repeat("a.", 126) + "example": "253 characters",
	}
	for s, reason := range bad {
		t.Run(s, func(t *testing.T) {
			_, err := x509x.ParseNames("good.example", []string{"fine.example", s})
			wantInvalid(t, err, reason)
			if f := fault.From(err); f == nil || len(f.Fields) != 1 || f.Fields[0].Name != "sans[1]" {
				t.Errorf("fields = %+v, want sans[1]", f)
			}
		})
	}
	_, err := x509x.ParseNames("no good", []string{"a..b"})
	if f := fault.From(err); len(f.Fields) != 2 || f.Fields[0].Name != "common_name" {
		t.Errorf("fields = %+v, want both", f.Fields)
	}
}

func FuzzParseNames(f *testing.F) {
	for _, s := range []string{"a.example", "*.a", "10.0.0.1", "::1", "a@b.example", "spiffe://a/b", "", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		names, err := x509x.ParseNames("", []string{s})
		if err != nil {
			wantInvalid(t, err, "")
			return
		}
		again, err := x509x.ParseNames("", names.Values())
		if err != nil || !again.Equal(names) {
			t.Errorf("%q is not in normal form: %q, %v", names, again, err)
		}
	})
}
