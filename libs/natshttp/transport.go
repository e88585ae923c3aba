package natshttp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/obs"
)

const (
	// MaxRequestBody is the largest body of a request, in bytes. Together with the headers it fits NATS's default
	// payload of 1 MiB.
	MaxRequestBody = 1_000_000

	defaultPatience = 2 * time.Second
)

// Route says which service answers a request, and as which operation.
type Route struct {
	Service, Operation string
	// Patience is how long the response may take to begin where the context has no deadline; zero is 2 s.
	Patience time.Duration
}

func (r Route) patience() time.Duration {
	if r.Patience > 0 {
		return r.Patience
	}
	return defaultPatience
}

func (r Route) subject() (string, error) {
	if !isToken(r.Service) || !isToken(r.Operation) {
		return "", fmt.Errorf("request has no valid route (service %q, operation %q)", r.Service, r.Operation)
	}
	return subjectPrefix(r.Service) + r.Operation, nil
}

func subjectPrefix(service string) string { return "svc." + service + ".v1." }

// isToken reports whether s is one literal token of a subject, and not one of those that begin with an underscore, which
// are the package's own.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-'
		if !letter && (c != '_' || i == 0) {
			return false
		}
	}
	return s != ""
}

type routeKey struct{}

// WithRoute returns a context that sends requests made with it to r.
func WithRoute(ctx context.Context, r Route) context.Context {
	return context.WithValue(ctx, routeKey{}, r)
}

// RouteOf returns the route of a request's context, as a RoundTripper that stands in for a Transport needs it.
func RouteOf(ctx context.Context) (Route, bool) {
	r, ok := ctx.Value(routeKey{}).(Route)
	return r, ok
}

// ErrUndelivered is the cause of an error if the request has certainly not reached the service.
var ErrUndelivered = errors.New("the request was not delivered")

// Transport is an http.RoundTripper over NATS. It is safe for concurrent use.
//
// Its errors are faults: Unavailable when nobody answers, TooLarge or Invalid when the request cannot be sent; the
// error of the request's own context is that context's. A response of any status is no error.
type Transport struct {
	nc *nats.Conn
}

// NewTransport returns a transport over nc. A request whose context has no deadline waits 2 s for its response to begin,
// or as long as its route says, and then as long as the response lasts.
func NewTransport(nc *nats.Conn) *Transport { return &Transport{nc: nc} }

// RoundTrip sends a request to the service that its context's route names. The scheme and host of its URL are not used.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		defer req.Body.Close()
	}
	ctx := req.Context()
	route, _ := ctx.Value(routeKey{}).(Route)
	subject, err := route.subject()
	if err != nil {
		return nil, err
	}
	deadline, bounded := ctx.Deadline()
	timeout := route.patience()
	if bounded {
		timeout = time.Until(deadline)
	}
	msg, err := t.message(req, subject, timeout, bounded)
	if err != nil {
		return nil, err
	}
	// A message that is sent while the connection is down would only wait for its deadline.
	if !t.nc.IsConnected() {
		return nil, fault.Wrap(ErrUndelivered, fault.Unavailable, "message bus is not connected")
	}
	wait := ctx
	if !bounded {
		var cancel context.CancelFunc
		wait, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	reply, err := t.nc.RequestMsgWithContext(wait, msg)
	if err != nil {
		return nil, t.failure(ctx, route, err)
	}
	return t.response(req, route, reply)
}

func (t *Transport) message(req *http.Request, subject string, wait time.Duration, bounded bool) (*nats.Msg, error) {
	body, err := readBody(req)
	if err != nil {
		return nil, err
	}
	ctx := req.Context()
	h := filtered(req.Header, 4)
	// The values share one array, because each request makes them.
	values := make([]string, 0, 3)
	set := func(name, value string) {
		values = append(values, value)
		h[name] = values[len(values)-1 : len(values) : len(values)]
	}
	line := requestLine{method: methodOf(req), host: req.Host, target: req.URL.RequestURI(), wait: wait, deadline: bounded}
	set(headerRequest, line.String())
	if id := obs.RequestID(ctx); id != "" {
		set(requestIDHeader, id)
	}
	if p := authn.FromContext(ctx); p.Kind != "" {
		set(authn.Header, authn.ToHeader(p))
	}
	obs.InjectHTTP(ctx, http.Header(h))
	if err := checkHeader(h); err != nil {
		return nil, err
	}
	if strings.ContainsAny(line.method, " ") || strings.ContainsAny(line.host, " ") || strings.ContainsAny(line.target, " ") {
		return nil, fault.New(fault.Invalid, "malformed request target or method")
	}
	msg := &nats.Msg{Subject: subject, Header: h, Data: body}
	if limit := t.nc.MaxPayload(); limit > 0 && int64(msg.Size()) > limit {
		return nil, tooLarge()
	}
	return msg, nil
}

func methodOf(req *http.Request) string {
	if req.Method == "" {
		return http.MethodGet
	}
	return req.Method
}

func tooLarge() error {
	return fault.New(fault.TooLarge, "the request is larger than %d bytes", MaxRequestBody)
}

func readBody(req *http.Request) ([]byte, error) {
	if req.Body == nil || req.Body == http.NoBody {
		return nil, nil
	}
	if req.ContentLength > MaxRequestBody {
		return nil, tooLarge()
	}
	var buf bytes.Buffer
	if req.ContentLength > 0 {
		buf.Grow(int(req.ContentLength) + bytes.MinRead)
	}
	n, err := buf.ReadFrom(io.LimitReader(req.Body, MaxRequestBody+1))
	if err != nil {
		return nil, fmt.Errorf("read body of request: %w", err)
	}
	if n > MaxRequestBody {
		return nil, tooLarge()
	}
	return buf.Bytes(), nil
}

// failure gives the error of a request its code.
func (t *Transport) failure(ctx context.Context, route Route, err error) error {
	switch {
	case ctx.Err() != nil:
		return fault.Wrap(ctx.Err(), fault.Unavailable, "the %s service did not answer in time", route.Service)
	case errors.Is(err, nats.ErrNoResponders):
		return fault.Wrap(fmt.Errorf("%w: %w", ErrUndelivered, err), fault.Unavailable, "the %s service is not running", route.Service)
	case errors.Is(err, nats.ErrMaxPayload):
		return tooLarge()
	case errors.Is(err, context.DeadlineExceeded):
		return fault.Wrap(err, fault.Unavailable, "the %s service did not answer within %s", route.Service, route.patience())
	default:
		return fault.Wrap(err, fault.Unavailable, "the %s service could not be asked", route.Service)
	}
}

func (t *Transport) response(req *http.Request, route Route, reply *nats.Msg) (*http.Response, error) {
	status, err := strconv.Atoi(get(reply.Header, headerStatus))
	if err != nil || status < 200 || status > 999 {
		return nil, fault.New(fault.Unavailable, "the %s service broke off its answer", route.Service)
	}
	resp := &http.Response{
		Status:     strconv.Itoa(status) + " " + http.StatusText(status),
		StatusCode: status,
		Proto:      "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Request:       req,
		ContentLength: int64(len(reply.Data)),
	}
	stream := get(reply.Header, headerStream)
	resp.Header = toHTTP(reply.Header)
	switch {
	case stream != "":
		// The server names its own subject; anything else would have us publish where it may not.
		if !strings.HasPrefix(stream, subjectPrefix(route.Service)+streamToken+".") {
			return nil, fault.New(fault.Unavailable, "the %s service answered from a subject that is not its own", route.Service)
		}
		if resp.ContentLength, err = strconv.ParseInt(resp.Header.Get("Content-Length"), 10, 64); err != nil {
			resp.ContentLength = -1
		}
		if resp.Body, err = openStream(req.Context(), t.nc, stream, reply.Data); err != nil {
			return nil, fault.Wrap(err, fault.Unavailable, "the %s service could not be read from", route.Service)
		}
	case len(reply.Data) == 0:
		resp.Body = http.NoBody
		if n, err := strconv.ParseInt(resp.Header.Get("Content-Length"), 10, 64); err == nil && req.Method == http.MethodHead {
			resp.ContentLength = n
		}
	default:
		resp.Body = io.NopCloser(bytes.NewReader(reply.Data))
	}
	return resp, nil
}
