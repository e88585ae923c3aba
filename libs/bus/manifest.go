package bus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/certctl/certctl/libs/retry"
)

// metadataRev is where a stream or consumer carries the revision of the manifest that it was last applied from.
const metadataRev = "certctl.manifest_rev"

// minScaled is the least that Scaled leaves of a stream.
const minScaled = 16 << 20

// answerTimeout bounds one question to JetStream, for one that was on its way when a server went down is never answered.
const answerTimeout = 2 * time.Second

// bootstrap is for a server that answers before its JetStream does.
var bootstrap = retry.Policy{Base: 50 * time.Millisecond, Cap: time.Second, Jitter: 0.3}

// ErrNewerManifest means that the server's streams come from a later manifest than this one. To apply an older manifest
// would silently take away what the later one has set.
var ErrNewerManifest = errors.New("applied from a newer manifest")

// Manifest declares the streams and durable consumers of one account. What the server has besides is left alone.
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

// Action is what Apply does about a Change.
type Action string

const (
	// Create makes what is missing.
	Create Action = "create"
	// Update changes it in place.
	Update Action = "update"
	// Refuse means that the server cannot change it in place, or must not: a new name and a copy are needed.
	Refuse Action = "refuse"
)

// Change is one object of the manifest that the server has not, or has otherwise.
type Change struct {
	Action Action
	// Object is "stream EVT" or "consumer EVT/issuer-evt".
	Object string
	// Lines name the differing fields, from the server's value to the manifest's: "max_age: 24h0m0s -> 720h0m0s".
	Lines []string

	stream   *jetstream.StreamConfig
	consumer *ConsumerSpec
}

// String returns the change as lines, the fields indented.
func (c Change) String() string {
	return strings.Join(append([]string{string(c.Action) + " " + c.Object}, c.Lines...), "\n    ")
}

// Scaled returns the manifest with every MaxBytes multiplied by factor, but at least 16 MiB. MaxBytes is reserved on
// the disk, so a small disk needs small streams.
func (m Manifest) Scaled(factor float64) Manifest {
	scaled := m
	scaled.Streams = make([]jetstream.StreamConfig, len(m.Streams))
	for i, s := range m.Streams {
		s.MaxBytes = max(int64(float64(s.MaxBytes)*factor), minScaled)
		scaled.Streams[i] = s
	}
	return scaled
}

// Plan returns what Apply would do, in its order. Nothing is changed. Like all of the manifest's methods it waits, until
// ctx ends, for a server whose JetStream is not there yet.
func (m Manifest) Plan(ctx context.Context, js jetstream.JetStream) ([]Change, error) {
	if err := m.validate(); err != nil {
		return nil, err
	}
	var changes []Change
	for _, s := range m.Streams {
		s.Metadata = m.stamp(s.Metadata)
		there, err := streamThere(ctx, js, s.Name)
		if err != nil {
			return nil, err
		}
		c, err := m.change("stream "+s.Name, there, s, streamRules)
		if err != nil {
			return nil, err
		}
		if c != nil {
			c.stream = &s
			changes = append(changes, *c)
		}
	}
	for _, spec := range m.Consumers {
		spec.Config.Metadata = m.stamp(spec.Config.Metadata)
		there, err := consumerThere(ctx, js, spec)
		if err != nil {
			return nil, err
		}
		c, err := m.change("consumer "+spec.Stream+"/"+spec.Config.Durable, there, spec.Config, consumerRules)
		if err != nil {
			return nil, err
		}
		if c != nil {
			c.consumer = &spec
			changes = append(changes, *c)
		}
	}
	return changes, nil
}

// Apply makes the server's streams and consumers equal to the manifest and returns what it changed. When any change is
// refused, none is made and the error lists the refused ones.
func (m Manifest) Apply(ctx context.Context, js jetstream.JetStream) ([]Change, error) {
	changes, err := m.Plan(ctx, js)
	if err != nil {
		return nil, fmt.Errorf("plan streams: %w", err)
	}
	var refused []error
	for _, c := range changes {
		if c.Action == Refuse {
			refused = append(refused, errors.New(c.String()))
		}
	}
	if len(refused) > 0 {
		return nil, fmt.Errorf("apply streams: %w", errors.Join(refused...))
	}
	for i, c := range changes {
		if err := patiently(ctx, func(ctx context.Context) error { return c.apply(ctx, js) }); err != nil {
			return changes[:i], fmt.Errorf("%s %s: %w", c.Action, c.Object, err)
		}
	}
	return changes, nil
}

// Verify returns an error that lists how the server differs from the manifest, if it does. Services call it when they
// start. MaxBytes is not compared, because it is fitted to the disk when the manifest is applied; and of streams that
// come from a newer manifest only the presence is verified, so that an old replica starts during an upgrade.
func (m Manifest) Verify(ctx context.Context, js jetstream.JetStream) error {
	changes, err := m.Plan(ctx, js)
	if errors.Is(err, ErrNewerManifest) {
		return m.verifyPresence(ctx, js)
	}
	if err != nil {
		return fmt.Errorf("verify streams: %w", err)
	}
	var drift []error
	for _, c := range changes {
		c.Lines = withoutFields(c.Lines, "max_bytes", "manifest_rev")
		if c.Action == Create || len(c.Lines) > 0 {
			drift = append(drift, errors.New(c.String()))
		}
	}
	if len(drift) > 0 {
		return fmt.Errorf("streams differ from the manifest (apply it): %w", errors.Join(drift...))
	}
	return nil
}

func (m Manifest) verifyPresence(ctx context.Context, js jetstream.JetStream) error {
	var missing []error
	for _, s := range m.Streams {
		there, err := streamThere(ctx, js, s.Name)
		if err != nil {
			return err
		}
		if there == nil {
			missing = append(missing, fmt.Errorf("stream %s is missing", s.Name))
		}
	}
	for _, spec := range m.Consumers {
		there, err := consumerThere(ctx, js, spec)
		if err != nil {
			return err
		}
		if there == nil {
			missing = append(missing, fmt.Errorf("consumer %s/%s is missing", spec.Stream, spec.Config.Durable))
		}
	}
	return errors.Join(missing...)
}

// validate demands what the server would else choose by itself, and differently from version to version.
func (m Manifest) validate() error {
	var errs []error
	for _, s := range m.Streams {
		if s.Name == "" || s.MaxBytes <= 0 || s.MaxConsumers <= 0 {
			errs = append(errs, fmt.Errorf("manifest: stream %q needs a name, MaxBytes and MaxConsumers", s.Name))
		}
	}
	for _, c := range m.Consumers {
		if c.Stream == "" || c.Config.Durable == "" || len(c.Config.BackOff) > 0 {
			errs = append(errs, fmt.Errorf("manifest: consumer %q needs a stream, a durable name and no BackOff", c.Config.Durable))
		}
	}
	return errors.Join(errs...)
}

func (m Manifest) stamp(metadata map[string]string) map[string]string {
	stamped := maps.Clone(metadata)
	if stamped == nil {
		stamped = map[string]string{}
	}
	stamped[metadataRev] = strconv.Itoa(m.Rev)
	return stamped
}

func (c Change) apply(ctx context.Context, js jetstream.JetStream) error {
	var err error
	switch {
	case c.stream != nil && c.Action == Create:
		_, err = js.CreateStream(ctx, *c.stream)
	case c.stream != nil:
		_, err = js.UpdateStream(ctx, *c.stream)
	case c.Action == Create:
		_, err = js.CreateConsumer(ctx, c.consumer.Stream, c.consumer.Config)
	default:
		_, err = js.UpdateConsumer(ctx, c.consumer.Stream, c.consumer.Config)
	}
	return err
}

// streamThere returns the server's configuration of a stream, nil when there is none.
func streamThere(ctx context.Context, js jetstream.JetStream, name string) (any, error) {
	var s jetstream.Stream
	err := patiently(ctx, func(ctx context.Context) (err error) { s, err = js.Stream(ctx, name); return err })
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("ask for stream %s: %w", name, err)
	}
	return s.CachedInfo().Config, nil
}

func consumerThere(ctx context.Context, js jetstream.JetStream, spec ConsumerSpec) (any, error) {
	var c jetstream.Consumer
	err := patiently(ctx, func(ctx context.Context) (err error) {
		c, err = js.Consumer(ctx, spec.Stream, spec.Config.Durable)
		return err
	})
	if errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("ask for consumer %s/%s: %w", spec.Stream, spec.Config.Durable, err)
	}
	return c.CachedInfo().Config, nil
}

// patiently asks again while JetStream is only starting or leaves a question unanswered, until ctx ends. What asks may
// have been done although its answer was lost, so it must be the same to do it twice.
func patiently(ctx context.Context, ask func(context.Context) error) error {
	for n := 1; ; n++ {
		asking, cancel := context.WithTimeout(ctx, answerTimeout)
		err := ask(asking)
		cancel()
		if err == nil || !starting(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(bootstrap.Delay(n, nil)):
		}
	}
}

func starting(err error) bool {
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		return api.Code == 503 || api.ErrorCode == 10008
	}
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrJetStreamNotEnabled)
}
