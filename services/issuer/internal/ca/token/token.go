// Package token signs with keys that are in a PKCS#11 token, by asking certctl-signer over a Unix socket (contracts/signer).
//
// The connection is made anew whenever it is needed and gone, so that certctl-signer may be restarted at any time. Which
// socket it is, the environment says and nobody else: whoever names it is trusted with what is to be signed.
//
// Errors are coded and say, in words for an operator, which part has failed: the signer, the token, its PIN or the key.
package token

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"

	"github.com/certctl/certctl/contracts/signer"
	"github.com/certctl/certctl/libs/fault"
)

const (
	dialTimeout = 2 * time.Second
	// signTimeout bounds a signature. A network HSM takes some milliseconds for one, and may have to be logged in to first.
	signTimeout = 8 * time.Second
	// makeTimeout bounds the making of a key: some HSMs take a minute for a long one of RSA.
	makeTimeout = 2 * time.Minute
	idleTimeout = time.Minute
	maxConns    = 64
)

// Client asks a certctl-signer. It is safe for concurrent use.
type Client struct {
	socket string
	http   *http.Client
}

// New returns a client of the certctl-signer that serves a socket, without connecting.
func New(socket string) *Client {
	c := &Client{socket: socket}
	dialer := &net.Dialer{Timeout: dialTimeout}
	c.http = &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", socket)
		},
		// A signature takes long compared with what is sent, so what bounds them is the token.
		MaxConnsPerHost: maxConns, MaxIdleConnsPerHost: maxConns, IdleConnTimeout: idleTimeout,
		DisableCompression: true, MaxResponseHeaderBytes: 8 << 10,
	}}
	return c
}

// Close closes the connections that are idle. The client may be used on.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// keys lists the keys of a label.
func (c *Client) keys(ctx context.Context, label string) (signer.Keys, error) {
	ctx, cancel := context.WithTimeout(ctx, signTimeout)
	defer cancel()
	var list signer.Keys
	err := c.call(ctx, http.MethodGet, signer.PathKeys+"?label="+url.QueryEscape(label), nil, &list)
	return list, err
}

func (c *Client) generate(ctx context.Context, g signer.Generate) (signer.Key, error) {
	ctx, cancel := context.WithTimeout(ctx, makeTimeout)
	defer cancel()
	var key signer.Key
	err := c.call(ctx, http.MethodPost, signer.PathKeys, g, &key)
	return key, err
}

func (c *Client) sign(ctx context.Context, s signer.Sign) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, signTimeout)
	defer cancel()
	var answer signer.Signature
	err := c.call(ctx, http.MethodPost, signer.PathSign, s, &answer)
	return answer.Signature, err
}

func (c *Client) call(ctx context.Context, method, path string, body, into any) error {
	var reader io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("encode a request to the signer: %w", err)
		}
		reader = bytes.NewReader(text)
	}
	// The host is for HTTP's sake; the socket is what is dialled.
	r, err := http.NewRequestWithContext(ctx, method, "http://signer"+path, reader)
	if err != nil {
		return fmt.Errorf("ask the signer: %w", err)
	}
	if path == signer.PathSign {
		// Asking for a signature again does no harm: it may be sent anew if the signer was restarted meanwhile. (An empty value
		// says so to net/http, and is not sent.)
		r.Header["Idempotency-Key"] = nil
	}
	answer, err := c.http.Do(r)
	if err != nil {
		return c.unreachable(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, signer.MaxAnswer+1))
	if err != nil {
		return c.unreachable(err)
	}
	if answer.StatusCode != http.StatusOK {
		var f fault.Error
		if err := json.Unmarshal(text, &f); err != nil || f.Message == "" {
			return fault.New(fault.Unavailable, "what serves %s (CERTCTL_SIGNER_SOCKET) is no certctl-signer: it answers %s", c.socket, answer.Status)
		}
		return &f
	}
	if len(text) > signer.MaxAnswer {
		return fault.New(fault.Unavailable, "the signer answers more than %d bytes", signer.MaxAnswer)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fault.Wrap(err, fault.Unavailable, "the signer's answer cannot be read")
	}
	return nil
}

// unreachable says why the signer has not answered.
func (c *Client) unreachable(err error) error {
	var what string
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		what = "certctl-signer is not running"
	case errors.Is(err, fs.ErrPermission):
		what = "certctl-signer serves another user than this process's (CERTCTL_SIGNER_CLIENT)"
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		what = "certctl-signer hung up: it has stopped, or serves another user than this process's (CERTCTL_SIGNER_CLIENT)"
	case errors.Is(err, context.DeadlineExceeded):
		what = "certctl-signer did not answer in time"
	default:
		what = "certctl-signer cannot be reached"
	}
	return fault.Wrap(err, fault.Unavailable, "%s; its socket is %s (CERTCTL_SIGNER_SOCKET)", what, c.socket)
}
