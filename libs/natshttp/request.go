package natshttp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/httpx"
	"github.com/certctl/certctl/libs/obs"
)

// newRequest makes the HTTP request that a message is. The context ends when the caller no longer waits, when parent
// does, and when the returned function is called. A caller that gave only its patience is not counted on for longer
// than that until the response begins; see response.begin.
func newRequest(parent context.Context, m *nats.Msg) (*http.Request, context.CancelFunc, error) {
	if m.Reply == "" {
		return nil, nil, errors.New("no reply subject")
	}
	method, uri := get(m.Header, headerMethod), get(m.Header, headerURI)
	if method == "" {
		return nil, nil, errors.New("no method")
	}
	u, err := url.ParseRequestURI(uri)
	if err != nil {
		return nil, nil, fmt.Errorf("request target: %w", err)
	}
	ctx, cancel, err := requestContext(parent, m.Header)
	if err != nil {
		return nil, nil, err
	}
	req := &http.Request{
		Method: method, URL: u, RequestURI: uri, Host: get(m.Header, headerHost),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		ContentLength: int64(len(m.Data)), Body: http.NoBody,
		RemoteAddr: "nats",
	}
	if len(m.Data) > 0 {
		req.Body = io.NopCloser(bytes.NewReader(m.Data))
	}
	req.Header = toHTTP(m.Header)
	return req.WithContext(ctx), cancel, nil
}

// patience is the timer of a caller that only says how long it waits for the response to begin.
type patienceKey struct{}

func requestContext(parent context.Context, h nats.Header) (context.Context, context.CancelFunc, error) {
	if v := get(h, headerDeadline); v != "" {
		d, err := parseMicroseconds(v)
		if err != nil {
			return nil, nil, err
		}
		ctx, cancel := context.WithTimeout(parent, d)
		return ctx, cancel, nil
	}
	d := defaultPatience
	if v := get(h, headerPatience); v != "" {
		var err error
		if d, err = parseMicroseconds(v); err != nil {
			return nil, nil, err
		}
	}
	ctx, cancel := context.WithCancelCause(parent)
	timer := time.AfterFunc(d, func() { cancel(context.DeadlineExceeded) })
	ctx = context.WithValue(ctx, patienceKey{}, timer)
	return ctx, func() {
		timer.Stop()
		cancel(context.Canceled)
	}, nil
}

func parseMicroseconds(v string) (time.Duration, error) {
	us, err := strconv.ParseInt(v, 10, 64)
	if err != nil || us <= 0 || us > (24*time.Hour).Microseconds() {
		return 0, fmt.Errorf("%q is no time to wait", v)
	}
	return time.Duration(us) * time.Microsecond, nil
}

// identify puts who asks, and under which request id and trace, into the request's context.
func identify(req *http.Request) (*http.Request, error) {
	ctx := obs.ExtractHTTP(req.Context(), req.Header)
	if id := req.Header[http.CanonicalHeaderKey(httpx.RequestIDHeader)]; len(id) > 0 {
		ctx = obs.WithRequestID(ctx, id[0])
	}
	if v := req.Header[authn.Header]; len(v) > 0 {
		p, err := authn.FromHeader(v[0])
		if err != nil {
			return req.WithContext(ctx), err
		}
		ctx = authn.NewContext(ctx, p)
	}
	return req.WithContext(ctx), nil
}
