package cors

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func ask(t *testing.T, origins []string, method, path, origin string) *httptest.ResponseRecorder {
	t.Helper()
	p, err := Parse(origins)
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(method, path, nil)
	if origin != "" {
		r.Header.Set("Origin", origin)
	}
	if method == http.MethodOptions {
		r.Header.Set("Access-Control-Request-Method", "POST")
		r.Header.Set("Access-Control-Request-Headers", "authorization, if-match")
	}
	w := httptest.NewRecorder()
	p.Middleware(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })).ServeHTTP(w, r)
	return w
}

func TestPolicy_AllowsExactlyTheOriginsThatAreListed(t *testing.T) {
	const listed, other = "https://ops.example.com", "https://evil.example.com"
	const things, health = "/api/v1/certificates", "/health"
	for _, c := range []struct {
		name                 string
		origins              []string
		path, origin         string
		allowed, vary, shown string
	}{
		{"nothing configured", nil, things, other, "", "", ""},
		{"nothing configured, empty setting", []string{""}, things, other, "", "", ""},
		{"another origin", []string{listed}, things, other, "", "Origin", ""},
		{"a longer host", []string{listed}, things, listed + ".evil.example", "", "Origin", ""},
		{"another scheme", []string{listed}, things, "http://ops.example.com", "", "Origin", ""},
		{"a listed one", []string{"http://localhost:5173", listed}, things, listed, listed, "Origin", exposed},
		{"no browser", []string{listed}, things, "", "", "Origin", ""},
		{"the null origin", []string{listed}, things, "null", "", "Origin", ""},
		{"all", []string{"*"}, things, other, "*", "", exposed},
		{"health", nil, health, other, "*", "", exposed},
		{"health without origin", nil, health, "", "*", "", exposed},
	} {
		w := ask(t, c.origins, "GET", c.path, c.origin)
		h := w.Header()
		if w.Code != http.StatusTeapot || h.Get("Access-Control-Allow-Origin") != c.allowed || h.Get("Vary") != c.vary ||
			h.Get("Access-Control-Expose-Headers") != c.shown || h.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%s: %d %v", c.name, w.Code, h)
		}
	}
}

func TestPolicy_AnswersPreflightsOfAllowedOriginsBeforeAnythingElse(t *testing.T) {
	w := ask(t, []string{"https://ops.example.com"}, "OPTIONS", "/api/v1/certificates", "https://ops.example.com")
	if h := w.Header(); w.Code != http.StatusNoContent || h.Get("Access-Control-Max-Age") != "86400" || h.Get("Access-Control-Allow-Methods") != methods ||
		h.Get("Access-Control-Allow-Headers") != headers || h.Get("Vary") != "Origin" {
		t.Errorf("%d %v", w.Code, h)
	}
	w = ask(t, []string{"https://ops.example.com"}, "OPTIONS", "/api/v1/certificates", "https://evil.example.com")
	if h := w.Header(); w.Code != http.StatusTeapot || h.Get("Access-Control-Allow-Methods") != "" {
		t.Errorf("of another origin: %d %v", w.Code, h)
	}
}

func TestParse_RefusesWhatNoBrowserSends(t *testing.T) {
	for _, o := range []string{"ops.example.com", "https://ops.example.com/", "https://*.example.com/x", "HTTPS://ops.example.com", "https://a@ops.example.com", "null"} {
		if _, err := Parse([]string{o}); err == nil {
			t.Errorf("%s is taken for an origin", o)
		}
	}
}
