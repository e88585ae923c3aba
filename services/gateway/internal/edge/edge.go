// Package edge is where the outside meets certctl: it recognises callers, decides
// whether they may use an operation, bounds what they send, has the owner answer, and
// sees that every call is on record.
//
// It is built from the table of operations that the contract generates, so it serves
// what the contract says and, beside that, the files of the dashboard. A call that changes something is answered
// only when its audit record is durable; reads are recorded in the background, and the
// last second of them may be lost in a crash.
package edge

import (
	"log/slog"
	"net/http"

	"github.com/go-chi/chi/v5"

	"github.com/certctl/certctl/contracts/httpapi"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/httpx"
	"github.com/certctl/certctl/services/gateway/internal/address"
	"github.com/certctl/certctl/services/gateway/internal/compress"
	"github.com/certctl/certctl/services/gateway/internal/cors"
	"github.com/certctl/certctl/services/gateway/internal/dashboard"
	"github.com/certctl/certctl/services/gateway/internal/idempotency"
	"github.com/certctl/certctl/services/gateway/internal/ratelimit"
	"github.com/certctl/certctl/services/gateway/internal/validation"
)

// MaxBody is the largest body accepted, in bytes. With its headers it must fit one
// message of the bus, which holds 1 MiB.
const MaxBody = 768 << 10

// Edge answers the operations of the contract.
type Edge struct {
	// Keys recognises callers.
	Keys Recogniser
	// Records takes what is to be on record.
	Records Recorder
	// Answer holds, by operation id, the handlers of what the gateway answers itself or
	// composes of several owners' answers.
	Answer map[string]http.Handler
	// Owners carries a request to the one service that owns its operation.
	Owners http.RoundTripper
	// RelyingParty answers what relying parties ask for, if the revocation service runs
	// in this process; else it has a listener of its own. Those calls need no key, are
	// many, change nothing, and are not put on record.
	RelyingParty http.Handler
	// Metrics answers /metrics. Nil serves none.
	Metrics http.Handler
	// Dashboard is the web application. Nil serves none.
	Dashboard *dashboard.Dashboard
	// Proxies are those whose word about their callers' addresses is taken.
	Proxies address.Proxies
	// Limits bounds how often a caller may ask. Nil bounds nothing.
	Limits *ratelimit.Limiter
	// Origins are those whose pages may use the API from a browser.
	Origins cors.Policy
	// Repeats sees that calls with an Idempotency-Key are carried out once. Nil does not.
	Repeats *idempotency.Desk
	// Requests holds requests to the contract. Nil lets all of them through.
	Requests *validation.Validator
	Clock    clock.Clock
	Log      *slog.Logger
}

// Handler returns the handler of everything that the contract names, and of the dashboard.
func (e *Edge) Handler() http.Handler {
	r := chi.NewRouter()
	r.Use(httpx.RequestID, httpx.Trace, httpx.Log(e.Log), httpx.Recover(e.Log), secure, e.Origins.Middleware, compress.Middleware)
	for _, op := range httpapi.Operations {
		if op.Services[0] == "revocation" {
			if e.RelyingParty != nil {
				r.Method(op.Method, op.Path, e.RelyingParty)
			}
			continue
		}
		r.Method(op.Method, op.Path, e.operation(op, e.handlerOf(op)))
	}
	if e.Metrics != nil {
		r.Method(http.MethodGet, "/metrics", e.operation(httpapi.Operation{ID: "getMetrics", Method: http.MethodGet, Permission: "metrics:read"}, e.Metrics))
	}
	r.NotFound(e.Dashboard.Or(e.operation(httpapi.Operation{Permission: "open"}, http.HandlerFunc(httpx.NotFound))).ServeHTTP)
	r.MethodNotAllowed(e.operation(httpapi.Operation{Permission: "open"}, notAllowed(r)).ServeHTTP)
	return r
}

func (e *Edge) handlerOf(op httpapi.Operation) http.Handler {
	h, ok := e.Answer[op.ID]
	if !ok {
		h = Forward(e.Owners, op.Services[0], op.ID)
	}
	if op.Method == http.MethodPost {
		// What creates or triggers; the other methods do nothing more when repeated.
		h = e.Repeats.Once(op.ID, h)
	}
	return h
}

// notAllowed answers a method that a path has not, and says which it has (RFC 9110
// section 15.5.6).
func notAllowed(routes chi.Routes) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
			if routes.Match(chi.NewRouteContext(), method, r.URL.Path) {
				w.Header().Add("Allow", method)
			}
		}
		httpx.MethodNotAllowed(w, r)
	})
}

// secure sets what keeps a browser from doing with an answer what it was not meant for.
func secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("Cache-Control", "no-store")
		if r.TLS != nil {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		next.ServeHTTP(w, r)
	})
}
