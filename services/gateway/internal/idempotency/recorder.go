package idempotency

import (
	"bytes"
	"net/http"
)

// recorder holds an answer until it is noted.
type recorder struct {
	header      http.Header
	status      int
	body        bytes.Buffer
	undelivered bool
}

func (r *recorder) code() int {
	if r.status == 0 {
		return http.StatusOK
	}
	return r.status
}

// Header implements [http.ResponseWriter].
func (r *recorder) Header() http.Header { return r.header }

// WriteHeader implements [http.ResponseWriter].
func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
}

// Write implements [http.ResponseWriter].
func (r *recorder) Write(b []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	return r.body.Write(b)
}

// Undelivered tells that the call has not reached its owner.
func (r *recorder) Undelivered() { r.undelivered = true }
