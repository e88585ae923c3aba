// Package cors decides which web pages of other origins may use the API from a browser.
//
// None may, unless the operator lists their origin: then an answer bears no header at
// all, and the browser refuses the page. Nothing is ever allowed with credentials: a
// browser would send none anyway, for keys travel in the Authorization header, which a
// page has to know and set itself. That is why "*", which allows every page, gives no
// page anything that its user's key does not.
//
// Health, readiness and how to sign in tell nobody anything, and every page may read
// them, as deployed dashboards do.
package cors

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Any allows every origin.
const Any = "*"

const (
	methods = "GET, POST, PUT, DELETE, PATCH, OPTIONS"
	headers = "Content-Type, Authorization, X-Request-ID, If-Match, Idempotency-Key"
	exposed = "X-Request-ID, ETag, Retry-After, RateLimit, RateLimit-Policy, Idempotency-Replayed, Content-Disposition, WWW-Authenticate"
	// maxAge in seconds, for which browsers need not ask again.
	maxAge = "86400"
)

// public are the paths that every page may read.
var public = map[string]bool{"/health": true, "/api/v1/health": true, "/ready": true, "/api/v1/auth/info": true}

// Policy is which origins are allowed. The zero value allows none.
type Policy struct {
	any     bool
	origins []string
}

// Parse reads a list of origins, as browsers write them, or [Any].
func Parse(origins []string) (Policy, error) {
	var p Policy
	for _, o := range origins {
		switch u, err := url.Parse(o); {
		case o == "":
		case o == Any:
			p.any = true
		case err != nil || u.Scheme == "" || u.Host == "" || u.Scheme+"://"+u.Host != o || strings.ToLower(o) != o:
			return Policy{}, fmt.Errorf("%q is not an origin such as https://certctl.example.com: scheme, host and port in lower case, and nothing behind it", o)
		default:
			p.origins = append(p.origins, o)
		}
	}
	return p, nil
}

// Middleware tells browsers what is allowed, and answers what they ask beforehand.
func (p Policy) Middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		everybody := p.any || public[r.URL.Path]
		h := w.Header()
		if !everybody && len(p.origins) > 0 {
			// Also where the origin is not allowed or missing: another would be answered
			// otherwise, and whoever keeps answers has to know.
			h.Add("Vary", "Origin")
		}
		origin := r.Header.Get("Origin")
		switch {
		case everybody && (origin != "" || public[r.URL.Path]):
			h.Set("Access-Control-Allow-Origin", Any)
		case origin != "" && slices.Contains(p.origins, origin):
			h.Set("Access-Control-Allow-Origin", origin)
		default:
			next.ServeHTTP(w, r)
			return
		}
		if r.Method == http.MethodOptions && origin != "" && r.Header.Get("Access-Control-Request-Method") != "" {
			h.Set("Access-Control-Allow-Methods", methods)
			h.Set("Access-Control-Allow-Headers", headers)
			h.Set("Access-Control-Max-Age", maxAge)
			w.WriteHeader(http.StatusNoContent)
			return
		}
		h.Set("Access-Control-Expose-Headers", exposed)
		next.ServeHTTP(w, r)
	})
}
