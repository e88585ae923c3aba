package acme

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/x509x"
)

const (
	wellKnown     = "/.well-known/acme-challenge/"
	readPatience  = 10 * time.Second
	maxHeaderSize = 16 << 10
)

// Listener answers HTTP-01 (RFC 8555 section 8.3) for every order of the process. It listens only while there is
// something to prove, so that the port is not taken by a process that proves nothing.
type Listener struct {
	// Address is what it listens on; empty is port 80 of every interface.
	Address string

	mu      sync.Mutex
	answers map[string]string // by token; guarded by mu
	server  *http.Server      // nil while there is nothing to prove; guarded by mu
}

// Type implements [Solver].
func (*Listener) Type() string { return HTTP01 }

// Objection implements [Solver].
func (*Listener) Objection(name x509x.Name) string {
	switch {
	case name.Kind != x509x.DNS && name.Kind != x509x.IP:
		return "an ACME CA issues for host names and addresses"
	case strings.HasPrefix(name.Value, "*."):
		return "a wildcard is proven by dns-01, and this issuer's challenge_type is http-01"
	}
	return ""
}

// Present implements [Solver].
func (l *Listener) Present(ctx context.Context, proofs []Proof) (func(), error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.server == nil {
		if err := l.listen(ctx); err != nil {
			return nil, err
		}
	}
	for _, p := range proofs {
		l.answers[p.Token] = p.Answer
	}
	return func() { l.withdraw(proofs) }, nil
}

// test finds out whether it could listen.
func (l *Listener) test(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.server != nil {
		return nil
	}
	listener, err := l.open(ctx)
	if err != nil {
		return err
	}
	return listener.Close()
}

func (l *Listener) open(ctx context.Context) (net.Listener, error) {
	address := l.Address
	if address == "" {
		address = ":80"
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fault.New(fault.Unavailable, "nobody can be answered over HTTP-01: %v; CERTCTL_ACME_HTTP_PORT is the port, which must be free and allowed to this user", err)
	}
	return listener, nil
}

// listen is called with mu held.
func (l *Listener) listen(ctx context.Context) error {
	listener, err := l.open(ctx)
	if err != nil {
		return err
	}
	l.answers = map[string]string{}
	l.server = &http.Server{Handler: l, ReadTimeout: readPatience, WriteTimeout: readPatience, MaxHeaderBytes: maxHeaderSize}
	server := l.server
	go func() {
		// It ends by Close; any other end shows as proofs that the CA does not find.
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			_ = listener.Close()
		}
	}()
	return nil
}

func (l *Listener) withdraw(proofs []Proof) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range proofs {
		delete(l.answers, p.Token)
	}
	if len(l.answers) == 0 {
		_ = l.server.Close()
		l.server = nil
	}
}

// ServeHTTP implements [http.Handler].
func (l *Listener) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	token, ok := strings.CutPrefix(r.URL.Path, wellKnown)
	l.mu.Lock()
	answer := l.answers[token]
	l.mu.Unlock()
	if !ok || answer == "" || r.Method != http.MethodGet && r.Method != http.MethodHead {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = w.Write([]byte(answer))
}
