package survival

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/crypto/ocsp"
)

// api calls the control plane.
type api struct {
	url, key string
	client   *http.Client
}

// statusError is an answer that is no success.
type statusError struct {
	status int
	text   string
}

func (e *statusError) Error() string { return fmt.Sprintf("HTTP %d: %s", e.status, e.text) }

func (a *api) call(ctx context.Context, method, path string, body, v any) error {
	var content io.Reader = http.NoBody
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		content = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(ctx, method, a.url+path, content)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+a.key)
	r.Header.Set("Content-Type", "application/json")
	res, err := a.client.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode >= http.StatusBadRequest {
		return &statusError{res.StatusCode, string(text[:min(len(text), 300)])}
	}
	if v == nil {
		return nil
	}
	if raw, ok := v.(*[]byte); ok {
		*raw = text
		return nil
	}
	return json.Unmarshal(text, v)
}

// insist repeats a call while the answer leaves open whether it was carried out, or says
// that it was not for now. The first answer of another kind is returned.
func (a *api) insist(ctx context.Context, method, path string, body, v any) error {
	for {
		attempt, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := a.call(attempt, method, path, body, v)
		cancel()
		if refusal, ok := err.(*statusError); err == nil || ok && refusal.status < http.StatusInternalServerError {
			return err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}

type certificate struct {
	ID           string `json:"id"`
	Status       string `json:"status"`
	StatusReason string `json:"status_reason"`
	Serial       string `json:"serial_number"`
	Fingerprint  string `json:"fingerprint_sha256"`
}

type version struct {
	ID     string `json:"id"`
	Serial string `json:"serial_number"`
}

type job struct {
	ID            string `json:"id"`
	Type          string `json:"type"`
	CertificateID string `json:"certificate_id"`
	Status        string `json:"status"`
	LastError     string `json:"last_error"`
}

type auditEvent struct {
	Action  string         `json:"action"`
	Details map[string]any `json:"details"`
}

// all walks a list to its end by its cursor.
func all[T any](ctx context.Context, a *api, path string, query url.Values) ([]T, error) {
	var rows []T
	query.Set("per_page", "500")
	for {
		var page struct {
			Data       []T    `json:"data"`
			NextCursor string `json:"next_cursor"`
		}
		if err := a.call(ctx, http.MethodGet, path+"?"+query.Encode(), nil, &page); err != nil {
			return nil, err
		}
		rows = append(rows, page.Data...)
		if page.NextCursor == "" {
			return rows, nil
		}
		query.Set("cursor", page.NextCursor)
	}
}

// good tells whether an OCSP response says so. Its signature is checked elsewhere.
func good(der []byte) error {
	r, err := ocsp.ParseResponse(der, nil)
	if err != nil {
		return err
	}
	if r.Status != ocsp.Good {
		return fmt.Errorf("OCSP says %d", r.Status)
	}
	return nil
}
