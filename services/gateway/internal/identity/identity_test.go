package identity

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
)

// prefixed is a kind of credential that is known by how it begins.
type prefixed struct{ prefix, good string }

func (p prefixed) Mine(credential string) bool { return strings.HasPrefix(credential, p.prefix) }

func (p prefixed) Recognise(_ context.Context, credential string) (authn.Principal, error) {
	switch credential {
	case p.good:
		return authn.Principal{ID: credential, Kind: authn.KindUser}, nil
	case p.prefix + "away":
		return authn.Principal{}, fault.New(fault.Unavailable, "cannot look")
	}
	return authn.Principal{}, fault.New(fault.Unauthenticated, "%s is no good", p.prefix)
}

func request(header ...string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "http://127.0.0.1:8080/x", http.NoBody)
	for n := 0; n+1 < len(header); n += 2 {
		r.Header.Set(header[n], header[n+1])
	}
	return r
}

func TestChain_AsksTheKindThatACredentialIsOfAndNoOther(t *testing.T) {
	const secret = "the-configured-secret"
	chain := Chain{Configured(secret), prefixed{"a-", "a-good"}, prefixed{"a-good-b", "never asked"}, prefixed{"b-", "b-good"}}
	for header, want := range map[string]string{
		"Bearer a-good":          "a-good",
		"bearer  b-good ":        "b-good",
		"Bearer " + secret:       "key-configured",
		"Bearer " + secret + "x": "no kind that is accepted",
		"Bearer c-good":          "no kind that is accepted",
		"Bearer a-bad":           "a- is no good",
		"Bearer a-good-b":        "a- is no good",
		"Basic YTpi":             "must read: Bearer",
		"Bearer ":                "must read: Bearer",
		"Bearer":                 "must read: Bearer",
		"":                       "credential is needed",
	} {
		p, err := chain.Recognise(request("Authorization", header))
		if err == nil && p.ID != want || err != nil && (fault.CodeOf(err) != fault.Unauthenticated || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %+v, %v; want %s", header, p, err, want)
		}
	}
}

func TestAnybody_IsAnAdminUnlessItIsSomebody(t *testing.T) {
	anybody := Anybody{Chain{prefixed{"a-", "a-good"}}}
	for header, want := range map[string]string{
		"": "anonymous-admin", "Bearer a-stale": "anonymous-admin", "Basic YTpi": "anonymous-admin", "Bearer a-good": "a-good",
	} {
		if p, err := anybody.Recognise(request("Authorization", header)); err != nil || p.ID != want || want == "anonymous-admin" && !p.HasRole("admin") {
			t.Errorf("%q: %+v, %v", header, p, err)
		}
	}
	if _, err := anybody.Recognise(request("Authorization", "Bearer a-away")); fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("what cannot be looked up is taken for an admin: %v", err)
	}
}

// TestAnybody_RefusesWhatAnotherSiteHasCaused: any page that the user has open can send
// requests to his own machine.
func TestAnybody_RefusesWhatAnotherSiteHasCaused(t *testing.T) {
	for name, r := range map[string]*http.Request{
		"another origin":       request("Origin", "https://evil.example"),
		"another site":         request("Sec-Fetch-Site", "cross-site"),
		"a name that is moved": httptest.NewRequest(http.MethodGet, "http://evil.example:8080/x", http.NoBody),
	} {
		if p, err := (Anybody{}).Recognise(r); fault.CodeOf(err) != fault.Forbidden {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
	for _, host := range []string{"localhost:8080", "127.0.0.1:8080", "[::1]:8080", "[::1]", "LOCALHOST"} {
		r := request("Origin", "http://"+host, "Sec-Fetch-Site", "same-origin")
		r.Host = host
		if _, err := (Anybody{}).Recognise(r); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
}
