package acme

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-acme/lego/v4/acme/api"
	"github.com/go-acme/lego/v4/log"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/ca"
)

const (
	patience = 30 * time.Second
	// maxAnswer is more than any message of the protocol needs.
	maxAnswer = 1 << 20
	// Between two looks at something that the CA works on, if it does not say itself when to look again.
	firstPause, longestPause = 200 * time.Millisecond, 5 * time.Second
	// mostAsked bounds what the CA may ask for.
	mostAsked = time.Minute
)

// session is one conversation with the CA, on connections of its own. Lego's client takes no context, so each session
// has its own, and every request of it carries the context of the whole.
type session struct {
	core    *api.Core
	account string // how the CA calls the account, empty before it has been registered
	wire    *wire
}

// quiet keeps lego's logger, which is one for the process, from writing to standard error: what matters comes back as
// an error.
var quiet = sync.OnceFunc(func() { log.Logger = silence{} })

// silence implements [log.StdLogger].
type silence struct{}

func (silence) Fatal(...any)          {}
func (silence) Fatalln(...any)        {}
func (silence) Fatalf(string, ...any) {}
func (silence) Print(...any)          {}
func (silence) Println(...any)        {}
func (silence) Printf(string, ...any) {}

// connect reads the directory. Its error is Unavailable if that cannot be reached.
func connect(ctx context.Context, directory string, roots *x509.CertPool, account string, key *ecdsa.PrivateKey) (*session, error) {
	quiet()
	w := &wire{ctx: ctx, to: &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2: true, IdleConnTimeout: patience, TLSHandshakeTimeout: patience,
	}}
	// Without a timeout of the client's own, whose timers would stay with each answer that lego does not close.
	core, err := api.New(&http.Client{Transport: w}, "certctl", directory, account, key)
	if err != nil {
		w.to.CloseIdleConnections()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fault.New(fault.Unavailable, "the ACME directory %s cannot be read: %s", directory, w.unread(err))
	}
	return &session{core: core, account: account, wire: w}, nil
}

// unread is why a directory could not be read. What was found instead may be anything, and is not repeated.
func (w *wire) unread(err error) string {
	status := w.status.Load()
	switch p := problem(err); {
	case status == 0:
		return reason(err)
	case p != nil && p.Detail != "":
		return words(p, strings.TrimPrefix(p.Type, namespace))
	case status >= http.StatusBadRequest:
		return fmt.Sprintf("HTTP %d is answered there; the CA's documentation says what the URL of its directory is", status)
	default:
		return "what is there is no ACME directory; the CA's documentation says what the URL of its directory is"
	}
}

func (s *session) close() { s.wire.to.CloseIdleConnections() }

// until asks again and again until what is asked for is settled, no sooner than the CA wants to be asked.
func (s *session) until(ctx context.Context, settled func() (bool, error)) error {
	for pause := firstPause; ; pause = min(pause*3/2, longestPause) {
		ok, err := settled()
		if ok || err != nil {
			return err
		}
		if err := rest(ctx, max(pause, min(s.wire.asked(), mostAsked))); err != nil {
			return err
		}
	}
}

// rest waits.
func rest(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// wire carries requests in a context and reads each answer whole, within bounds.
type wire struct {
	ctx context.Context
	to  *http.Transport
	// after is the newest answer's Retry-After, in nanoseconds.
	after atomic.Int64
	// status is the newest answer's, zero if there was none.
	status atomic.Int64
}

// RoundTrip implements [http.RoundTripper].
func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	w.status.Store(0)
	res, err := w.to.RoundTrip(r.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(http.MaxBytesReader(nil, res.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	res.Body = io.NopCloser(bytes.NewReader(body))
	after, err := api.ParseRetryAfter(res.Header.Get("Retry-After"))
	if err != nil {
		after = 0
	}
	w.after.Store(int64(after))
	w.status.Store(int64(res.StatusCode))
	if r.Method == http.MethodPost && res.StatusCode >= http.StatusBadRequest && !json.Valid(body) {
		// Somebody before the CA, such as a proxy, with a page of its own.
		f := fault.New(fault.Unavailable, "the ACME CA cannot be asked: HTTP %d is answered, without the reason that the protocol wants", res.StatusCode)
		if res.StatusCode == http.StatusTooManyRequests {
			f.Code = fault.RateLimited
		}
		f.RetryAfter = min(after, longest)
		return nil, f
	}
	return res, nil
}

// asked is how long the CA has asked to be left alone.
func (w *wire) asked() time.Duration { return time.Duration(w.after.Load()) }

// reason is an error without the address that net/http puts before it, which is said already.
func reason(err error) string {
	if _, garbled := errors.AsType[*json.SyntaxError](err); garbled {
		return "what it answers is no JSON"
	}
	return ca.Unreached(err, SettingRoots)
}
