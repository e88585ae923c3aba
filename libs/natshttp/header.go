package natshttp

import (
	"net/http"
	"net/textproto"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/httpx"
)

// What is not part of the HTTP message travels in headers of these names, which no HTTP header can have.
const (
	controlPrefix = "Natshttp-"

	headerRequest = "Natshttp-Request" // see requestLine
	headerStatus  = "Natshttp-Status"
	headerStream  = "Natshttp-Stream" // subject to ask for chunks at
	headerChunk   = "Natshttp-Chunk"  // number of a chunk, from 1
	headerEnd     = "Natshttp-End"    // the last chunk: endComplete or endAborted
)

const (
	endComplete = "complete"
	endAborted  = "aborted"
)

// requestIDHeader is httpx.RequestIDHeader as it stands in a header map.
var requestIDHeader = textproto.CanonicalMIMEHeaderKey(httpx.RequestIDHeader)

// dropped are headers that concern one connection (RFC 9110, 7.6.1), that are credentials, or that NATS gives a meaning.
var dropped = map[string]bool{
	"Connection": true, "Keep-Alive": true, "Proxy-Connection": true, "Proxy-Authenticate": true,
	"Proxy-Authorization": true, "Te": true, "Trailer": true, "Transfer-Encoding": true, "Upgrade": true,
	"Authorization": true, "Cookie": true,
	"Status": true, "Description": true,
	authn.Header: true, requestIDHeader: true,
}

// filtered returns the headers of h that travel, with room for extra more. The values are shared with h.
func filtered(h http.Header, extra int) nats.Header {
	out := make(nats.Header, len(h)+extra)
	for name, values := range h {
		if len(values) > 0 && !dropped[name] && !strings.HasPrefix(name, controlPrefix) && !strings.HasPrefix(name, "Nats-") {
			out[name] = values
		}
	}
	for _, list := range h["Connection"] {
		for name := range strings.SplitSeq(list, ",") {
			delete(out, textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name)))
		}
	}
	return out
}

// checkHeader refuses what would change the meaning of a message's header block. net/http refuses the same when it
// reads or writes a connection, but a request that was made by a program has passed neither.
func checkHeader(h nats.Header) error {
	for name, values := range h {
		if name == "" || strings.ContainsAny(name, ": \t\r\n\x00") {
			return fault.New(fault.Invalid, "malformed header name %q", name)
		}
		for _, v := range values {
			if strings.ContainsAny(v, "\r\n\x00") {
				return fault.New(fault.Invalid, "header %s contains a line break", name)
			}
		}
	}
	return nil
}

// oneLine replaces line breaks in the values of a response's headers, as net/http does.
var oneLine = strings.NewReplacer("\r", " ", "\n", " ", "\x00", " ")

func cleanHeader(h nats.Header) {
	for name, values := range h {
		if name == "" || strings.ContainsAny(name, ": \t\r\n\x00") {
			delete(h, name)
			continue
		}
		for i, v := range values {
			if strings.ContainsAny(v, "\r\n\x00") {
				clean := append([]string(nil), values...)
				clean[i] = oneLine.Replace(v)
				h[name], values = clean, clean
			}
		}
	}
}

func get(h nats.Header, name string) string {
	if v := h[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// toHTTP returns h as the header of an HTTP message, without what is not part of one.
func toHTTP(h nats.Header) http.Header {
	for name := range h {
		if strings.HasPrefix(name, controlPrefix) || strings.HasPrefix(name, "Nats-") {
			delete(h, name)
		}
	}
	if h == nil {
		return http.Header{}
	}
	return http.Header(h)
}
