package obs_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/certctl/certctl/libs/obs"
)

func logger(t *testing.T, level, format string) (*slog.Logger, *bytes.Buffer) {
	t.Helper()
	var b bytes.Buffer
	log, err := obs.NewLogger(&b, level, format)
	if err != nil {
		t.Fatal(err)
	}
	return log, &b
}

func TestLogger_AddsTheIdsOfTheContext(t *testing.T) {
	stop, err := obs.StartTracing(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := stop(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	ctx, span := obs.StartSpan(obs.WithRequestID(t.Context(), "req-1"), "work", trace.SpanKindInternal)
	defer span.End()

	log, out := logger(t, "", "")
	log.With(obs.KeyService, "issuer").InfoContext(ctx, "issued", obs.KeyCertificate, "mc-1")

	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatal(err)
	}
	delete(line, "time")
	want := map[string]any{
		"level": "INFO", "msg": "issued", "service": "issuer", "cert_id": "mc-1",
		"request_id": "req-1", "trace_id": span.SpanContext().TraceID().String(),
	}
	if diff := cmp.Diff(want, line); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestLogger_RedactsSecrets(t *testing.T) {
	const (
		apiKey = "cck_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
		seed   = "SUAAVRVVBVPSPMTZPZNNSN3CHK3ODXIQKPJIPMNCSZA5YAZR5NZRRB2C7M"
		pemKey = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\n-----END EC PRIVATE KEY-----"
		jwt    = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.c2ln"
	)
	tests := map[string]struct {
		key    string
		value  any
		hidden string
		kept   string
	}{
		"password":        {"db_password", "hunter2", "hunter2", ""},
		"token":           {"token", 424242, "424242", ""},
		"any letters":     {"Authorization", "Bearer hunter2", "hunter2", ""},
		"value: API key":  {"arg", "with " + apiKey, apiKey, "with "},
		"value: seed":     {"arg", seed, seed, ""},
		"value: PEM":      {"arg", "key: " + pemKey, "MHcCAQEE", "key: "},
		"value: JWT":      {"arg", jwt, jwt, ""},
		"value: URL":      {"url", "postgres://app:hunter2@db/x", "hunter2", "postgres://app:"},
		"value: an error": {"error", errors.New("dial nats://u:hunter2@h: refused"), "hunter2", "refused"},
		"harmless":        {"serial", "7f", "redacted", "7f"},
		"token count":     {"tokens", 424242, "redacted", "424242"},
	}
	for name, tt := range tests {
		for _, format := range []string{"json", "text"} {
			t.Run(name+"/"+format, func(t *testing.T) {
				log, out := logger(t, "info", format)
				log.Info("m", tt.key, tt.value)
				log.With(tt.key, tt.value).WithGroup("request").Info("m", tt.key, tt.value)
				if strings.Contains(out.String(), tt.hidden) || !strings.Contains(out.String(), tt.kept) {
					t.Errorf("logged %s", out)
				}
			})
		}
	}
}

func TestLogger_HonoursItsLevel(t *testing.T) {
	log, out := logger(t, "WARN", "text")
	log.Info("quiet")
	log.Warn("loud")
	if got := out.String(); strings.Contains(got, "quiet") || !strings.Contains(got, "loud") {
		t.Errorf("logged %q", got)
	}
}

func TestNewLogger_RefusesWhatItDoesNotKnow(t *testing.T) {
	if _, err := obs.NewLogger(&bytes.Buffer{}, "chatty", "json"); err == nil {
		t.Error("level chatty was accepted")
	}
	if _, err := obs.NewLogger(&bytes.Buffer{}, "info", "xml"); err == nil {
		t.Error("format xml was accepted")
	}
}

func TestTrace_CrossesHTTPAndNATS(t *testing.T) {
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	in := http.Header{}
	in.Set("Traceparent", parent)
	ctx := obs.ExtractHTTP(t.Context(), in)

	msg := nats.Header{}
	obs.InjectNATS(ctx, msg)
	if diff := cmp.Diff(nats.Header{"traceparent": {parent}}, msg); diff != "" {
		t.Errorf("NATS header (-want +got):\n%s", diff)
	}
	far := obs.ExtractNATS(t.Context(), msg)
	if got, want := obs.TraceID(far), "0af7651916cd43dd8448eb211c80319c"; got != want {
		t.Errorf("trace id = %q, want %q", got, want)
	}
	if got := obs.TraceParent(far); got != parent {
		t.Errorf("TraceParent = %q, want %q", got, parent)
	}
	out := http.Header{}
	obs.InjectHTTP(far, out)
	if got := out.Get("Traceparent"); got != parent {
		t.Errorf("HTTP header = %q", got)
	}
}

func TestTrace_IsAbsentWithoutOne(t *testing.T) {
	msg := nats.Header{}
	obs.InjectNATS(t.Context(), msg)
	if len(msg) > 0 || obs.TraceParent(t.Context()) != "" || obs.TraceID(t.Context()) != "" || obs.RequestID(t.Context()) != "" {
		t.Errorf("an empty context has a trace: %v", msg)
	}
}

func TestStartTracing_ExportsWhenTold(t *testing.T) {
	received := make(chan string, 8)
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { received <- r.URL.Path }))
	defer collector.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)

	stop, err := obs.StartTracing(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	_, span := obs.StartSpan(t.Context(), "work", trace.SpanKindInternal)
	span.End()
	if err := stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case path := <-received:
		if path != "/v1/traces" {
			t.Errorf("exported to %s", path)
		}
	default:
		t.Error("nothing was exported")
	}
}

func TestMetricsHandler_ServesAllRegistries(t *testing.T) {
	all := []prometheus.Gatherer{obs.NewProcessRegistry()}
	for _, name := range []string{"audit", "issuer"} {
		registry := obs.NewRegistry()
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "certctl_test_total", Help: "x"}, []string{"stream"})
		registry.MustRegister(c)
		c.WithLabelValues("EVT").Inc()
		all = append(all, obs.OfService(name, registry))
	}
	w := httptest.NewRecorder()
	obs.MetricsHandler(all...).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, want := range []string{`certctl_test_total{service="audit",stream="EVT"} 1`, `certctl_test_total{service="issuer",stream="EVT"} 1`, "go_goroutines", "process_start_time_seconds"} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s is missing", want)
		}
	}
}

func BenchmarkLogger(b *testing.B) {
	log, err := obs.NewLogger(discard{}, "info", "json")
	if err != nil {
		b.Fatal(err)
	}
	ctx := obs.WithRequestID(b.Context(), "2f1b7c9e-1111-4222-8333-444455556666")
	for b.Loop() {
		log.InfoContext(ctx, "request", "method", "GET", "path", "/api/v1/certificates", "status", 200, "bytes", 512)
	}
}

func BenchmarkStartSpan(b *testing.B) {
	stop, err := obs.StartTracing(b.Context(), "test")
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		_, span := obs.StartSpan(b.Context(), "work", trace.SpanKindInternal)
		span.End()
	}
	if err := stop(b.Context()); err != nil {
		b.Fatal(err)
	}
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }
