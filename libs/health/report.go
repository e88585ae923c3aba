package health

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/certctl/certctl/libs/fault"
)

// Report is the answer to one of a Registry's questions. Its JSON is what /health and /ready show.
type Report struct {
	// Status is a word for OK: "healthy" or "unhealthy", "ready" or "unavailable".
	Status string   `json:"status"`
	Checks []Result `json:"checks,omitempty"`
	OK     bool     `json:"-"`
}

// Result is the outcome of one check. Error is fit for strangers: it is the message of a fault, or says no more than
// that the check fails; the log has the rest.
type Result struct {
	Name       string `json:"name"`
	OK         bool   `json:"ok"`
	Error      string `json:"error,omitempty"`
	DurationMS int64  `json:"duration_ms"`

	err error
}

func result(name string, err error, took time.Duration) Result {
	r := Result{Name: name, OK: err == nil, DurationMS: took.Milliseconds(), err: err}
	if err != nil {
		r.Error = fault.From(err).Message
	}
	return r
}

// LiveHandler answers /health: 200 or 503 with the report.
func (r *Registry) LiveHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { write(w, r.Live(req.Context())) })
}

// ReadyHandler answers /ready: 200 or 503 with the report.
func (r *Registry) ReadyHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { write(w, r.Check(req.Context())) })
}

func write(w http.ResponseWriter, report Report) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if !report.OK {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	// The client is gone when this fails; there is nobody left to tell.
	_ = json.NewEncoder(w).Encode(report)
}
