package natshttp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/obs"
)

// exchange is a request that has come in.
type exchange struct {
	req   *http.Request
	reply string
	// cancel ends the request's context. It is called when the request is done with.
	cancel context.CancelFunc
	// patience ends the context of a caller who only said how long it waits for the response to begin; nil when the
	// caller gave a deadline of the whole.
	patience *time.Timer
	// refusal is why the request is not to be handled, if it is not.
	refusal error
}

// newExchange makes the HTTP request that a message is. Its context ends when the caller no longer waits, and when
// parent does, and carries who asks, the request's id and its trace.
func newExchange(parent context.Context, m *nats.Msg, principals *principals) (*exchange, error) {
	if m.Reply == "" {
		return nil, errors.New("no reply subject")
	}
	line, err := parseRequestLine(get(m.Header, headerRequest))
	if err != nil {
		return nil, err
	}
	u, err := url.ParseRequestURI(line.target)
	if err != nil {
		return nil, fmt.Errorf("request target: %w", err)
	}
	x := &exchange{reply: m.Reply}
	header := toHTTP(m.Header)
	ctx := obs.ExtractHTTP(parent, header)
	if id := header[requestIDHeader]; len(id) > 0 {
		ctx = obs.WithRequestID(ctx, id[0])
	}
	if v := header[authn.Header]; len(v) > 0 {
		var p authn.Principal
		if p, x.refusal = principals.decode(v[0]); x.refusal == nil {
			ctx = authn.NewContext(ctx, p)
		}
	}
	ctx = x.bound(ctx, line)
	req := &http.Request{
		Method: line.method, URL: u, RequestURI: line.target, Host: line.host,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: header, ContentLength: int64(len(m.Data)), Body: http.NoBody,
		RemoteAddr: "nats",
	}
	if len(m.Data) > 0 {
		req.Body = io.NopCloser(bytes.NewReader(m.Data))
	}
	x.req = req.WithContext(ctx)
	return x, nil
}

func (x *exchange) bound(ctx context.Context, line requestLine) context.Context {
	if line.deadline {
		ctx, x.cancel = context.WithTimeout(ctx, line.wait)
		return ctx
	}
	ctx, cancel := context.WithCancelCause(ctx)
	x.patience = time.AfterFunc(line.wait, func() { cancel(context.DeadlineExceeded) })
	x.cancel = func() {
		x.patience.Stop()
		cancel(context.Canceled)
	}
	return ctx
}

// maxPrincipals bounds what principals remembers. A header is about 200 bytes.
const maxPrincipals = 4096

// principals remembers what headers say, because decoding one is a tenth of the work of a small request and callers
// come again. A Principal is not changed once it was made, so it can be shared.
type principals struct {
	mu    sync.RWMutex
	known map[string]authn.Principal // guarded by mu
}

func (c *principals) decode(header string) (authn.Principal, error) {
	c.mu.RLock()
	p, ok := c.known[header]
	c.mu.RUnlock()
	if ok {
		return p, nil
	}
	p, err := authn.FromHeader(header)
	if err != nil {
		return p, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil || len(c.known) >= maxPrincipals {
		c.known = make(map[string]authn.Principal)
	}
	c.known[header] = p
	return p, nil
}
