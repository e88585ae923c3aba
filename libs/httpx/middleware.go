package httpx

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/obs"
)

// RequestIDHeader names the header of the request's id in every response.
const RequestIDHeader = "X-Request-ID"

// RequestID gives each request a fresh id, in its context and in the response. An id that the client sent is ignored,
// so that ids are unique and say nothing that a client chose.
func RequestID(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := uuid.NewString()
		w.Header().Set(RequestIDHeader, id)
		next.ServeHTTP(w, r.WithContext(obs.WithRequestID(r.Context(), id)))
	})
}

// Trace runs each request in a span, which continues the client's trace if it sent one.
func Trace(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, span := obs.StartSpan(obs.ExtractHTTP(r.Context(), r.Header), r.Method, trace.SpanKindServer)
		defer span.End()
		if !span.IsRecording() {
			next.ServeHTTP(w, r.WithContext(ctx))
			return
		}
		rec := &recorder{ResponseWriter: w}
		next.ServeHTTP(rec, r.WithContext(ctx))
		span.SetAttributes(
			attribute.String("http.request.method", r.Method),
			attribute.String("url.path", r.URL.Path),
			attribute.Int("http.response.status_code", rec.code()),
		)
		if rec.code() >= http.StatusInternalServerError {
			span.SetStatus(codes.Error, "")
		}
	})
}

// Log writes one line for each request when it has been answered, with the error that WriteProblem was given. Failures
// of ours are errors, what is away for now is a warning, everything else is information.
func Log(log *slog.Logger) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			start := time.Now()
			rec := &recorder{ResponseWriter: w}
			note := new(errorNote)
			ctx := context.WithValue(r.Context(), errorNoteKey{}, note)
			defer func() {
				attrs := []slog.Attr{
					slog.String("method", r.Method),
					slog.String("path", r.URL.Path),
					slog.Int("status", rec.code()),
					slog.Int64("bytes", rec.bytes),
					slog.Float64(obs.KeyDuration, float64(time.Since(start).Microseconds())/1000),
				}
				if note.err != nil {
					attrs = append(attrs, slog.Any(obs.KeyError, note.err))
				}
				level := slog.LevelInfo
				switch {
				case rec.code() == http.StatusServiceUnavailable:
					level = slog.LevelWarn
				case rec.code() >= http.StatusInternalServerError:
					level = slog.LevelError
				}
				log.LogAttrs(ctx, level, "request", attrs...)
			}()
			next.ServeHTTP(rec, r.WithContext(ctx))
		})
	}
}

// Recover turns a panic into a 500 and logs it with its stack. When the response has begun, the connection is broken
// instead, so that the client cannot take what it has got for the whole. http.ErrAbortHandler is passed on: net/http
// understands it as just that.
func Recover(log *slog.Logger) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			rec := &recorder{ResponseWriter: w}
			defer func() {
				p := recover()
				if p == nil {
					return
				}
				if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
					panic(p)
				}
				log.ErrorContext(r.Context(), "handler panicked", "panic", p, "path", r.URL.Path, "stack", string(debug.Stack()))
				if rec.status != 0 {
					panic(http.ErrAbortHandler)
				}
				WriteProblem(rec, r, fault.New(fault.Internal, "internal error"))
			}()
			next.ServeHTTP(rec, r)
		})
	}
}

// BodyLimit refuses requests whose body is larger than limit bytes: at once when the length is declared, else when the
// handler reads past it, which DecodeFault recognises.
func BodyLimit(limit int64) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.ContentLength > limit {
				WriteProblem(w, r, fault.New(fault.TooLarge, "the body is larger than %d bytes", limit))
				return
			}
			r.Body = http.MaxBytesReader(w, r.Body, limit)
			next.ServeHTTP(w, r)
		})
	}
}

type errorNoteKey struct{}

// errorNote carries a handler's error out to Log. Both run in the request's goroutine.
type errorNote struct{ err error }

func noteError(ctx context.Context, err error) {
	if n, ok := ctx.Value(errorNoteKey{}).(*errorNote); ok {
		n.err = err
	}
}
