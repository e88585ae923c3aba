package httpx_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/httpx"
	"github.com/certctl/certctl/libs/obs"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// stack is the whole of the middleware, as the gateway has it.
func stack(log *slog.Logger, limit int64, h http.HandlerFunc) http.Handler {
	return httpx.RequestID(httpx.Trace(httpx.Log(log)(httpx.Recover(log)(httpx.BodyLimit(limit)(h)))))
}

func do(t *testing.T, h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestRequestID_IsAlwaysFresh(t *testing.T) {
	var seen string
	h := httpx.RequestID(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen = obs.RequestID(r.Context()) }))
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("X-Request-ID", "chosen-by-the-client")
	got := do(t, h, r).Header().Get("X-Request-ID")
	if id, err := uuid.Parse(got); err != nil || id.Version() != 4 {
		t.Errorf("X-Request-ID = %q, want a UUID v4", got)
	}
	if seen != got {
		t.Errorf("the context has %q, the response %q", seen, got)
	}
}

func TestRecover_AnswersAndLogsTheStack(t *testing.T) {
	var out bytes.Buffer
	h := stack(slog.New(slog.NewTextHandler(&out, nil)), 10, func(http.ResponseWriter, *http.Request) { panic("boom") })
	w := do(t, h, httptest.NewRequest(http.MethodGet, "/x", nil))
	if w.Code != 500 || !strings.Contains(w.Body.String(), `"request_id":"`+w.Header().Get("X-Request-ID")) || strings.Contains(w.Body.String(), "boom") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if !strings.Contains(out.String(), "boom") || !strings.Contains(out.String(), "middleware_test.go") {
		t.Errorf("logged %s", &out)
	}
}

func TestRecover_BreaksAResponseThatHasBegun(t *testing.T) {
	srv := httptest.NewServer(stack(quiet(), 10, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "half of it")
		w.(http.Flusher).Flush()
		panic("boom")
	}))
	defer srv.Close()
	resp, err := srv.Client().Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadAll(resp.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("reading the rest: %v, want a broken connection", err)
	}
}

func TestBodyLimit_RefusesDeclaredAndUndeclaredExcess(t *testing.T) {
	reads := 0
	h := stack(quiet(), 10, func(w http.ResponseWriter, r *http.Request) {
		reads++
		if _, err := io.ReadAll(r.Body); err != nil {
			httpx.WriteRequestError(w, r, err)
		}
	})
	declared := httptest.NewRequest(http.MethodPost, "/", strings.NewReader("more than ten bytes"))
	if w := do(t, h, declared); w.Code != 413 || reads != 0 {
		t.Errorf("declared: %d after %d reads", w.Code, reads)
	}
	undeclared := httptest.NewRequest(http.MethodPost, "/", io.MultiReader(strings.NewReader("more than ten bytes")))
	undeclared.ContentLength = -1
	if w := do(t, h, undeclared); w.Code != 413 || reads != 1 {
		t.Errorf("undeclared: %d", w.Code)
	}
	if w := do(t, h, httptest.NewRequest(http.MethodPost, "/", strings.NewReader("ten bytes."))); w.Code != 200 {
		t.Errorf("at the limit: %d", w.Code)
	}
}

func TestLog_WritesOneLineWithTheError(t *testing.T) {
	var out bytes.Buffer
	log, err := obs.NewLogger(&out, "info", "json")
	if err != nil {
		t.Fatal(err)
	}
	h := stack(log, 10, func(w http.ResponseWriter, r *http.Request) {
		httpx.WriteProblem(w, r, fault.Wrap(errors.New("disk is full"), fault.Unavailable, "try later"))
	})
	w := do(t, h, httptest.NewRequest(http.MethodPut, "/api/v1/owners/o-1", nil))

	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatalf("not one line of JSON: %s", &out)
	}
	for _, varies := range []string{"time", "duration_ms", "trace_id"} {
		delete(line, varies)
	}
	want := map[string]any{
		"level": "WARN", "msg": "request", "method": "PUT", "path": "/api/v1/owners/o-1", "status": 503.0,
		"bytes": float64(w.Body.Len()), "error": "try later: disk is full", "request_id": w.Header().Get("X-Request-ID"),
	}
	if diff := cmp.Diff(want, line); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTrace_ContinuesTheClients(t *testing.T) {
	stop, err := obs.StartTracing(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stop(context.WithoutCancel(t.Context())) }()
	var seen string
	h := stack(quiet(), 10, func(_ http.ResponseWriter, r *http.Request) { seen = obs.TraceID(r.Context()) })

	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	do(t, h, r)
	if seen != "0af7651916cd43dd8448eb211c80319c" {
		t.Errorf("trace id = %q", seen)
	}
	do(t, h, httptest.NewRequest(http.MethodGet, "/", nil))
	if len(seen) != 32 || seen == "0af7651916cd43dd8448eb211c80319c" {
		t.Errorf("a request without a trace has %q", seen)
	}
}
