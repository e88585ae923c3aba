// Package http01 answers CAs that want to see that a name leads to this host (RFC 8555 section 8.3).
//
// It listens itself, only while there is something to prove, or leaves the answers in a folder that the host's web server
// serves. Which of the two, or neither, is decided on the host. An answer is served exactly as RFC 8555 forms it and as
// nothing else, so that whoever gives orders cannot publish anything here. It goes when it is taken back, when its time is
// up, and when the agent stops.
package http01

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/certctl/certctl/contracts/command"
)

const (
	folder        = ".well-known/acme-challenge"
	patience      = 10 * time.Second
	maxHeaderSize = 16 << 10
	// longest bounds how long an answer is shown, whatever is ordered.
	longest = time.Hour
	maximum = 200
)

// ErrNotHere says that this host answers nobody.
var ErrNotHere = errors.New("this host answers no HTTP-01: set CERTCTL_AGENT_HTTP01_ADDRESS, such as :80, or CERTCTL_AGENT_HTTP01_WEBROOT")

// Responder answers. Its fields are set before its first use; it is safe for concurrent use.
type Responder struct {
	// Address is what it listens on, such as ":80".
	Address string
	// Webroot is a folder that a web server of this host serves as /. Of both, one is set, or neither.
	Webroot string
	Log     *slog.Logger

	mu      sync.Mutex
	answers map[string]answer // by token; guarded by mu
	server  *http.Server      // nil while there is nothing to prove; guarded by mu
}

type answer struct {
	text string
	ends *time.Timer
}

var (
	tokens      = regexp.MustCompile(`^[A-Za-z0-9_-]{16,128}$`)
	thumbprints = regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`)
)

// check refuses what is no answer by RFC 8555.
func check(answers []command.HTTP01Answer) error {
	if len(answers) == 0 || len(answers) > maximum {
		return fmt.Errorf("the order has %d answers", len(answers))
	}
	for _, a := range answers {
		thumbprint, ok := strings.CutPrefix(a.KeyAuthorization, a.Token+".")
		if !ok || !tokens.MatchString(a.Token) || !thumbprints.MatchString(thumbprint) {
			return fmt.Errorf("%.40q is no answer of RFC 8555", a.KeyAuthorization)
		}
	}
	return nil
}

// Show shows answers until a time, and returns when they can be seen.
func (r *Responder) Show(ctx context.Context, answers []command.HTTP01Answer, until time.Time) error {
	if err := check(answers); err != nil {
		return err
	}
	if r.Address == "" && r.Webroot == "" {
		return ErrNotHere
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.answers == nil {
		r.answers = map[string]answer{}
	}
	if err := r.publish(ctx, answers); err != nil {
		return err
	}
	for _, a := range answers {
		if before, ok := r.answers[a.Token]; ok {
			before.ends.Stop()
		}
		r.answers[a.Token] = answer{a.KeyAuthorization, time.AfterFunc(min(time.Until(until), longest), func() {
			if err := r.Hide([]command.HTTP01Answer{a}); err != nil {
				r.Log.Warn("answer not taken back", "error", err)
			}
		})}
	}
	return nil
}

// Hide takes answers back. What is not shown is passed over, but for files that another run of the agent left.
func (r *Responder) Hide(answers []command.HTTP01Answer) error {
	if err := check(answers); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.hide(answers)
}

// Close takes everything back.
func (r *Responder) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []command.HTTP01Answer
	for token, a := range r.answers {
		all = append(all, command.HTTP01Answer{Token: token, KeyAuthorization: a.text})
	}
	return r.hide(all)
}

// hide is called with mu held.
func (r *Responder) hide(answers []command.HTTP01Answer) error {
	for _, a := range answers {
		if shown, ok := r.answers[a.Token]; ok {
			shown.ends.Stop()
			delete(r.answers, a.Token)
		}
	}
	if r.server != nil && len(r.answers) == 0 {
		_ = r.server.Close()
		r.server = nil
	}
	return r.remove(answers)
}

// publish is called with mu held.
func (r *Responder) publish(ctx context.Context, answers []command.HTTP01Answer) error {
	if r.Webroot == "" {
		return r.listen(ctx)
	}
	root, err := os.OpenRoot(r.Webroot)
	if err != nil {
		return fmt.Errorf("CERTCTL_AGENT_HTTP01_WEBROOT: %w", err)
	}
	defer root.Close()
	if err := root.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("CERTCTL_AGENT_HTTP01_WEBROOT: %w", err)
	}
	for _, a := range answers {
		// The web server runs as somebody else. A file that was there is taken away first, so that what it led to stays.
		_ = root.Remove(folder + "/" + a.Token)
		if err := root.WriteFile(folder+"/"+a.Token, []byte(a.KeyAuthorization), 0o644); err != nil {
			return fmt.Errorf("CERTCTL_AGENT_HTTP01_WEBROOT: %w", err)
		}
	}
	return nil
}

func (r *Responder) remove(answers []command.HTTP01Answer) error {
	if r.Webroot == "" || len(answers) == 0 {
		return nil
	}
	root, err := os.OpenRoot(r.Webroot)
	if err != nil {
		return fmt.Errorf("CERTCTL_AGENT_HTTP01_WEBROOT: %w", err)
	}
	defer root.Close()
	var errs []error
	for _, a := range answers {
		if err := root.Remove(folder + "/" + a.Token); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// listen is called with mu held.
func (r *Responder) listen(ctx context.Context) error {
	if r.server != nil {
		return nil
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", r.Address)
	if err != nil {
		return fmt.Errorf("CERTCTL_AGENT_HTTP01_ADDRESS: %w", err)
	}
	r.server = &http.Server{Handler: r, ReadTimeout: patience, WriteTimeout: patience, MaxHeaderBytes: maxHeaderSize}
	server := r.server
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			r.Log.Error("HTTP-01 is not answered any more", "error", err)
		}
	}()
	return nil
}

// ServeHTTP implements [http.Handler].
func (r *Responder) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	token, ok := strings.CutPrefix(q.URL.Path, "/"+folder+"/")
	r.mu.Lock()
	shown := r.answers[token]
	r.mu.Unlock()
	if !ok || shown.text == "" || q.Method != http.MethodGet && q.Method != http.MethodHead {
		http.NotFound(w, q)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = w.Write([]byte(shown.text))
}
