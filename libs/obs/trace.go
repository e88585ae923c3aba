package obs

import (
	"context"
	"fmt"
	"net/http"
	"os"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

var propagator propagation.TraceContext

// StartTracing installs the process's tracer provider. Without OTEL_EXPORTER_OTLP_ENDPOINT (or its _TRACES_ form) spans
// have ids and are recorded nowhere. The returned function sends what is pending; call it before the process ends.
func StartTracing(ctx context.Context, service string) (stop func(context.Context) error, err error) {
	opts := []sdktrace.TracerProviderOption{
		sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", service))),
	}
	if exporting() {
		exporter, err := otlptracehttp.New(ctx)
		if err != nil {
			return nil, fmt.Errorf("open the trace exporter: %w", err)
		}
		opts = append(opts, sdktrace.WithBatcher(exporter))
	} else {
		opts = append(opts, sdktrace.WithSampler(sdktrace.NeverSample()))
	}
	provider := sdktrace.NewTracerProvider(opts...)
	otel.SetTracerProvider(provider)
	return provider.Shutdown, nil
}

func exporting() bool {
	return os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != ""
}

// StartSpan starts a span of the given kind as a child of the context's. The caller ends it.
func StartSpan(ctx context.Context, name string, kind trace.SpanKind, attrs ...attribute.KeyValue) (context.Context, trace.Span) {
	tracer := otel.Tracer("github.com/certctl/certctl")
	return tracer.Start(ctx, name, trace.WithSpanKind(kind), trace.WithAttributes(attrs...))
}

// InjectNATS writes the context's trace into the header of a NATS message, under lower-case names as CloudEvents has
// them. It takes a nats.Header or any map of that shape.
func InjectNATS(ctx context.Context, header map[string][]string) {
	propagator.Inject(ctx, natsCarrier(header))
}

// ExtractNATS returns ctx with the trace that a NATS message's header carries, if any.
func ExtractNATS(ctx context.Context, header map[string][]string) context.Context {
	return propagator.Extract(ctx, natsCarrier(header))
}

// InjectHTTP writes the context's trace into the header of an HTTP request.
func InjectHTTP(ctx context.Context, header http.Header) {
	propagator.Inject(ctx, propagation.HeaderCarrier(header))
}

// ExtractHTTP returns ctx with the trace that an HTTP request's header carries, if any.
func ExtractHTTP(ctx context.Context, header http.Header) context.Context {
	return propagator.Extract(ctx, propagation.HeaderCarrier(header))
}

// TraceParent returns the context's trace in its W3C form, or the empty string. It is what an event stored now and sent
// later remembers.
func TraceParent(ctx context.Context) string {
	header := natsCarrier{}
	propagator.Inject(ctx, header)
	return header.Get("traceparent")
}

// natsCarrier keeps keys as they are, since NATS headers are case-sensitive and http.Header's methods are not.
type natsCarrier map[string][]string

func (c natsCarrier) Get(key string) string {
	if v := c[key]; len(v) > 0 {
		return v[0]
	}
	return ""
}

func (c natsCarrier) Set(key, value string) { c[key] = []string{value} }

func (c natsCarrier) Keys() []string {
	keys := make([]string, 0, len(c))
	for k := range c {
		keys = append(keys, k)
	}
	return keys
}
