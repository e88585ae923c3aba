// Package signer lets the issuer sign with keys that are in a PKCS#11 token, and never leave it.
//
// It is a program of its own because a token is reached through a library of its maker, which is loaded into the process:
// the issuer stays a static binary, and what that library does to memory it does to this process alone. It keeps nothing
// but an open session, serves one user of the same machine over a Unix socket, and may be killed and started at any time.
//
// It does not decide what is signed, and does not delete keys.
package signer

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/certctl/certctl/services/signer/internal/api"
	"github.com/certctl/certctl/services/signer/internal/csr"
	"github.com/certctl/certctl/services/signer/internal/door"
	"github.com/certctl/certctl/services/signer/internal/token"
)

const (
	readTimeout = 10 * time.Second
	// writeTimeout is longer than a token takes to make a long key.
	writeTimeout   = 3 * time.Minute
	idleTimeout    = 5 * time.Minute
	drainTimeout   = 10 * time.Second
	maxHeaderBytes = 8 << 10
)

// Run serves until ctx ends, then finishes what is in hand. A token that cannot be used yet is told of in the log and to
// whoever asks; it is tried anew with each request.
func Run(ctx context.Context, cfg Config, log *slog.Logger) error {
	uid, err := cfg.client()
	if err != nil {
		return err
	}
	d, err := door.Open(ctx, cfg.SignerSocket, uid, log)
	if err != nil {
		return err
	}
	t := token.New(cfg.token())
	defer t.Close()
	if err := t.Check(); err != nil {
		log.ErrorContext(ctx, "the token cannot be used yet", "error", err)
	}
	server := &http.Server{
		Handler: api.New(t, log), ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
		ErrorLog:    slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(d) }()
	log.InfoContext(ctx, "serving", "socket", d.Addr().String(), "token", cfg.SignerToken, "client_uid", uid)
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	err = server.Shutdown(limit)
	if serveErr := <-served; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}
	return err
}

// Keys lists the keys of the token.
func Keys(cfg Config, out io.Writer) error {
	t := token.New(cfg.token())
	defer t.Close()
	return list(t, out)
}

// Generate makes a key in the token.
func Generate(cfg Config, label, algorithm string, bits int, out io.Writer) error {
	t := token.New(cfg.token())
	defer t.Close()
	return generate(t, label, algorithm, bits, out)
}

// Request writes a certificate signing request for a key of the token, so that another CA may certify it.
func Request(cfg Config, label, commonName, organization string, out io.Writer) error {
	t := token.New(cfg.token())
	defer t.Close()
	key, err := t.Signer(label)
	if err != nil {
		return err
	}
	text, err := csr.Make(key, commonName, organization)
	if err != nil {
		return err
	}
	_, err = out.Write(text)
	return err
}
