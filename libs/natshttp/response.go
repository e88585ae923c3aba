package natshttp

import (
	"context"
	"net/http"
	"strconv"

	"github.com/nats-io/nats.go"
)

const (
	// maxSingle is the largest body that goes as one message with the response's header.
	maxSingle = 512 << 10
	chunkSize = 128 << 10
)

// response is the http.ResponseWriter of one request. Only the handler's goroutine uses it.
type response struct {
	*exchange
	s *server

	header      http.Header // the handler's to change
	wroteHeader bool
	status      int
	sent        http.Header // header as it was at WriteHeader
	buf         []byte
	stream      *stream // nil until the response has become one
	aborted     bool
	err         error // why the response could not be sent
}

func newResponse(s *server, x *exchange) *response {
	return &response{exchange: x, s: s, header: make(http.Header, 4)}
}

// Header implements http.ResponseWriter.
func (w *response) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter. Informational responses are not sent.
func (w *response) WriteHeader(status int) {
	if w.wroteHeader || status < 200 {
		return
	}
	w.wroteHeader, w.status, w.sent = true, status, w.header.Clone()
}

// Write implements http.ResponseWriter. Once the response is a stream it waits for the reader.
func (w *response) Write(p []byte) (int, error) {
	if !w.wroteHeader {
		w.WriteHeader(http.StatusOK)
	}
	if !w.hasBody() {
		if w.req.Method == http.MethodHead {
			return len(p), nil
		}
		return 0, http.ErrBodyNotAllowed
	}
	if w.err != nil {
		return 0, w.err
	}
	if w.stream == nil {
		if len(w.buf)+len(p) <= maxSingle {
			w.buf = append(w.buf, p...)
			return len(p), nil
		}
		w.begin()
	}
	for rest := p; w.err == nil && len(rest) > 0; {
		n := min(len(rest), max(chunkSize-len(w.buf), 0))
		w.buf, rest = append(w.buf, rest[:n]...), rest[n:]
		w.sendDown(chunkSize)
	}
	if w.err != nil {
		return 0, w.err
	}
	return len(p), nil
}

// sendDown sends chunks until less than limit bytes are left.
func (w *response) sendDown(limit int) {
	for w.err == nil && len(w.buf) >= limit {
		n := min(len(w.buf), chunkSize)
		if w.err = w.stream.send(w.req.Context(), w.buf[:n], ""); w.err != nil {
			w.cancel()
		}
		w.buf = append(w.buf[:0], w.buf[n:]...)
	}
}

// Flush implements http.Flusher.
func (w *response) Flush() { _ = w.FlushError() }

// FlushError sends what has been written, for http.ResponseController. From here on the response is a stream.
func (w *response) FlushError() error {
	if !w.wroteHeader {
		w.WriteHeader(http.StatusOK)
	}
	if !w.hasBody() {
		return nil
	}
	if w.stream == nil && w.err == nil {
		w.begin()
	}
	w.sendDown(1)
	return w.err
}

func (w *response) hasBody() bool {
	return w.req.Method != http.MethodHead && w.status != http.StatusNoContent && w.status != http.StatusNotModified
}

// begin sends the header with the first chunk and makes the response a stream. From now on the caller is listening, so
// its patience is no longer measured; that of its deadline is.
func (w *response) begin() {
	if w.patience != nil {
		w.patience.Stop()
	}
	if w.req.Context().Err() != nil {
		w.err = context.Cause(w.req.Context())
		return
	}
	w.stream = w.s.streams.open(w.req.Context(), w.cancel)
	first := w.buf[:min(len(w.buf), chunkSize)]
	h := w.head(first)
	h[headerStream] = []string{w.stream.subject}
	if w.err = w.s.nc.PublishMsg(&nats.Msg{Subject: w.reply, Header: h, Data: first}); w.err != nil {
		w.cancel()
	}
	w.buf = w.buf[len(first):]
}

// head returns the header of the response's first message.
func (w *response) head(body []byte) nats.Header {
	h := filtered(w.sent, 3)
	if len(h["Content-Type"]) == 0 && len(body) > 0 {
		h["Content-Type"] = []string{http.DetectContentType(body)}
	}
	cleanHeader(h)
	h[headerStatus] = []string{strconv.Itoa(w.status)}
	return h
}

// finish sends what is left when the handler has returned.
func (w *response) finish() {
	if !w.wroteHeader {
		w.WriteHeader(http.StatusOK)
	}
	switch {
	case w.stream != nil:
		w.finishStream()
	case w.aborted:
		h := nats.Header{headerEnd: {endAborted}}
		w.err = w.s.nc.PublishMsg(&nats.Msg{Subject: w.reply, Header: h})
	case w.err == nil:
		w.err = w.s.nc.PublishMsg(&nats.Msg{Subject: w.reply, Header: w.head(w.buf), Data: w.buf})
	}
}

func (w *response) finishStream() {
	defer w.s.streams.close(w.stream)
	if w.err == nil && !w.aborted {
		w.sendDown(chunkSize)
	}
	if w.err == nil && !w.aborted {
		w.err = w.stream.send(w.req.Context(), w.buf, endComplete)
		return
	}
	// The reader may have gone, and then hears nothing of this either.
	_ = w.stream.send(w.req.Context(), nil, endAborted)
}

// wrong says what was wrong with the response, for the statistics: an answer of the service's own fault, or none.
func (w *response) wrong() string {
	switch {
	case w.aborted:
		return "response broken off"
	case w.err != nil:
		return w.err.Error()
	case w.status >= http.StatusInternalServerError:
		return http.StatusText(w.status)
	default:
		return ""
	}
}
