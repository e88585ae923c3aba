// Package bus is how a service speaks NATS: one connection per principal, events as CloudEvents, consumers whose effect
// happens once, the outbox's way to the streams, and the declared streams.
//
//   - Connect dials (a URL, or a server in the same process), keeps dialling for ever, and reports what it loses.
//   - Message is an event or a command; its headers are CloudEvents 1.0 in binary mode, its id is the Nats-Msg-Id.
//   - Conn.Consume handles a durable consumer in batches, one Postgres transaction a batch, the inbox in it.
//   - Conn.OutboxRelay takes the rows of an outbox to their streams.
//   - Manifest declares streams and consumers, and plans, applies and verifies them.
//
// The bus delivers at least once and promises no order; the inbox makes effects happen once, and whoever needs the
// order of one aggregate compares Message.AggVersion. Nothing here knows a subject: contracts builds those.
package bus

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/certctl/certctl/libs/fault"
)

const (
	reconnectBase = 100 * time.Millisecond
	reconnectCap  = 5 * time.Second
	apiTimeout    = 5 * time.Second
	drainTimeout  = 10 * time.Second
)

// Options says where to connect and as whom. Either URL or Server is needed.
type Options struct {
	// URL is one server or several, separated by commas. With Server set it is not dialled, and only a user and password
	// in it are heeded.
	URL string
	// Server is a NATS server in this process; *server.Server is one. No network is used then.
	Server nats.InProcessConnProvider
	// Name is shown in the server's list of connections. Services give their own name.
	Name string
	// JWT and Seed are the user's credentials in operator mode. They win over CredsFile; without either the connection
	// is anonymous, which only a test's server accepts.
	JWT, Seed string
	// CredsFile is a NATS credentials file, read again at each reconnection.
	CredsFile string
	// InboxPrefix is the only subject this principal may receive replies on, such as "_INBOX_issuer". Empty is NATS's
	// own "_INBOX".
	InboxPrefix string
	// Domain is the JetStream domain to speak to, when it is not the one of the server that is dialled.
	Domain string
	// TLS configures a TLS connection; nil leaves it to the scheme of URL.
	TLS *tls.Config
	// Log receives connection states and asynchronous errors. Nil is slog.Default.
	Log *slog.Logger
	// Metrics is where consumers and publishers register their metrics. Nil keeps them unregistered.
	Metrics prometheus.Registerer
}

// Conn is a connection to NATS with its JetStream context. It is safe for concurrent use.
type Conn struct {
	NC *nats.Conn
	JS jetstream.JetStream

	log     *slog.Logger
	metrics *metrics
	closed  chan struct{}
}

// Connect returns a connection that dials in the background: it succeeds while no server answers, and never gives up.
// Use Ready to wait for the server. It fails only on options that can never work.
func Connect(opts Options) (*Conn, error) {
	log := opts.Log
	if log == nil {
		log = slog.Default()
	}
	if opts.URL == "" && opts.Server == nil {
		return nil, errors.New("connect to NATS: neither a URL nor a server in this process is given")
	}
	c := &Conn{log: log.With("connection", opts.Name), closed: make(chan struct{})}
	var err error
	if c.metrics, err = newMetrics(opts.Metrics); err != nil {
		return nil, fmt.Errorf("register bus metrics: %w", err)
	}
	if c.NC, err = nats.Connect(opts.URL, c.natsOptions(opts)...); err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	if c.JS, err = newJetStream(c.NC, opts.Domain); err != nil {
		c.NC.Close()
		return nil, err
	}
	return c, nil
}

func newJetStream(nc *nats.Conn, domain string) (jetstream.JetStream, error) {
	if domain == "" {
		js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(apiTimeout))
		if err != nil {
			return nil, fmt.Errorf("open JetStream: %w", err)
		}
		return js, nil
	}
	js, err := jetstream.NewWithDomain(nc, domain, jetstream.WithDefaultTimeout(apiTimeout))
	if err != nil {
		return nil, fmt.Errorf("open JetStream domain %s: %w", domain, err)
	}
	return js, nil
}

// InDomain returns the JetStream of another domain over the same connection.
func (c *Conn) InDomain(domain string) (jetstream.JetStream, error) {
	return newJetStream(c.NC, domain)
}

func (c *Conn) natsOptions(opts Options) []nats.Option {
	o := []nats.Option{
		nats.Name(opts.Name),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.CustomReconnectDelay(reconnectDelay),
		// A user that the server does not know yet (its account JWT is on the way) is to be tried again.
		nats.IgnoreAuthErrorAbort(),
		nats.PingInterval(20 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.DrainTimeout(drainTimeout),
		nats.ErrorHandler(c.onError),
		nats.DisconnectErrHandler(c.onDisconnect),
		nats.ReconnectHandler(func(nc *nats.Conn) { c.log.Info("nats connected again", "server", nc.ConnectedServerName()) }),
		nats.ClosedHandler(func(*nats.Conn) { close(c.closed) }),
	}
	if opts.Server != nil {
		o = append(o, nats.InProcessServer(opts.Server))
	}
	switch {
	case opts.JWT != "":
		o = append(o, nats.UserJWTAndSeed(opts.JWT, opts.Seed))
	case opts.CredsFile != "":
		o = append(o, nats.UserCredentials(opts.CredsFile))
	}
	if opts.InboxPrefix != "" {
		o = append(o, nats.CustomInboxPrefix(opts.InboxPrefix))
	}
	if opts.TLS != nil {
		o = append(o, nats.Secure(opts.TLS))
	}
	return o
}

// reconnectDelay spreads the reconnections of many clients after a server's restart.
func reconnectDelay(attempts int) time.Duration {
	d := reconnectCap
	if attempts < 10 {
		d = min(reconnectBase<<max(attempts-1, 0), reconnectCap)
	}
	return d/2 + rand.N(d/2) //nolint:gosec // a delay is no secret
}

func (c *Conn) onError(_ *nats.Conn, sub *nats.Subscription, err error) {
	args := []any{"error", err}
	if sub != nil {
		args = append(args, "subject", sub.Subject)
	}
	switch {
	case errors.Is(err, nats.ErrPermissionViolation):
		c.metrics.denied.Inc()
		c.log.Error("nats refused what this user has no permission for", args...)
	case errors.Is(err, nats.ErrSlowConsumer):
		c.metrics.slow.Inc()
		c.log.Error("nats dropped messages: subscription too slow", args...)
	default:
		c.log.Warn("nats reported an error", args...)
	}
}

func (c *Conn) onDisconnect(_ *nats.Conn, err error) {
	if err != nil {
		c.log.Warn("nats disconnected", "error", err)
	}
}

// Health returns nil while the connection is up, else what is wrong with it. It does not ask the server.
func (c *Conn) Health(context.Context) error {
	if c.NC.IsConnected() {
		return nil
	}
	err := c.NC.LastError()
	if err == nil {
		err = fmt.Errorf("connection is %s", c.NC.Status())
	}
	return fault.Wrap(err, fault.Unavailable, "message bus is not connected")
}

// Ready waits until the connection is up.
func (c *Conn) Ready(ctx context.Context) error {
	up := c.NC.StatusChanged(nats.CONNECTED, nats.CLOSED)
	defer c.NC.RemoveStatusListener(up)
	for !c.NC.IsConnected() {
		if c.NC.IsClosed() {
			return nats.ErrConnectionClosed
		}
		select {
		case <-up:
		case <-ctx.Done():
			return fmt.Errorf("wait for NATS: %w", errors.Join(ctx.Err(), c.NC.LastError()))
		}
	}
	return nil
}

// Close lets subscriptions finish what they have received, sends what is buffered and closes the connection. When ctx
// ends first the connection is closed at once and the error says so.
func (c *Conn) Close(ctx context.Context) error {
	if err := c.NC.Drain(); err != nil {
		c.NC.Close()
	}
	select {
	case <-c.closed:
		return nil
	case <-ctx.Done():
		c.NC.Close()
		<-c.closed
		return fmt.Errorf("drain NATS connection: %w", ctx.Err())
	}
}
