// Package httpx is the little that every HTTP handler here shares: problem documents, decoding of bodies, middleware,
// and a server that is hard to misuse.
//
// Errors are RFC 9457 problem documents made from faults, with the members that clients of the older API read. What is
// not a fault is shown as an internal error and nothing more; its text goes to the access log, where WriteProblem
// leaves it. Middleware is meant to be stacked in this order: RequestID, Trace, Log, Recover, BodyLimit. Headers such as
// CORS and HSTS are the gateway's.
package httpx

import (
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/obs"
)

// Problem is the body of an error. Error, Message and RequestID are what clients of the older API read.
type Problem struct {
	Type      string        `json:"type"`
	Title     string        `json:"title"`
	Status    int           `json:"status"`
	Detail    string        `json:"detail"`
	Instance  string        `json:"instance,omitempty"`
	Code      fault.Code    `json:"code"`
	Error     string        `json:"error"`
	Message   string        `json:"message"`
	RequestID string        `json:"request_id,omitempty"`
	Errors    []fault.Field `json:"errors,omitempty"`
}

// Those who must wait and were not told how long.
const defaultRetryAfter = time.Second

// WriteProblem answers r with the problem that err is. It must be the first thing written to w.
func WriteProblem(w http.ResponseWriter, r *http.Request, err error) {
	f := fault.From(err)
	status := fault.HTTPStatus(f.Code)
	noteError(r.Context(), err)

	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	h.Del("Content-Length")
	h.Del("ETag")
	if status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests {
		h.Set("Retry-After", retryAfter(f.RetryAfter))
	}
	w.WriteHeader(status)
	title := http.StatusText(status)
	// The client is gone when this fails; there is nobody left to tell.
	_ = json.NewEncoder(w).Encode(Problem{
		Type:      "urn:certctl:problem:" + string(f.Code),
		Title:     title,
		Status:    status,
		Detail:    f.Message,
		Instance:  r.URL.Path,
		Code:      f.Code,
		Error:     title,
		Message:   f.Message,
		RequestID: obs.RequestID(r.Context()),
		Errors:    f.Fields,
	})
}

// retryAfter is in whole seconds, rounded up so that nobody comes early.
func retryAfter(d time.Duration) string {
	if d <= 0 {
		d = defaultRetryAfter
	}
	return strconv.Itoa(int(math.Ceil(d.Seconds())))
}

// WriteRequestError answers r, whose body or parameters could not be decoded, with what DecodeFault makes of err.
func WriteRequestError(w http.ResponseWriter, r *http.Request, err error) {
	WriteProblem(w, r, DecodeFault(err))
}

// WriteJSON answers with v as application/json, ended by a newline.
func WriteJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// The client is gone when this fails; there is nobody left to tell.
	_ = json.NewEncoder(w).Encode(v)
}

// NotFound answers a path that nobody serves.
func NotFound(w http.ResponseWriter, r *http.Request) {
	WriteProblem(w, r, fault.New(fault.NotFound, "there is nothing at %s", r.URL.Path))
}

// MethodNotAllowed answers a method that nothing at the path has.
func MethodNotAllowed(w http.ResponseWriter, r *http.Request) {
	WriteProblem(w, r, fault.New(fault.NotAllowed, "%s has no method %s", r.URL.Path, r.Method))
}
