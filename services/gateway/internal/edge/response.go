package edge

import (
	"bytes"
	"net/http"
)

// response passes an answer through and notes its status, or holds it back until it is
// released.
type response struct {
	http.ResponseWriter
	hold   bool
	status int
	held   bytes.Buffer
}

func (r *response) code() int {
	if r.status == 0 {
		return http.StatusOK
	}
	return r.status
}

// WriteHeader implements [http.ResponseWriter].
func (r *response) WriteHeader(status int) {
	if r.status != 0 {
		return
	}
	r.status = status
	if !r.hold {
		r.ResponseWriter.WriteHeader(status)
	}
}

// Write implements [http.ResponseWriter].
func (r *response) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.WriteHeader(http.StatusOK)
	}
	if r.hold {
		return r.held.Write(b)
	}
	return r.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection of an answer that is not
// held.
func (r *response) Unwrap() http.ResponseWriter {
	if r.hold {
		return nil
	}
	return r.ResponseWriter
}

// release sends what was held. The error of a caller that has gone is of no use.
func (r *response) release() {
	r.ResponseWriter.WriteHeader(r.code())
	_, _ = r.ResponseWriter.Write(r.held.Bytes())
}
