package vault

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/ca"
)

const (
	// patience bounds one call. A server that hangs must not hold a worker for longer.
	patience  = 20 * time.Second
	maxAnswer = 4 << 20
	pause     = time.Minute // after a 429 that says no more
)

// api is the server's HTTP interface.
type api struct {
	base      *url.URL
	namespace string
	client    *http.Client
}

// newAPI trusts the given roots, or whom the machine trusts if there are none.
func newAPI(base *url.URL, namespace string, roots []*x509.Certificate) *api {
	trust := &tls.Config{MinVersion: tls.VersionTLS12}
	if roots != nil {
		trust.RootCAs = x509.NewCertPool()
		for _, c := range roots {
			trust.RootCAs.AddCert(c)
		}
	}
	return &api{base: base, namespace: namespace, client: &http.Client{
		Timeout: patience,
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: trust, ForceAttemptHTTP2: true,
			MaxIdleConnsPerHost: 16, IdleConnTimeout: time.Minute,
		},
		// A token is for the server that was named, and for no other.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// refusal is what the server said against a call. It is the cause of a fault.
type refusal struct {
	status  int
	message string
}

// Error implements error.
func (r *refusal) Error() string {
	return "Vault answers " + strconv.Itoa(r.status) + ": " + r.message
}

// call sends a request below /v1/ and decodes the answer into v, if v is not nil. Its errors are faults: Invalid for what
// the server will never do, RateLimited and Unavailable for what it may do later.
func (a *api) call(ctx context.Context, method, path, token string, body, v any) error {
	content := io.Reader(http.NoBody)
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("encode a request to Vault: %w", err)
		}
		content = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, a.base.String()+"/v1/"+path, content)
	if err != nil {
		return fmt.Errorf("ask Vault: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	// Tells the server that this is no browser that somebody has sent there.
	req.Header.Set("X-Vault-Request", "true")
	if a.namespace != "" {
		req.Header.Set("X-Vault-Namespace", a.namespace)
	}
	if token != "" {
		req.Header.Set("X-Vault-Token", token)
	}
	res, err := a.client.Do(req)
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "Vault at %s cannot be reached: %s", a.base.Host, ca.Unreached(err, SettingTrust))
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "Vault at %s broke off its answer", a.base.Host)
	}
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return a.refused(res, text)
	}
	if v == nil {
		return nil
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fault.Wrap(err, fault.Unavailable, "Vault at %s answers what is not JSON", a.base.Host)
	}
	return nil
}

func (a *api) refused(res *http.Response, text []byte) error {
	var said struct {
		Errors []string `json:"errors"`
	}
	_ = json.Unmarshal(text, &said)
	r := &refusal{status: res.StatusCode, message: strings.Join(said.Errors, "; ")}
	switch res.StatusCode {
	case http.StatusTooManyRequests:
		f := fault.Wrap(r, fault.RateLimited, "Vault at %s asks to slow down", a.base.Host)
		f.RetryAfter = pause
		if seconds, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil && seconds > 0 {
			f.RetryAfter = time.Duration(seconds) * time.Second
		}
		return f
	case http.StatusBadRequest:
		return fault.Wrap(r, fault.Invalid, "Vault at %s refuses: %s", a.base.Host, r.message)
	case http.StatusForbidden, http.StatusNotFound:
		// A matter of policies, mounts and tokens, which are the server's to mend, and not of what was asked.
		return fault.Wrap(r, fault.Unavailable, "Vault at %s answers %d: %s", a.base.Host, res.StatusCode, orStatus(r))
	default:
		// 503 is also what a server answers that is sealed.
		return fault.Wrap(r, fault.Unavailable, "Vault at %s failed with HTTP %d: %s", a.base.Host, res.StatusCode, orStatus(r))
	}
}

func orStatus(r *refusal) string {
	if r.message == "" {
		return strings.ToLower(http.StatusText(r.status))
	}
	return r.message
}
