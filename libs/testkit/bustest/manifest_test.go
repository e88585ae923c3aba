package bustest

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/libs/testkit/natstest"
)

func manifest(rev int) bus.Manifest {
	evt := streamConfig(stream, "certctl.evt.>")
	evt.MaxAge = 24 * time.Hour
	evt.DenyDelete = true
	evt.Compression = jetstream.S2Compression
	evt.Description = "what has happened"
	return bus.Manifest{
		Rev:     rev,
		Streams: []jetstream.StreamConfig{evt, streamConfig("DLQ", "certctl.dlq.>")},
		Consumers: []bus.ConsumerSpec{{Stream: stream, Config: jetstream.ConsumerConfig{
			Durable: durable, AckPolicy: jetstream.AckExplicitPolicy, MaxDeliver: 12, MaxAckPending: 128,
			FilterSubjects: []string{"certctl.evt.csr.>", "certctl.evt.target.>"},
		}}},
	}
}

func apply(t *testing.T, m bus.Manifest, js jetstream.JetStream) []string {
	t.Helper()
	changes, err := m.Apply(t.Context(), js)
	if err != nil {
		t.Fatal(err)
	}
	return lines(changes)
}

func lines(changes []bus.Change) []string {
	var out []string
	for _, c := range changes {
		out = append(out, c.String())
	}
	return out
}

func TestManifest_IsAppliedOnceAndThenAgrees(t *testing.T) {
	conn := natstest.Start(t).Connect(bus.Options{})
	if err := manifest(1).Verify(t.Context(), conn.JS); err == nil || !strings.Contains(err.Error(), "create stream EVT") {
		t.Errorf("nothing is there, and Verify says %v", err)
	}
	want := []string{"create stream EVT", "create stream DLQ", "create consumer EVT/issuer-evt"}
	if diff := cmp.Diff(want, apply(t, manifest(1), conn.JS)); diff != "" {
		t.Errorf("first apply (-want +got):\n%s", diff)
	}
	if got := apply(t, manifest(1), conn.JS); len(got) != 0 {
		t.Errorf("second apply changes %q", got)
	}
	if err := manifest(1).Verify(t.Context(), conn.JS); err != nil {
		t.Errorf("after apply: %v", err)
	}
}

func TestManifest_ShowsAndMakesChanges(t *testing.T) {
	conn := natstest.Start(t).Connect(bus.Options{})
	apply(t, manifest(1), conn.JS)
	m := manifest(2)
	m.Streams[0].MaxAge = 30 * 24 * time.Hour
	m.Streams[0].Compression = jetstream.NoCompression
	m.Streams[0].Subjects = []string{"certctl.evt.>", "certctl.evt2.>"}
	m.Consumers[0].Config.MaxAckPending = 256
	m.Consumers[0].Config.FilterSubjects = nil
	changes, err := m.Plan(t.Context(), conn.JS)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"update stream EVT\n    compression: s2 -> none\n    max_age: 24h0m0s -> 720h0m0s\n" +
			"    subjects: [\"certctl.evt.>\"] -> [\"certctl.evt.>\",\"certctl.evt2.>\"]\n    manifest_rev: 1 -> 2",
		"update stream DLQ\n    manifest_rev: 1 -> 2",
		"update consumer EVT/issuer-evt\n    filter_subjects: [\"certctl.evt.csr.>\",\"certctl.evt.target.>\"] -> unset\n" +
			"    max_ack_pending: 128 -> 256\n    manifest_rev: 1 -> 2",
	}
	if diff := cmp.Diff(want, lines(changes)); diff != "" {
		t.Errorf("plan (-want +got):\n%s", diff)
	}
	apply(t, m, conn.JS)
	if err := m.Verify(t.Context(), conn.JS); err != nil {
		t.Errorf("after apply: %v", err)
	}
}

func TestManifest_RefusesToGoBack(t *testing.T) {
	conn := natstest.Start(t).Connect(bus.Options{})
	newer := manifest(7)
	newer.Streams[0].MaxAge = 48 * time.Hour
	apply(t, newer, conn.JS)
	if _, err := manifest(6).Apply(t.Context(), conn.JS); !errors.Is(err, bus.ErrNewerManifest) {
		t.Errorf("older manifest: %v", err)
	}
	if err := newer.Verify(t.Context(), conn.JS); err != nil {
		t.Errorf("the older manifest has changed something: %v", err)
	}
	// A replica of the release before starts during an upgrade, as long as what it needs is there.
	if err := manifest(6).Verify(t.Context(), conn.JS); err != nil {
		t.Errorf("older replica: %v", err)
	}
	if err := conn.JS.DeleteConsumer(t.Context(), stream, durable); err != nil {
		t.Fatal(err)
	}
	if err := manifest(6).Verify(t.Context(), conn.JS); err == nil || !strings.Contains(err.Error(), "EVT/issuer-evt is missing") {
		t.Errorf("older replica without its consumer: %v", err)
	}
}

func TestManifest_RefusesWhatCannotBeChangedAndChangesNothing(t *testing.T) {
	conn := natstest.Start(t).Connect(bus.Options{})
	apply(t, manifest(1), conn.JS)
	m := manifest(2)
	m.Streams[0].MaxAge = 48 * time.Hour
	m.Streams[1].Storage = jetstream.MemoryStorage
	m.Consumers[0].Config.DeliverPolicy = jetstream.DeliverNewPolicy
	_, err := m.Apply(t.Context(), conn.JS)
	for _, want := range []string{"refuse stream DLQ", "storage: file -> memory", "refuse consumer EVT/issuer-evt", "deliver_policy: all -> new"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error does not say %q: %v", want, err)
		}
	}
	if err := manifest(1).Verify(t.Context(), conn.JS); err != nil {
		t.Errorf("a refused manifest has changed something: %v", err)
	}
}

func TestManifest_VerifySeesDriftButNotSize(t *testing.T) {
	conn := natstest.Start(t).Connect(bus.Options{})
	apply(t, manifest(1).Scaled(0.5), conn.JS)
	s, err := conn.JS.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	config := s.CachedInfo().Config
	if config.MaxBytes != 32<<20 {
		t.Errorf("scaled to %d bytes", config.MaxBytes)
	}
	if err := manifest(1).Verify(t.Context(), conn.JS); err != nil {
		t.Errorf("scaled streams: %v", err)
	}
	config.MaxAge = time.Hour
	if _, err := conn.JS.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	if err := manifest(1).Verify(t.Context(), conn.JS); err == nil || !strings.Contains(err.Error(), "max_age: 1h0m0s -> 24h0m0s") {
		t.Errorf("changed behind our back: %v", err)
	}
	if got := manifest(1).Scaled(0.0001).Streams[0].MaxBytes; got != 16<<20 {
		t.Errorf("smallest stream has %d bytes", got)
	}
}

func TestManifest_DemandsLimits(t *testing.T) {
	conn := natstest.Start(t).Connect(bus.Options{})
	m := manifest(1)
	m.Streams[0].MaxConsumers = 0
	m.Streams[1].MaxBytes = -1
	m.Consumers[0].Config.BackOff = []time.Duration{time.Second}
	_, err := m.Plan(t.Context(), conn.JS)
	for _, want := range []string{`"EVT"`, `"DLQ"`, `"issuer-evt"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error does not name %s: %v", want, err)
		}
	}
}

func TestManifest_ApplyWaitsForTheServer(t *testing.T) {
	s := natstest.Start(t)
	conn := s.Connect(bus.Options{})
	s.Stop()
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		_, err := manifest(1).Apply(ctx, conn.JS)
		done <- err
	}()
	s.Restart()
	if err := <-done; err != nil {
		t.Errorf("Apply: %v", err)
	}
}

// lossy is a server whose connections can lose what is written to them, as one does that breaks with a question in it.
type lossy struct {
	*natstest.Server
	losing atomic.Bool
	lost   chan struct{}
}

func (l *lossy) InProcessConn() (net.Conn, error) {
	conn, err := l.Server.InProcessConn()
	return lossyConn{conn, l}, err
}

type lossyConn struct {
	net.Conn
	server *lossy
}

func (c lossyConn) Write(p []byte) (int, error) {
	if c.server.losing.Swap(false) {
		close(c.server.lost)
		return len(p), nil
	}
	return c.Conn.Write(p)
}

func TestManifest_ApplyAsksAgainWhatIsLostOnItsWay(t *testing.T) {
	s := &lossy{Server: natstest.Start(t), lost: make(chan struct{})}
	conn, err := bus.Connect(bus.Options{Name: t.Name(), Server: s, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.NC.Close)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	// The first request subscribes to the answers; the one after it is nothing but a question.
	if _, err := conn.JS.AccountInfo(ctx); err != nil {
		t.Fatal(err)
	}
	s.losing.Store(true)
	if _, err := manifest(1).Apply(ctx, conn.JS); err != nil {
		t.Errorf("Apply: %v", err)
	}
	<-s.lost
}
