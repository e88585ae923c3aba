// Package served looks at a TLS server from outside, the way its clients see it, and
// tells which certificate it answers with.
//
// It does not judge the certificate: whether the right one is served is a comparison
// of fingerprints, and trust is for clients to decide.
package served

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/certctl/certctl/libs/x509x"
)

const (
	dialTimeout = 2 * time.Second
	interval    = 20 * time.Millisecond
	// A server that reloads has old and new workers side by side for a moment, and
	// either may answer. This many answers in a row are taken as the end of it.
	inARow = 5
)

// Fingerprint makes one handshake and returns the SHA-256 of the leaf that the server
// answered with, in lower-case hex.
func Fingerprint(ctx context.Context, address, serverName string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var leaf string
	dialer := tls.Dialer{
		NetDialer: &net.Dialer{},
		Config: &tls.Config{
			ServerName: serverName,
			MinVersion: tls.VersionTLS12,
			//nolint:gosec // the leaf is compared with the one that was ordered, which says more than a chain
			InsecureSkipVerify: true,
			// Called before the server can refuse a client without a certificate.
			VerifyConnection: func(state tls.ConnectionState) error {
				if len(state.PeerCertificates) > 0 {
					leaf = x509x.Fingerprint(state.PeerCertificates[0].Raw)
				}
				return nil
			},
		},
	}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err == nil {
		conn.Close()
	}
	if leaf != "" {
		return leaf, nil
	}
	if err == nil {
		err = errors.New("the server showed no certificate")
	}
	return "", err
}

// Await connects again and again until the server answers with the wanted leaf, or
// patience is at its end. It returns what was served last, which may be empty, and
// why that is not what was wanted.
func Await(ctx context.Context, address, serverName, want string, patience time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	var got string
	var last error
	for matches := 0; ; {
		fingerprint, err := Fingerprint(ctx, address, serverName)
		switch {
		case err == nil && fingerprint == want:
			got, last = fingerprint, nil
			if matches++; matches == inARow {
				return got, nil
			}
		case err == nil:
			got, last, matches = fingerprint, nil, 0
		case ctx.Err() == nil || last == nil && got == "":
			last, matches = err, 0
		}
		select {
		case <-ctx.Done():
			return got, mismatch(address, serverName, got, want, last)
		case <-tick.C:
		}
	}
}

func mismatch(address, serverName, got, want string, err error) error {
	where := address
	if serverName != "" {
		where += " (" + serverName + ")"
	}
	if err != nil {
		return fmt.Errorf("connect to %s: %w", where, err)
	}
	return fmt.Errorf("%s serves the certificate %s, not %s", where, got, want)
}
