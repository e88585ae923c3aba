package rig

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/certctl/certctl/contracts/httpapi/client"
)

// API is the control plane as a client with an admin's key sees it.
type API struct {
	*client.Client
	URL, Key string
}

func newAPI(t testing.TB, url, key string) *API {
	t.Helper()
	c, err := client.NewClient(url,
		client.WithHTTPClient(&http.Client{Timeout: 10 * time.Second}),
		client.WithRequestEditorFn(func(_ context.Context, r *http.Request) error {
			r.Header.Set("Authorization", "Bearer "+key)
			return nil
		}))
	if err != nil {
		t.Fatal(err)
	}
	return &API{Client: c, URL: url, Key: key}
}

// As is the API at a URL, as the holder of a key sees it.
func As(t testing.TB, url, key string) *API { return newAPI(t, url, key) }

// Refusal is an answer that is a problem document.
type Refusal struct {
	Status  int
	Problem client.Problem
	Body    string
}

// Error implements error.
func (r *Refusal) Error() string { return fmt.Sprintf("HTTP %d: %.500s", r.Status, r.Body) }

// StatusOf is the HTTP status of a refusal, 0 of any other error.
func StatusOf(err error) int {
	if r, ok := errors.AsType[*Refusal](err); ok {
		return r.Status
	}
	return 0
}

// Read decodes an answer; what the server refuses is a [Refusal].
func Read[T any](res *http.Response, err error) (T, error) {
	var v T
	body, err := Raw(res, err)
	if err != nil {
		return v, err
	}
	if err := json.Unmarshal(body, &v); err != nil {
		return v, fmt.Errorf("read %T: %w", v, err)
	}
	return v, nil
}

// Raw is the body of an answer; what the server refuses is a [Refusal].
func Raw(res *http.Response, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	if res.StatusCode >= http.StatusBadRequest {
		r := &Refusal{Status: res.StatusCode, Body: string(body)}
		_ = json.Unmarshal(body, &r.Problem)
		return nil, r
	}
	return body, nil
}

// Must is Read for what has to go well.
func Must[T any](t testing.TB) func(*http.Response, error) T {
	return func(res *http.Response, err error) T {
		t.Helper()
		v, err := Read[T](res, err)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// Value is what an optional field holds, or nothing.
func Value[T any](p *T) T {
	var zero T
	if p == nil {
		return zero
	}
	return *p
}

// Jobs lists every job of the installation.
func (a *API) Jobs(ctx context.Context) ([]client.Job, error) {
	var all []client.Job
	p := &client.ListJobsParams{PerPage: new(500)}
	for {
		list, err := Read[client.JobList](a.ListJobs(ctx, p))
		if err != nil {
			return nil, err
		}
		all = append(all, list.Data...)
		if list.NextCursor == nil {
			return all, nil
		}
		p.Cursor = list.NextCursor
	}
}

// Certificates lists every certificate of the installation.
func (a *API) Certificates(ctx context.Context) ([]client.Certificate, error) {
	var all []client.Certificate
	p := &client.ListCertificatesParams{PerPage: new(500)}
	for {
		list, err := Read[client.CertificateList](a.ListCertificates(ctx, p))
		if err != nil {
			return nil, err
		}
		all = append(all, list.Data...)
		if list.NextCursor == nil {
			return all, nil
		}
		p.Cursor = list.NextCursor
	}
}

// Audit lists every audit event with an action.
func (a *API) Audit(ctx context.Context, action string) ([]client.AuditEvent, error) {
	var all []client.AuditEvent
	p := &client.ListAuditEventsParams{PerPage: new(500), Action: &action}
	for {
		list, err := Read[client.AuditEventList](a.ListAuditEvents(ctx, p))
		if err != nil {
			return nil, err
		}
		all = append(all, list.Data...)
		if list.NextCursor == nil {
			return all, nil
		}
		p.Cursor = list.NextCursor
	}
}

// Active waits until a certificate is Active with a version other than the given one,
// and returns it.
func (a *API) Active(t testing.TB, id, other string) client.Certificate {
	t.Helper()
	var c client.Certificate
	Within(t, Patience, id+" is Active", func() (err error) {
		if c, err = Read[client.Certificate](a.GetCertificate(t.Context(), id)); err != nil {
			return err
		}
		if c.Status != client.CertificateStatusActive || Value(c.FingerprintSha256) == other {
			return fmt.Errorf("it is %s: %s", c.Status, Value(c.StatusReason))
		}
		return nil
	})
	return c
}

// Failed waits until a certificate is Failed, and returns it.
func (a *API) Failed(t testing.TB, id string) client.Certificate {
	t.Helper()
	var c client.Certificate
	Within(t, Patience, id+" is Failed", func() (err error) {
		if c, err = Read[client.Certificate](a.GetCertificate(t.Context(), id)); err == nil && c.Status != client.CertificateStatusFailed {
			err = fmt.Errorf("it is %s: %s", c.Status, Value(c.StatusReason))
		}
		return err
	})
	return c
}
