package bustest

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/testkit/natstest"
)

func TestConn_HealthFollowsTheServer(t *testing.T) {
	s := natstest.Start(t)
	conn := s.Connect(bus.Options{})
	if err := conn.Health(t.Context()); err != nil {
		t.Errorf("connected: %v", err)
	}
	s.Stop()
	eventually(t, "health notices", func() bool { return fault.CodeOf(conn.Health(t.Context())) == fault.Unavailable })
	s.Restart()
	eventually(t, "health recovers", func() bool { return conn.Health(t.Context()) == nil })
}

func TestConnect_SucceedsBeforeTheServerIsThere(t *testing.T) {
	s := natstest.Start(t)
	s.Stop()
	conn, err := bus.Connect(bus.Options{Server: s, Name: "early", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Health(t.Context()); fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("without a server: %v", err)
	}
	s.Restart()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := conn.Ready(ctx); err != nil {
		t.Error(err)
	}
	if err := conn.Close(ctx); err != nil {
		t.Error(err)
	}
	if _, err := bus.Connect(bus.Options{}); err == nil {
		t.Error("connected to nowhere")
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestConn_SaysLoudlyWhatItMayNotDo(t *testing.T) {
	s := natstest.Start(t, func(o *server.Options) {
		o.Users = []*server.User{{Username: "issuer", Password: "p", Permissions: &server.Permissions{
			Publish:   &server.SubjectPermission{Allow: []string{"certctl.evt.certificate.>"}},
			Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX_issuer.>"}},
		}}}
	})
	var log lockedBuffer
	metrics := prometheus.NewRegistry()
	conn := s.Connect(bus.Options{
		URL: "nats://issuer:p@in-process", InboxPrefix: "_INBOX_issuer", Metrics: metrics,
		Log: slog.New(slog.NewTextHandler(&log, nil)),
	})
	if err := conn.NC.Publish("certctl.evt.agent.agent-1.online", nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the refusal is logged", func() bool {
		return strings.Contains(log.String(), "level=ERROR") && strings.Contains(log.String(), "certctl.evt.agent.agent-1.online")
	})
	if n := counter(t, metrics, "certctl_bus_permission_violations_total"); n != 1 {
		t.Errorf("counted %v refusals", n)
	}
	other := s.Connect(bus.Options{URL: "nats://issuer:p@in-process", Metrics: metrics, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if _, err := other.NC.SubscribeSync("_INBOX_agent.>"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both connections count in one registry", func() bool {
		return counter(t, metrics, "certctl_bus_permission_violations_total") == 2
	})
}
