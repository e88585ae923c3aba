package stepca

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/ca"
)

const (
	// patience bounds one call. A CA that hangs must not hold a worker for longer.
	patience  = 20 * time.Second
	maxAnswer = 1 << 20
	pause     = time.Minute // after a 429 that says no more
)

// api is the CA's HTTP interface.
type api struct {
	base   *url.URL
	client *http.Client
}

func newAPI(base *url.URL, root *x509.Certificate) *api {
	roots := x509.NewCertPool()
	roots.AddCert(root)
	return withTLS(base, &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12})
}

// unverified talks to a CA whose root is not known yet; its answer must be checked by other means.
func unverified(base *url.URL) *api {
	return withTLS(base, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}) //nolint:gosec // the root is believed by its fingerprint
}

func withTLS(base *url.URL, config *tls.Config) *api {
	return &api{base: base, client: &http.Client{
		Timeout: patience,
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: config, ForceAttemptHTTP2: true,
			MaxIdleConnsPerHost: 16, IdleConnTimeout: time.Minute,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// refusal is what the CA said against a call. It is the cause of a fault.
type refusal struct {
	status  int
	message string
}

// Error implements error.
func (r *refusal) Error() string {
	return "step-ca answers " + strconv.Itoa(r.status) + ": " + r.message
}

// call sends a request and decodes the answer into v, if v is not nil. Its errors are faults: Invalid for what the CA
// will never do, RateLimited and Unavailable for what it may do later.
func (a *api) call(ctx context.Context, method, path string, body, v any) error {
	content := io.Reader(http.NoBody)
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return attempt("encode a request to step-ca", err)
		}
		content = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, a.base.String()+path, content)
	if err != nil {
		return attempt("ask step-ca", err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := a.client.Do(req)
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "the CA at %s cannot be reached: %s", a.base.Host, ca.Unreached(err, ""))
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "the CA at %s broke off its answer", a.base.Host)
	}
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return a.refused(res, text)
	}
	if v == nil {
		return nil
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fault.Wrap(err, fault.Unavailable, "the CA at %s answers what is not JSON", a.base.Host)
	}
	return nil
}

func (a *api) refused(res *http.Response, text []byte) error {
	var said struct {
		Message string `json:"message"`
	}
	_ = json.Unmarshal(text, &said)
	r := &refusal{status: res.StatusCode, message: said.Message}
	switch {
	case res.StatusCode == http.StatusTooManyRequests:
		f := fault.Wrap(r, fault.RateLimited, "the CA at %s asks to slow down", a.base.Host)
		f.RetryAfter = pause
		if seconds, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil && seconds > 0 {
			f.RetryAfter = time.Duration(seconds) * time.Second
		}
		return f
	case res.StatusCode >= http.StatusInternalServerError:
		return fault.Wrap(r, fault.Unavailable, "the CA at %s failed with HTTP %d: %s", a.base.Host, res.StatusCode, said.Message)
	case res.StatusCode == http.StatusUnauthorized:
		return fault.Wrap(r, fault.Invalid, "the CA at %s does not accept the provisioner's token: %s", a.base.Host, said.Message)
	default:
		return fault.Wrap(r, fault.Invalid, "the CA at %s refuses with HTTP %d: %s", a.base.Host, res.StatusCode, said.Message)
	}
}
