package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/certctl/certctl/contracts/httpapi/client"
)

// api calls the control plane as any client does.
type api struct {
	*client.Client
}

func newAPI(url, key string) *api {
	c, err := client.NewClient(url,
		client.WithHTTPClient(&http.Client{Timeout: 30 * time.Second}),
		client.WithRequestEditorFn(func(_ context.Context, r *http.Request) error {
			r.Header.Set("Authorization", "Bearer "+key)
			return nil
		}))
	if err != nil {
		panic(err) // the URL is one that we have listened on
	}
	return &api{c}
}

// read decodes an answer, or makes an error of what the server says.
func read[T any](res *http.Response, err error) (T, error) {
	var v T
	body, err := raw(res, err)
	if err != nil {
		return v, err
	}
	if err := json.Unmarshal(body, &v); err != nil {
		return v, fmt.Errorf("read %T: %w", v, err)
	}
	return v, nil
}

func raw(res *http.Response, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	if res.StatusCode >= http.StatusBadRequest {
		var p client.Problem
		if json.Unmarshal(body, &p) == nil && p.Message != "" {
			return nil, fmt.Errorf("HTTP %d: %s", res.StatusCode, p.Message)
		}
		return nil, fmt.Errorf("HTTP %d", res.StatusCode)
	}
	return body, nil
}

// version is one issued certificate as the API tells of it.
type version struct {
	serial, fingerprint string
	notAfter            time.Time
}

// newest waits until the certificate is Active with a version other than the given one.
func (a *api) newest(ctx context.Context, certificateID, other string) (version, error) {
	c, err := read[client.Certificate](a.GetCertificate(ctx, certificateID))
	if err != nil {
		return version{}, err
	}
	if c.Status == client.CertificateStatusFailed {
		return version{}, final("the certificate failed: %s", deref(c.StatusReason))
	}
	if c.Status != client.CertificateStatusActive || deref(c.FingerprintSha256) == other {
		return version{}, fmt.Errorf("the certificate is %s: %s", c.Status, deref(c.StatusReason))
	}
	return version{serial: deref(c.SerialNumber), fingerprint: deref(c.FingerprintSha256), notAfter: c.ExpiresAt}, nil
}

func deref(p *string) string {
	if p == nil {
		return ""
	}
	return *p
}
