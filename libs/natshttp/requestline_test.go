package natshttp

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestRequestLine_ReadsBackWhatItWrites(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := requestLine{
			method:   rapid.StringMatching(`[A-Z]{1,10}`).Draw(t, "method"),
			host:     rapid.StringMatching(`([a-z][a-z0-9.:]{0,20})?`).Draw(t, "host"),
			target:   rapid.StringMatching(`/[!-~]{0,40}`).Draw(t, "target"),
			wait:     time.Duration(rapid.Int64Range(1, maxWait.Microseconds()).Draw(t, "us")) * time.Microsecond,
			deadline: rapid.Bool().Draw(t, "deadline"),
		}
		got, err := parseRequestLine(want.String())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(requestLine{})); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}

func TestRequestLine_IsNeverWithoutAnEnd(t *testing.T) {
	for _, wait := range []time.Duration{-time.Hour, 0, 1000 * time.Hour} {
		l, err := parseRequestLine(requestLine{method: "GET", target: "/", wait: wait}.String())
		if err != nil || l.wait <= 0 || l.wait > maxWait {
			t.Errorf("wait of %s becomes %s (%v)", wait, l.wait, err)
		}
	}
}

func FuzzParseRequestLine(f *testing.F) {
	for _, s := range []string{"GET p2000000 - /", "POST d1 host /a?b=c", "", " ", "GET", "GET p0 - /", "GET x1 - /", "GET p99999999999999999999 - /", "  p1  "} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		l, err := parseRequestLine(s)
		if err == nil && (l.method == "" || strings.Contains(l.method, " ") || l.wait <= 0 || l.wait > maxWait) {
			t.Errorf("%q was read as %+v", s, l)
		}
	})
}

func TestRoute_TakesOneTokenEach(t *testing.T) {
	for token, ok := range map[string]bool{
		"listCertificates": true, "issuer": true, "a-b_c9": true,
		"": false, "_stream": false, "a.b": false, "*": false, ">": false, "a b": false, "a\r\nb": false, "ä": false,
	} {
		if _, err := (Route{Service: "issuer", Operation: token}).subject(); (err == nil) != ok {
			t.Errorf("operation %q: %v", token, err)
		}
		if _, err := (Route{Service: token, Operation: "x"}).subject(); (err == nil) != ok {
			t.Errorf("service %q: %v", token, err)
		}
	}
}
