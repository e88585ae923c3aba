package httpx_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/httpx"
	"github.com/certctl/certctl/libs/obs"
)

func TestWriteProblem_HasTheMembersOfOldAndNew(t *testing.T) {
	r := httptest.NewRequest(http.MethodPost, "/api/v1/certificates?x=1", nil)
	r = r.WithContext(obs.WithRequestID(r.Context(), "req-1"))
	w := httptest.NewRecorder()
	httpx.WriteProblem(w, r, fmt.Errorf("create: %w", fault.InvalidFields(fault.Field{Name: "sans[0]", Reason: "it is empty"})))

	if got := w.Header().Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("content type = %q", got)
	}
	if !strings.HasSuffix(w.Body.String(), "}\n") {
		t.Error("the body does not end with a newline")
	}
	var got map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"type": "urn:certctl:problem:invalid", "title": "Bad Request", "status": 400.0, "code": "invalid",
		"detail": "sans[0]: it is empty", "instance": "/api/v1/certificates",
		"error": "Bad Request", "message": "sans[0]: it is empty", "request_id": "req-1",
		"errors": []any{map[string]any{"field": "sans[0]", "reason": "it is empty"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWriteProblem_ShowsNothingOfAnInternalError(t *testing.T) {
	w := httptest.NewRecorder()
	w.Header().Set("Content-Length", "4")
	httpx.WriteProblem(w, httptest.NewRequest(http.MethodGet, "/", nil), errors.New("pq: password hunter2"))
	if w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "hunter2") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w.Header().Get("Content-Length") != "" {
		t.Error("the length of another body is left")
	}
}

func TestWriteProblem_SaysWhenToComeAgain(t *testing.T) {
	after := func(code fault.Code, d time.Duration) *fault.Error {
		f := fault.New(code, "later")
		f.RetryAfter = d
		return f
	}
	tests := []struct {
		err    error
		status int
		want   string
	}{
		{after(fault.Unavailable, 0), 503, "1"},
		{after(fault.Unavailable, 1500*time.Millisecond), 503, "2"},
		{after(fault.RateLimited, 20*time.Millisecond), 429, "1"},
		{after(fault.NotFound, time.Second), 404, ""},
	}
	for _, tt := range tests {
		w := httptest.NewRecorder()
		httpx.WriteProblem(w, httptest.NewRequest(http.MethodGet, "/", nil), tt.err)
		if got := w.Header().Get("Retry-After"); got != tt.want || w.Code != tt.status {
			t.Errorf("%v: %d, Retry-After %q; want %d, %q", tt.err, w.Code, got, tt.status, tt.want)
		}
	}
}

func TestWriteJSON_EndsWithANewline(t *testing.T) {
	w := httptest.NewRecorder()
	httpx.WriteJSON(w, http.StatusCreated, map[string]string{"status": "ready"})
	if w.Code != 201 || w.Body.String() != "{\"status\":\"ready\"}\n" || w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("%d %q", w.Code, w.Body)
	}
}

func TestNotFound_IsAProblem(t *testing.T) {
	w := httptest.NewRecorder()
	httpx.NotFound(w, httptest.NewRequest(http.MethodGet, "/api/v1/nothing", nil))
	if w.Code != 404 || !strings.Contains(w.Body.String(), "nothing at /api/v1/nothing") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestMethodNotAllowed_IsAProblem(t *testing.T) {
	w := httptest.NewRecorder()
	httpx.MethodNotAllowed(w, httptest.NewRequest(http.MethodPatch, "/api/v1/jobs", nil))
	if w.Code != 405 || !strings.Contains(w.Body.String(), "/api/v1/jobs has no method PATCH") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
