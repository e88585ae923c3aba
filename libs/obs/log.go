// Package obs makes a program observable: logs, metrics and traces with one set of names.
//
// Logs are slog records, JSON or text. The handler adds the request id and the trace id that the context carries, and a
// guard redacts what looks like a secret, by the attribute's key or by its value. The guard is a net, not a licence:
// code must not log secrets, and the inside of a struct passed to slog.Any is beyond it.
//
// Traces follow W3C Trace Context across HTTP and NATS. Ids are made and handed on in any case; spans are only recorded
// and exported when OTEL_EXPORTER_OTLP_ENDPOINT is set. Metrics live in a registry of their own, so that two services
// in one process and two tests in one binary do not meet.
package obs

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"go.opentelemetry.io/otel/trace"
)

// The keys of log attributes. A thing is logged under its key or not at all.
const (
	KeyService     = "service"
	KeyRequestID   = "request_id"
	KeyTraceID     = "trace_id"
	KeyError       = "error"
	KeyDuration    = "duration_ms"
	KeyCertificate = "cert_id"
	KeyJob         = "job_id"
	KeyOrder       = "order_id"
	KeyIssuer      = "issuer_id"
	KeyAgent       = "agent_id"
	KeySite        = "site_id"
	KeyTarget      = "target_id"
	KeyEvent       = "event_id"
	KeySubject     = "subject"
	KeyAttempt     = "attempt"
	KeyCount       = "count"
)

// NewLogger returns a logger that writes to w. Level is debug, info, warn or error and format is json or text, in any
// case of letters; empty means info and json.
func NewLogger(w io.Writer, level, format string) (*slog.Logger, error) {
	var l slog.Level
	switch strings.ToLower(level) {
	case "", "info":
		l = slog.LevelInfo
	case "debug":
		l = slog.LevelDebug
	case "warn", "warning":
		l = slog.LevelWarn
	case "error":
		l = slog.LevelError
	default:
		return nil, fmt.Errorf("log level %q is none of debug, info, warn, error", level)
	}
	opts := &slog.HandlerOptions{Level: l, ReplaceAttr: guard}
	switch strings.ToLower(format) {
	case "", "json":
		return slog.New(handler{slog.NewJSONHandler(w, opts)}), nil
	case "text":
		return slog.New(handler{slog.NewTextHandler(w, opts)}), nil
	default:
		return nil, fmt.Errorf("log format %q is neither json nor text", format)
	}
}

// handler adds the ids that the context carries.
type handler struct{ slog.Handler }

func (h handler) Handle(ctx context.Context, r slog.Record) error {
	if id := RequestID(ctx); id != "" {
		r.AddAttrs(slog.String(KeyRequestID, id))
	}
	if id := TraceID(ctx); id != "" {
		r.AddAttrs(slog.String(KeyTraceID, id))
	}
	return h.Handler.Handle(ctx, r)
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{h.Handler.WithAttrs(attrs)}
}

func (h handler) WithGroup(name string) slog.Handler { return handler{h.Handler.WithGroup(name)} }

type requestIDKey struct{}

// WithRequestID returns a context that carries the id of the request being served.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestIDKey{}, id)
}

// RequestID returns the context's request id, or the empty string.
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}

// TraceID returns the context's trace id in hex, or the empty string.
func TraceID(ctx context.Context) string {
	if sc := trace.SpanContextFromContext(ctx); sc.HasTraceID() {
		return sc.TraceID().String()
	}
	return ""
}
