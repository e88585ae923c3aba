package bus

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go/jetstream"
)

// Handler has the effects of messages, within tx. The messages are new to this consumer and in stream order.
type Handler func(ctx context.Context, tx pgx.Tx, batch []Message) error

// Spec says what to consume and what to do with what cannot be handled.
type Spec struct {
	// Stream and Durable name the consumer, which must exist (see Manifest). Durable is also its name in the inbox.
	Stream, Durable string
	// Batch is the most messages in one transaction. Zero is 64.
	Batch int
	// DLQSubject is where dead letters go, such as "certctl.dlq.issuer.issuer-evt". Required.
	DLQSubject string
	// DLQ is the JetStream with the dead letters' stream; nil is the consumer's own.
	DLQ jetstream.JetStream
	// Committed is called after each commit that had fresh messages, to wake what the handler made work for.
	Committed func()
}

// Consume handles messages until ctx ends, then finishes the batch in hand and returns nil.
func (c *Conn) Consume(ctx context.Context, spec Spec, pool *pgxpool.Pool, handle Handler) error { return nil }
