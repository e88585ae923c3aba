package link

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/retry"
)

const (
	connectTimeout = 5 * time.Second
	requestTimeout = 5 * time.Second
	pingInterval   = 20 * time.Second
)

// reconnect spreads the agents of a site that lost their leaf together.
var reconnect = retry.Policy{Base: 100 * time.Millisecond, Cap: 5 * time.Second, Jitter: 0.5}

// Address is where the leaf is, and how it proves itself.
type Address struct {
	// URL is checked by CheckURL.
	URL string
	// CAFile holds the certificates that the leaf's must chain to; the system's if empty.
	CAFile string
}

// options are those of every connection. There is no buffer for what is published
// while the leaf is away: reports go to disk then, and the rest is of no use later.
func (a Address) options(principal string) []nats.Option {
	o := []nats.Option{
		nats.CustomInboxPrefix(subject.Inbox(principal)),
		nats.Timeout(connectTimeout),
		nats.PingInterval(pingInterval),
		nats.MaxPingsOutstanding(2),
		nats.ReconnectBufSize(-1),
		nats.IgnoreDiscoveredServers(),
	}
	if a.CAFile != "" {
		o = append(o, nats.RootCAs(a.CAFile))
	}
	return o
}

// dial returns a connection that dials in the background and never gives up.
func (l *Link) dial() (*nats.Conn, error) {
	me := l.Identity.Current()
	options := append(l.Leaf.options(me.AgentID),
		nats.Name(me.AgentID),
		nats.UserJWT(
			// Asked at each connection, so that a renewed JWT is used from the next one on.
			func() (string, error) { return l.Identity.Current().UserJWT, nil },
			l.Identity.SignNonce,
		),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(),
		nats.CustomReconnectDelay(func(attempts int) time.Duration { return reconnect.Delay(attempts, nil) }),
		nats.ConnectHandler(l.connected),
		nats.ReconnectHandler(l.connected),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			l.presence.down()
			if err != nil {
				l.Log.Warn("connection to the leaf lost", "error", err)
			}
		}),
		nats.ReconnectErrHandler(l.unreachable()),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) { l.refused(sub, err) }),
	)
	nc, err := nats.Connect(l.Leaf.URL, options...)
	if err != nil {
		return nil, fmt.Errorf("connect to the leaf: %w", err)
	}
	return nc, nil
}

func (l *Link) connected(nc *nats.Conn) {
	l.Log.Info("connected to the leaf", "url", nc.ConnectedUrlRedacted())
	l.presence.up()
}

// unreachable says that the leaf cannot be reached: once for each reason, not once for
// each try.
func (l *Link) unreachable() nats.ConnErrHandler {
	var last string
	return func(_ *nats.Conn, err error) {
		if err == nil || err.Error() == last {
			return
		}
		last = err.Error()
		l.Log.Warn("the leaf cannot be reached, trying on", "error", explain(err))
	}
}

func (l *Link) refused(sub *nats.Subscription, err error) {
	args := []any{slog.Any("error", explain(err))}
	if sub != nil {
		args = append(args, slog.String("subject", sub.Subject))
	}
	l.Log.Warn("the leaf reports", args...)
}

// explain adds what a person can do about an error.
func explain(err error) error {
	switch {
	case errors.Is(err, nats.ErrAuthRevoked):
		return fmt.Errorf("%w: this agent has been revoked; enrol it again with a new token, after removing its state folder", err)
	case errors.Is(err, nats.ErrAuthExpired):
		return fmt.Errorf("%w: this agent was away for too long; enrol it again with a new token", err)
	case authorization(err):
		return fmt.Errorf("%w: the leaf does not accept this agent; it may belong to another site, or have been revoked", err)
	}
	return err
}

// authorization reports whether the server refused the credentials. On the first
// connection the client passes the server's text on and not one of its own errors.
func authorization(err error) bool {
	return errors.Is(err, nats.ErrAuthorization) || errors.Is(err, nats.ErrAuthRevoked) || errors.Is(err, nats.ErrAuthExpired) ||
		errors.Is(err, nats.ErrAccountAuthExpired) || err != nil && strings.Contains(strings.ToLower(err.Error()), "authorization violation")
}
