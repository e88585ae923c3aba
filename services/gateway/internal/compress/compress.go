// Package compress sends answers of more than a kilobyte in gzip to those who take it.
//
// Gzip and nothing else: every client has it, and at its fastest level it costs less
// than the answer did. Small answers fit one packet as they are.
//
// BREACH, which guesses a secret from the size of compressed answers, needs a victim's
// browser to ask again and again with the victim's credential and the attacker's text in
// the same answer as the secret. Here the credential is a header that no foreign page can
// make a browser send, as it would a cookie.
//
// An answer's ETag is the same compressed or not: it names the state of the resource,
// which is what If-Match asks about, and no answer is kept by caches.
package compress

import (
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
)

// smallest is the size in bytes from which an answer is compressed.
const smallest = 1 << 10

var writers = sync.Pool{New: func() any {
	w, err := gzip.NewWriterLevel(nil, gzip.BestSpeed)
	if err != nil {
		panic(err) // the level is one that exists
	}
	return w
}}

// Middleware compresses answers.
func Middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead {
			next.ServeHTTP(w, r)
			return
		}
		a := &answer{ResponseWriter: w, accepted: accepts(r.Header.Values("Accept-Encoding"))}
		next.ServeHTTP(a, r)
		// Not if the handler has panicked: half an answer must not look like a whole one.
		a.close()
	})
}

// answer keeps the beginning of an answer back until it is known whether it is worth the
// work.
type answer struct {
	http.ResponseWriter
	accepted bool
	status   int
	begun    bool // the header is sent
	held     []byte
	gzip     *gzip.Writer // nil if the answer goes out as it is
}

// WriteHeader implements [http.ResponseWriter].
func (a *answer) WriteHeader(status int) {
	if a.status != 0 {
		return
	}
	if status < http.StatusOK {
		a.ResponseWriter.WriteHeader(status)
		return
	}
	a.status = status
	length, err := strconv.Atoi(a.Header().Get("Content-Length"))
	if !a.worth() || err == nil && length < smallest {
		a.begin(false)
	}
}

// Write implements [http.ResponseWriter].
func (a *answer) Write(b []byte) (int, error) {
	if a.status == 0 {
		a.WriteHeader(http.StatusOK)
	}
	if !a.begun {
		if len(a.held)+len(b) < smallest {
			a.held = append(a.held, b...)
			return len(b), nil
		}
		a.begin(true)
	}
	if a.gzip != nil {
		return a.gzip.Write(b)
	}
	return a.ResponseWriter.Write(b)
}

// worth tells whether an answer of this kind becomes smaller and may be changed, and
// tells caches that others may get it in another form.
func (a *answer) worth() bool {
	h := a.Header()
	if a.status == http.StatusNoContent || a.status == http.StatusNotModified || a.status == http.StatusPartialContent ||
		h.Get("Content-Encoding") != "" || !text(h.Get("Content-Type")) {
		return false
	}
	h.Add("Vary", "Accept-Encoding")
	return a.accepted
}

func (a *answer) begin(compressed bool) {
	a.begun = true
	if compressed {
		a.Header().Set("Content-Encoding", "gzip")
		a.Header().Del("Content-Length")
		a.gzip, _ = writers.Get().(*gzip.Writer)
		a.gzip.Reset(a.ResponseWriter)
	}
	a.ResponseWriter.WriteHeader(a.status)
	held := a.held
	a.held = nil
	if len(held) == 0 {
		return
	}
	// A client that has gone is noticed at the next write.
	if a.gzip != nil {
		_, _ = a.gzip.Write(held)
	} else {
		_, _ = a.ResponseWriter.Write(held)
	}
}

// Flush sends what there is: an answer that comes bit by bit is compressed from its
// first.
func (a *answer) Flush() {
	if a.status == 0 {
		a.WriteHeader(http.StatusOK)
	}
	if !a.begun {
		a.begin(true)
	}
	if a.gzip != nil {
		_ = a.gzip.Flush()
	}
	_ = http.NewResponseController(a.ResponseWriter).Flush()
}

// Unwrap serves http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func (a *answer) close() {
	if a.status == 0 {
		return
	}
	if !a.begun {
		a.begin(false)
	}
	if a.gzip != nil {
		_ = a.gzip.Close()
		a.gzip.Reset(nil)
		writers.Put(a.gzip)
	}
}

// text tells whether something of a media type is one that becomes smaller.
func text(mediaType string) bool {
	kind, _, _ := strings.Cut(mediaType, ";")
	switch kind = strings.TrimSpace(kind); kind {
	case "application/json", "application/problem+json", "application/yaml", "application/x-ndjson":
		return true
	default:
		return strings.HasPrefix(kind, "text/")
	}
}

// accepts tells whether a client takes gzip (RFC 9110 section 12.5.3).
func accepts(lines []string) bool {
	any, found := false, false
	for _, line := range lines {
		for part := range strings.SplitSeq(line, ",") {
			coding, weight, _ := strings.Cut(part, ";")
			name, value, _ := strings.Cut(strings.TrimSpace(weight), "=")
			q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			wanted := !strings.EqualFold(strings.TrimSpace(name), "q") || err == nil && q > 0
			switch coding = strings.TrimSpace(coding); {
			case strings.EqualFold(coding, "gzip"), strings.EqualFold(coding, "x-gzip"):
				if !wanted {
					return false
				}
				found = true
			case coding == "*":
				any = wanted
			}
		}
	}
	return found || any
}
