package natshttp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/httpx"
)

const (
	queueGroup         = "q"
	defaultMaxInFlight = 256
	// residents is how many goroutines stay to handle requests, with stacks that have grown already; what they have no
	// hand free for gets a goroutine of its own. Growing a stack anew is a tenth of a small request.
	residents = 16
	// stopGrace is how long requests in hand may take once the server was told to stop, and stopLimit how long those
	// may that then find their context ended.
	stopGrace = 10 * time.Second
	stopLimit = 5 * time.Second
)

// Options says what is served.
type Options struct {
	// Service is the name in the subjects svc.<service>.v1.<operation>.
	Service string
	// Version is the service's semantic version, shown by "nats micro". Empty is "0.0.0".
	Version string
	// Operations are the operation ids answered here.
	Operations []string
	// MaxInFlight bounds the requests being handled; more are answered 503 at once. Zero is 256.
	MaxInFlight int
	// Started, if not nil, is called when requests can come in.
	Started func()
	// Log receives panics and refusals. Nil is slog.Default.
	Log *slog.Logger
}

type server struct {
	nc      *nats.Conn
	opts    Options
	handler http.Handler
	log     *slog.Logger
	ctx     context.Context // of every request; ends when the requests in hand have had their time
	slots   chan struct{}
	streams *streams
	running sync.WaitGroup
	arrived chan request // taken by a resident goroutine that is free, if one is

	principals principals
}

// request is a message and when it came.
type request struct {
	msg  *nats.Msg
	stat *operation
	at   time.Time
}

// Serve answers requests with h until ctx ends. Then it takes no more, finishes those in hand (for at most 10 s, then
// their contexts end) and returns nil, or an error when some did not even then.
func Serve(ctx context.Context, nc *nats.Conn, opts Options, h http.Handler) error {
	if opts.MaxInFlight <= 0 {
		opts.MaxInFlight = defaultMaxInFlight
	}
	if opts.Version == "" {
		opts.Version = "0.0.0"
	}
	if opts.Log == nil {
		opts.Log = slog.Default()
	}
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	instance := nuid.Next()
	s := &server{
		nc: nc, opts: opts, handler: h, log: opts.Log, ctx: work,
		slots:   make(chan struct{}, opts.MaxInFlight),
		arrived: make(chan request),
		streams: newStreams(nc, subjectPrefix(opts.Service)+streamToken+"."+instance+"."),
	}
	var guard sync.WaitGroup
	defer guard.Wait()
	stop := make(chan struct{})
	defer close(stop)
	guard.Go(func() { s.streams.guard(stop) })
	for range residents {
		go s.reside(stop) // not waited for: a handler that does not end must not keep Serve
	}

	operations, rest, err := s.subscribe(instance)
	if err != nil {
		return errors.Join(err, drain(append(operations, rest...)))
	}
	if opts.Started != nil && s.announced(ctx) {
		opts.Started()
	}
	<-ctx.Done()
	err = drain(operations)
	err = errors.Join(err, s.finish(cancel))
	return errors.Join(err, drain(rest))
}

// announced waits until the server has heard of the subscriptions, because only then do requests find them.
func (s *server) announced(ctx context.Context) bool {
	for ctx.Err() == nil {
		attempt, cancel := context.WithTimeout(ctx, time.Second)
		err := s.nc.FlushWithContext(attempt)
		if err != nil {
			<-attempt.Done()
		}
		cancel()
		if err == nil {
			return true
		}
	}
	return false
}

// subscribe returns the subscriptions for requests, and those that are needed until the last response has gone.
func (s *server) subscribe(instance string) (operations, rest []*nats.Subscription, err error) {
	if !isToken(s.opts.Service) {
		return nil, nil, fmt.Errorf("serve: %q is no name of a service", s.opts.Service)
	}
	sub, err := s.nc.Subscribe(s.streams.prefix+"*", s.streams.hear)
	if err != nil {
		return nil, nil, fmt.Errorf("serve streams of %s: %w", s.opts.Service, err)
	}
	rest = append(rest, sub)
	found := newDiscovery(s.nc, s.opts, instance)
	for i, name := range s.opts.Operations {
		subject, err := Route{Service: s.opts.Service, Operation: name}.subject()
		if err != nil {
			return operations, rest, fmt.Errorf("serve: %w", err)
		}
		stat := &found.operations[i]
		sub, err := s.nc.QueueSubscribe(subject, queueGroup, func(m *nats.Msg) { s.accept(m, stat) })
		if err != nil {
			return operations, rest, fmt.Errorf("serve %s: %w", subject, err)
		}
		operations = append(operations, sub)
	}
	subs, err := found.subscribe()
	return operations, append(rest, subs...), err
}

// drain ends subscriptions when what they have received has been dispatched.
func drain(subs []*nats.Subscription) error {
	var done sync.WaitGroup
	var errs []error
	for _, sub := range subs {
		done.Add(1)
		sub.SetClosedHandler(func(string) { done.Done() })
		if err := sub.Drain(); err != nil {
			sub.SetClosedHandler(nil)
			done.Done()
			if !errors.Is(err, nats.ErrConnectionClosed) && !errors.Is(err, nats.ErrBadSubscription) {
				errs = append(errs, fmt.Errorf("drain %s: %w", sub.Subject, err))
			}
		}
	}
	finished := make(chan struct{})
	go func() { done.Wait(); close(finished) }()
	select {
	case <-finished:
	case <-time.After(stopLimit):
		errs = append(errs, errors.New("subscriptions did not drain in time"))
	}
	return errors.Join(errs...)
}

// finish waits for the requests in hand.
func (s *server) finish(cancel context.CancelFunc) error {
	finished := make(chan struct{})
	go func() { s.running.Wait(); close(finished) }()
	select {
	case <-finished:
		return nil
	case <-time.After(stopGrace):
		cancel()
	}
	select {
	case <-finished:
		return nil
	case <-time.After(stopLimit):
		return fmt.Errorf("%s: %d requests do not end", s.opts.Service, len(s.slots))
	}
}

// accept runs in the goroutine of the operation's subscription and must not wait.
func (s *server) accept(m *nats.Msg, stat *operation) {
	r := request{msg: m, stat: stat, at: time.Now()}
	select {
	case s.slots <- struct{}{}:
	default:
		s.refuse(m)
		stat.count(time.Since(r.at), "too many requests at once")
		return
	}
	s.running.Add(1)
	select {
	case s.arrived <- r:
	default:
		go s.handle(r)
	}
}

// reside handles one request after the other.
func (s *server) reside(stop <-chan struct{}) {
	for {
		select {
		case r := <-s.arrived:
			s.handle(r)
		case <-stop:
			return
		}
	}
}

// handle answers a request that has a slot, and gives the slot back.
func (s *server) handle(r request) {
	defer func() {
		<-s.slots
		s.running.Done()
	}()
	r.stat.count(s.answer(r.msg, r.at))
}

// refuse tells a caller that all slots are taken.
func (s *server) refuse(m *nats.Msg) {
	x, err := newExchange(s.ctx, m, &s.principals)
	if err != nil {
		return
	}
	defer x.cancel()
	w := newResponse(s, x)
	httpx.WriteProblem(w, x.req, fault.New(fault.Unavailable, "%s is too busy", s.opts.Service))
	w.finish()
}

// answer handles one request. It returns how long that took and what was wrong with it, if it was the service's fault.
func (s *server) answer(m *nats.Msg, arrived time.Time) (took time.Duration, wrong string) {
	x, err := newExchange(s.ctx, m, &s.principals)
	if err != nil {
		s.log.Warn("request is not HTTP over NATS", "subject", m.Subject, "error", err)
		return time.Since(arrived), err.Error()
	}
	defer x.cancel()
	w := newResponse(s, x)
	if x.refusal != nil {
		httpx.WriteProblem(w, x.req, x.refusal)
	} else {
		s.run(w, x.req)
	}
	if ctx := x.req.Context(); !w.wroteHeader && !w.aborted && ctx.Err() != nil {
		// net/http would take silence for success.
		httpx.WriteProblem(w, x.req, fault.Wrap(ctx.Err(), fault.Unavailable, "%s did not finish in time", s.opts.Service))
	}
	w.finish()
	return time.Since(arrived), w.wrong()
}

// run calls the handler. A panic becomes a 500, or breaks the response off when that has begun.
func (s *server) run(w *response, req *http.Request) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if p != http.ErrAbortHandler { //nolint:errorlint // it is the value that was thrown, as in net/http
			s.log.ErrorContext(req.Context(), "handler panicked", "panic", p, "path", req.URL.Path, "stack", string(debug.Stack()))
			if !w.wroteHeader {
				httpx.WriteProblem(w, req, fault.New(fault.Internal, "internal error"))
				return
			}
		}
		w.aborted = true
	}()
	s.handler.ServeHTTP(w, req)
}
