package dashboard_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/certctl/certctl/services/gateway/internal/dashboard"
)

var built = fstest.MapFS{
	"index.html":        {Data: []byte("<!doctype html><title>certctl</title>")},
	"favicon.svg":       {Data: []byte("<svg/>")},
	"assets/app-a1.js":  {Data: []byte("export {}")},
	"assets/app-a1.css": {Data: []byte("body{}")},
}

func served(t *testing.T, method, path string, header ...string) *http.Response {
	t.Helper()
	d, err := dashboard.Read(built)
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequestWithContext(t.Context(), method, path, nil)
	r.Header.Set("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	d.Or(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })).ServeHTTP(w, r)
	return w.Result()
}

func TestDashboard_AnswersForItsFilesAndPages(t *testing.T) {
	for _, c := range []struct{ path, contentType, cache string }{
		{"/", "text/html; charset=utf-8", "no-cache"},
		{"/index.html", "text/html; charset=utf-8", "no-cache"},
		{"/issuers/iss-local", "text/html; charset=utf-8", "no-cache"},
		{"/favicon.svg", "image/svg+xml", "no-cache"},
		{"/assets/app-a1.js", "text/javascript; charset=utf-8", "public, max-age=31536000, immutable"},
		{"/assets/app-a1.css", "text/css; charset=utf-8", "public, max-age=31536000, immutable"},
	} {
		got := served(t, http.MethodGet, c.path)
		h := got.Header
		if got.StatusCode != http.StatusOK || h.Get("Content-Type") != c.contentType || h.Get("Cache-Control") != c.cache {
			t.Errorf("%s: %d %s, %s", c.path, got.StatusCode, h.Get("Content-Type"), h.Get("Cache-Control"))
		}
		if csp := h.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'self'") || !strings.Contains(csp, "frame-ancestors 'none'") ||
			strings.Contains(csp, "unsafe-eval") {
			t.Errorf("%s: policy %q", c.path, csp)
		}
	}
}

func TestDashboard_LeavesTheRestAlone(t *testing.T) {
	for _, c := range []struct{ method, path, accept string }{
		{http.MethodGet, "/api/v1/nothing", "text/html"},
		{http.MethodGet, "/wp-login.php", "text/html"},
		{http.MethodGet, "/assets/app-b2.js", "text/html"},
		{http.MethodGet, "/issuers", "application/json"},
		{http.MethodGet, "/issuers", ""},
		{http.MethodPost, "/", "text/html"},
		{http.MethodGet, "/../secret.txt", "text/html"},
	} {
		if got := served(t, c.method, c.path, "Accept", c.accept); got.StatusCode != http.StatusTeapot {
			t.Errorf("%s %s for %q: %d", c.method, c.path, c.accept, got.StatusCode)
		}
	}
}

func TestDashboard_IsNotSentAgainUnchanged(t *testing.T) {
	first := served(t, http.MethodGet, "/")
	if again := served(t, http.MethodGet, "/issuers", "If-None-Match", first.Header.Get("ETag")); again.StatusCode != http.StatusNotModified {
		t.Errorf("status %d", again.StatusCode)
	}
}

func TestRead_OfAGatewayWithoutADashboard(t *testing.T) {
	for name, files := range map[string]fstest.MapFS{"nothing": {}, "no page": {"assets/app.js": {Data: []byte("x")}}} {
		d, err := dashboard.Read(files)
		if err != nil || d != nil {
			t.Errorf("%s: %v, %v", name, d, err)
		}
	}
	w := httptest.NewRecorder()
	(*dashboard.Dashboard)(nil).Or(http.NotFoundHandler()).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
	if w.Code != http.StatusNotFound {
		t.Errorf("status %d", w.Code)
	}
}
