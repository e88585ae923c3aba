package deployment_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/certctl/certctl/contracts/access"
	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/stream"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/health"
	"github.com/certctl/certctl/libs/id"
	"github.com/certctl/certctl/libs/natsauth"
	"github.com/certctl/certctl/libs/natshttp"
	"github.com/certctl/certctl/libs/secret"
	"github.com/certctl/certctl/libs/service"
	"github.com/certctl/certctl/libs/testkit/natstest"
	"github.com/certctl/certctl/libs/testkit/pgtest"
	"github.com/certctl/certctl/migrations"
	"github.com/certctl/certctl/services/deployment"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.M{M: m}) }

const patience = 30 * time.Second

// platform is all that surrounds the service: a hub in operator mode with its streams,
// a database, the authority, and the issuer's side of the bus.
type platform struct {
	*testing.T
	hub    *natstest.Hub
	db     *pgxpool.Pool
	config deployment.Config
	sealer *secret.Sealer
	core   *bus.Conn
	edge   *bus.Conn

	running sync.WaitGroup
	stop    context.CancelFunc
}

func roles() natsauth.Roles {
	return natsauth.Roles{
		Agent: natsauth.Permissions(access.Agent()), Enrol: natsauth.Permissions(access.Enrol()),
		Leaf: natsauth.Permissions(access.Leaf()), Relay: natsauth.Permissions(access.Relay()),
	}
}

func newPlatform(t *testing.T) *platform {
	t.Helper()
	p := &platform{
		T: t, hub: natstest.Operator(t, roles()), db: pgtest.New(t, migrations.FS("deployment"), "deployment"),
		sealer: secret.New(secret.NewKey()), stop: func() {},
	}
	p.core, p.edge = p.connect(natsauth.CORE, "observer"), p.connect(natsauth.EDGE, "observer")
	streams, consumers := stream.Core()
	p.apply(p.core, streams, consumers)
	streams, consumers = stream.Edge()
	p.apply(p.edge, streams, consumers)
	p.authority()
	account, err := p.hub.Authority.AccountJWT(natsauth.EDGE)
	if err != nil {
		t.Fatal(err)
	}
	_, leaf, err := natsauth.NewUserKey()
	if err != nil {
		t.Fatal(err)
	}
	p.config = deployment.Config{
		AgentHeartbeatInterval: time.Minute, DeploymentMaxAttempts: 3,
		DeploymentRetryBase: 50 * time.Millisecond, DeploymentRetryCap: time.Second, DeploymentOrderLife: time.Hour,
		DeploymentOrderDeadline: 2 * time.Second, DeploymentSweepInterval: 15 * time.Second,
		Edge: deployment.Edge{
			Signer: p.hub.EdgeSigner(), AccountJWT: account, HubURLs: []string{p.hub.LeafURL().String()}, LocalLeafKey: leaf,
		},
	}
	t.Cleanup(p.end)
	return p
}

func (p *platform) connect(account natsauth.Account, name string) *bus.Conn {
	p.Helper()
	creds, err := p.hub.Authority.ServiceUser(account, name, natstest.Everything())
	if err != nil {
		p.Fatal(err)
	}
	return p.hub.Connect(bus.Options{
		Name: name, JWT: creds.JWT, Seed: creds.Seed, InboxPrefix: subject.Inbox(name), Log: slog.New(slog.DiscardHandler),
	})
}

func (p *platform) apply(conn *bus.Conn, streams []jetstream.StreamConfig, consumers []stream.Consumer) {
	p.Helper()
	m := bus.Manifest{Rev: stream.Revision, Streams: streams}
	for _, c := range consumers {
		// What was on its way when the hub was restarted comes again after this.
		c.Config.AckWait = time.Second
		m.Consumers = append(m.Consumers, bus.ConsumerSpec(c))
	}
	if _, err := m.Scaled(0.001).Apply(p.Context(), conn.JS); err != nil {
		p.Fatal(err)
	}
}

// authority revokes users for real.
func (p *platform) authority() {
	p.Helper()
	system := p.hub.User(natsauth.SYS, "system", natstest.Everything())
	_, err := p.core.NC.Subscribe(subject.Operation("authority", "revokeUsers"), func(m *nats.Msg) {
		var q command.RevokeUsers
		if err := json.Unmarshal(m.Data, &q); err != nil {
			p.Errorf("question to the authority: %v", err)
			return
		}
		token, err := p.hub.Authority.Revoke(natsauth.Account(q.Account), q.PublicKeys)
		if err == nil && len(q.PublicKeys) > 0 {
			err = natsauth.PushAccount(context.WithoutCancel(p.Context()), system, token)
		}
		if err != nil {
			p.Errorf("revoke: %v", err)
			return
		}
		text, err := json.Marshal(command.Reply[command.RevokedUsers]{Body: &command.RevokedUsers{AccountJWT: token}})
		if err == nil {
			err = m.Respond(text)
		}
		if err != nil {
			p.Errorf("answer of the authority: %v", err)
		}
	})
	if err != nil {
		p.Fatal(err)
	}
}

// start runs the service until end or the test's end.
func (p *platform) start() {
	p.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(p.Context()))
	p.stop = stop
	cfg, log := p.config, slog.New(slog.DiscardHandler)
	core, edge := p.connect(natsauth.CORE, "deployment"), p.connect(natsauth.EDGE, "deployment")
	cfg.Edge.Bus = edge
	deps := service.Deps{
		Log: log, DB: p.db, Bus: core, Metrics: prometheus.NewRegistry(), Health: health.New(log), Clock: clock.System, Sealer: p.sealer,
	}
	p.running.Go(func() {
		if err := deployment.Run(ctx, cfg, deps); err != nil {
			p.Errorf("run: %v", err)
		}
		core.NC.Close()
		edge.NC.Close()
	})
	p.until("the service answers", func() bool {
		_, err := p.call("GET", "/api/v1/sites", "listSites", nil, nil)
		return err == nil
	})
}

func (p *platform) end() {
	p.stop()
	p.running.Wait()
}

func (p *platform) until(what string, done func() bool) {
	p.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline.C:
			p.Fatalf("waited in vain until %s", what)
		}
	}
}

// call is what the gateway does for a request.
func (p *platform) call(method, path, operation string, body, into any) (int, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return 0, err
	}
	ctx := authn.NewContext(p.Context(), authn.Principal{ID: "key-admin", Kind: authn.KindUser})
	ctx = natshttp.WithRoute(ctx, natshttp.Route{Service: "deployment", Operation: operation})
	r, err := http.NewRequestWithContext(ctx, method, "http://deployment"+path, bytes.NewReader(text))
	if err != nil {
		return 0, err
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := natshttp.NewTransport(p.core.NC).RoundTrip(r)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	if err != nil {
		return answer.StatusCode, err
	}
	if answer.StatusCode >= 300 {
		return answer.StatusCode, errors.New(string(content))
	}
	if into != nil {
		err = json.Unmarshal(content, into)
	}
	return answer.StatusCode, err
}

func (p *platform) do(method, path, operation string, body, into any) {
	p.Helper()
	if _, err := p.call(method, path, operation, body, into); err != nil {
		p.Fatalf("%s: %v", operation, err)
	}
}

// tell publishes an event as the issuer does.
func (p *platform) tell(e event.Event, revision int64) {
	p.Helper()
	body, err := json.Marshal(e)
	if err != nil {
		p.Fatal(err)
	}
	m := bus.Message{
		Subject: event.Subject(e), ID: id.New("ev-"), Type: event.Type(e), Source: "/certctl/issuer", Time: time.Now(), AggVersion: revision, Body: body,
	}
	p.store(p.core, m)
}

func (p *platform) store(conn *bus.Conn, m bus.Message) {
	msg, err := m.Encode()
	if err != nil {
		p.Errorf("encode: %v", err)
		return
	}
	for {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(p.Context()), time.Second)
		_, err = conn.JS.PublishMsg(ctx, msg)
		cancel()
		if err == nil || p.Context().Err() != nil {
			return
		}
	}
}

// events lists the events about an aggregate's id that are in the stream, by name.
func (p *platform) events(aggregate, of string) []string {
	p.Helper()
	var names []string
	for _, m := range p.stored(p.core, subject.StreamEvents, subject.Events(aggregate, "")) {
		if m.Headers().Get("ce-subject") != aggregate+"/"+of {
			continue
		}
		names = append(names, m.Subject()[strings.LastIndexByte(m.Subject(), '.')+1:])
	}
	return names
}

// stored reads all messages on a subject.
func (p *platform) stored(conn *bus.Conn, name, on string) []jetstream.Msg {
	p.Helper()
	c, err := conn.JS.OrderedConsumer(p.Context(), name, jetstream.OrderedConsumerConfig{FilterSubjects: []string{on}})
	if err != nil {
		p.Fatal(err)
	}
	info, err := c.Info(p.Context())
	if err != nil {
		p.Fatal(err)
	}
	var msgs []jetstream.Msg
	for uint64(len(msgs)) < info.NumPending {
		batch, err := c.FetchNoWait(500)
		if err != nil {
			p.Fatal(err)
		}
		for m := range batch.Messages() {
			msgs = append(msgs, m)
		}
	}
	return msgs
}

func (p *platform) awaitEvents(aggregate, of string, want ...string) {
	p.Helper()
	p.until(aggregate+" "+of+": "+strings.Join(want, ", "), func() bool { return slices.Equal(p.events(aggregate, of), want) })
}
