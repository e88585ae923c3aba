package digicert

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/ca"
)

const (
	// patience bounds one call. A server that hangs must not hold a worker for longer.
	patience  = 30 * time.Second
	maxAnswer = 4 << 20
	// pause is after a 429 that says no more. CertCentral counts over windows of five seconds and of some minutes.
	pause = time.Minute
	// maxPause bounds what a server may ask for.
	maxPause = time.Hour
	maxWords = 500
)

// api is CertCentral's HTTP interface.
type api struct {
	base   *url.URL
	key    string
	client *http.Client
}

func newAPI(base *url.URL, key string) *api {
	return &api{base: base, key: key, client: &http.Client{
		Timeout: patience,
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true,
			MaxIdleConnsPerHost: 16, IdleConnTimeout: time.Minute,
		},
		// The key is for the server that was named, and for no other.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// refusal is what CertCentral said against a call. It is the cause of a fault.
type refusal struct {
	status        int
	code, message string
}

// Error implements error.
func (r *refusal) Error() string {
	return "CertCentral answers " + strconv.Itoa(r.status) + " " + r.code + ": " + r.message
}

// answered reports whether an error is a refusal with one of the statuses.
func answered(err error, statuses ...int) bool {
	refused, ok := errors.AsType[*refusal](err)
	return ok && slices.Contains(statuses, refused.status)
}

// call sends a request and decodes the answer into v, which is a *[]byte for what is no JSON, or nil. Its errors are
// faults: Invalid for what CertCentral will never do, RateLimited and Unavailable for what it may do later.
func (a *api) call(ctx context.Context, method, path string, body, v any) error {
	content := io.Reader(http.NoBody)
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("encode a request to CertCentral: %w", err)
		}
		content = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, a.base.String()+"/"+path, content)
	if err != nil {
		return fmt.Errorf("ask CertCentral: %w", err)
	}
	req.Header.Set("X-DC-DEVKEY", a.key)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "certctl")
	res, err := a.client.Do(req)
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "CertCentral at %s cannot be reached: %s", a.base.Host, ca.Unreached(err, ""))
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "CertCentral at %s broke off its answer", a.base.Host)
	}
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return a.refused(res, text)
	}
	if raw, ok := v.(*[]byte); ok {
		*raw = text
		return nil
	}
	if v == nil || len(text) == 0 {
		return nil
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fault.Wrap(err, fault.Unavailable, "CertCentral at %s answers what is not understood", a.base.Host)
	}
	return nil
}

func (a *api) refused(res *http.Response, text []byte) error {
	var said struct {
		Errors []struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"errors"`
	}
	_ = json.Unmarshal(text, &said)
	r := &refusal{status: res.StatusCode}
	var words []string
	for _, e := range said.Errors {
		r.code = e.Code
		words = append(words, e.Message)
	}
	r.message = spoken(words, res.StatusCode)
	host := a.base.Host
	switch res.StatusCode {
	case http.StatusBadRequest, http.StatusConflict, http.StatusUnprocessableEntity:
		return fault.Wrap(r, fault.Invalid, "CertCentral at %s refuses: %s", host, r.message)
	case http.StatusUnauthorized:
		return fault.Wrap(r, fault.Unavailable, "CertCentral at %s does not accept the API key: %s", host, r.message)
	case http.StatusForbidden:
		// A matter of the key's permissions, which are the account's to mend, and not of what was asked.
		return fault.Wrap(r, fault.Unavailable, "the API key may not do this at CertCentral at %s: %s", host, r.message)
	case http.StatusTooManyRequests:
		f := fault.Wrap(r, fault.RateLimited, "CertCentral at %s asks to slow down", host)
		f.RetryAfter = retryAfter(res.Header.Get("Retry-After"))
		return f
	default:
		f := fault.Wrap(r, fault.Unavailable, "CertCentral at %s failed with HTTP %d: %s", host, res.StatusCode, r.message)
		if res.Header.Get("Retry-After") != "" {
			f.RetryAfter = retryAfter(res.Header.Get("Retry-After"))
		}
		return f
	}
}

// spoken is what a refusal says, made fit to be shown.
func spoken(said []string, status int) string {
	text := strings.Join(strings.Fields(strings.ToValidUTF8(strings.Join(said, "; "), "")), " ")
	if len(text) > maxWords {
		text = strings.ToValidUTF8(text[:maxWords], "") + "…"
	}
	if text == "" {
		return strings.ToLower(http.StatusText(status))
	}
	return text
}

// retryAfter reads RFC 9110 section 10.2.3.
func retryAfter(header string) time.Duration {
	if seconds, err := strconv.Atoi(header); err == nil && seconds > 0 {
		return min(time.Duration(seconds)*time.Second, maxPause)
	}
	if at, err := http.ParseTime(header); err == nil {
		if wait := time.Until(at); wait > 0 {
			return min(wait, maxPause)
		}
	}
	return pause
}
