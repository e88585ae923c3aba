package agent_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/certctl/certctl/contracts/access"
	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/contracts/stream"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/natsauth"
	"github.com/certctl/certctl/libs/testkit/natstest"
)

const (
	site    = "site-test"
	agentID = "agent-test"
	// patience bounds every wait of these tests.
	patience = 30 * time.Second
)

// leaf is a site's leaf to its agents: a real server in operator mode, with the real
// permissions and streams, and the platform's part played by the test.
type leaf struct {
	t        *testing.T
	hub      *natstest.Hub
	url      string
	nc       *nats.Conn
	js       jetstream.JetStream
	signer   *natsauth.EdgeSigner
	platform struct{ seed, public string }

	mu sync.Mutex
	// All below are guarded by mu.
	heartbeats []command.Heartbeat
	reports    []command.AgentReport
	headers    []nats.Header
	refreshed  int
	secret     string // of the token that is good; empty when it is used
	agentKey   string
}

func startLeaf(t *testing.T) *leaf {
	t.Helper()
	address := freeAddress(t)
	l := &leaf{t: t, url: "nats://" + address.String()}
	l.hub = natstest.Operator(t, natsauth.Roles{
		Agent: natsauth.Permissions(access.Agent()), Enrol: natsauth.Permissions(access.Enrol()),
		Leaf: natsauth.Permissions(access.Leaf()), Relay: natsauth.Permissions(access.Relay()),
	}, func(o *server.Options) { o.Port = address.Port })
	l.signer = l.hub.EdgeSigner()
	var err error
	if l.platform.seed, l.platform.public, err = natsauth.NewPlatformKey(); err != nil {
		t.Fatal(err)
	}
	l.nc = l.hub.User(natsauth.EDGE, "relay", natstest.Everything())
	if l.js, err = jetstream.New(l.nc); err != nil {
		t.Fatal(err)
	}
	l.makeStreams()
	if _, err := l.nc.Subscribe(subject.AllSiteRequests, l.answer); err != nil {
		t.Fatal(err)
	}
	l.readReports()
	return l
}

func freeAddress(t *testing.T) *net.TCPAddr {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr)
}

func (l *leaf) makeStreams() {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), patience)
	defer cancel()
	streams, consumers := stream.Leaf()
	for _, s := range streams {
		s.MaxBytes = 64 << 20
		if _, err := l.js.CreateOrUpdateStream(ctx, s); err != nil {
			l.t.Fatalf("stream %s: %v", s.Name, err)
		}
	}
	for _, c := range consumers {
		// A relay makes its durable anew after each restart. This one does not.
		c.Config.MemoryStorage = false
		if _, err := l.js.CreateOrUpdateConsumer(ctx, c.Stream, c.Config); err != nil {
			l.t.Fatalf("consumer %s: %v", c.Config.Durable, err)
		}
	}
}

// readReports gathers what agents report, as the relay would.
func (l *leaf) readReports() {
	ctx, cancel := context.WithTimeout(l.t.Context(), patience)
	defer cancel()
	relay, err := l.js.Consumer(ctx, subject.StreamSiteReports, subject.ConsumerSiteRelay)
	if err != nil {
		l.t.Fatal(err)
	}
	reading, err := relay.Consume(func(m jetstream.Msg) {
		var signed command.Signed
		var report command.AgentReport
		if err := json.Unmarshal(m.Data(), &signed); err != nil {
			l.t.Errorf("report: %v", err)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if err := natsauth.VerifyReport(l.agentKey, signed.Payload, signed.Signature); err != nil {
			l.t.Errorf("report: %v", err)
		}
		if err := json.Unmarshal(signed.Payload, &report); err != nil {
			l.t.Errorf("report: %v", err)
		}
		l.reports = append(l.reports, report)
		l.headers = append(l.headers, m.Headers())
		if err := m.Ack(); err != nil {
			l.t.Logf("ack report: %v", err)
		}
	})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(reading.Stop)
}

func (l *leaf) answer(m *nats.Msg) {
	who, ok := subject.ParseSite(m.Subject)
	if !ok {
		l.t.Errorf("asked on %s", m.Subject)
		return
	}
	body, refusal := l.reply(who, m.Data)
	if m.Reply == "" {
		return
	}
	text, err := json.Marshal(command.Reply[any]{Fault: refusal, Body: &body})
	if err == nil {
		err = m.Respond(text)
	}
	if err != nil {
		l.t.Logf("respond on %s: %v", m.Subject, err)
	}
}

func (l *leaf) reply(who subject.Agent, data []byte) (any, *command.Fault) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case who.Agent == subject.AgentEnrol:
		var ask command.EnrolRequest
		if err := json.Unmarshal(data, &ask); err != nil || l.secret == "" || ask.Secret != l.secret {
			return nil, &command.Fault{Code: "forbidden", Message: "the enrolment token has been used"}
		}
		l.secret, l.agentKey = "", ask.PublicKey
		l.heartbeats = append(l.heartbeats, ask.Heartbeat)
		return command.EnrolReply{AgentID: agentID, SiteID: site, UserJWT: l.agentJWT(ask.PublicKey), PlatformKey: l.platform.public}, nil
	case who.Verb == command.VerbHello:
		c := stream.Agent(who.Agent)
		// Tests do not wait a minute for what was not acknowledged.
		c.Config.AckWait = 3 * time.Second
		if _, err := l.js.CreateOrUpdateConsumer(l.t.Context(), c.Stream, c.Config); err != nil {
			return nil, &command.Fault{Code: "unavailable", Message: err.Error()}
		}
		return struct{}{}, nil
	case who.Verb == command.VerbHeartbeat:
		var beat command.Heartbeat
		if err := json.Unmarshal(data, &beat); err != nil {
			l.t.Errorf("heartbeat: %v", err)
		}
		l.heartbeats = append(l.heartbeats, beat)
		return nil, nil
	case who.Verb == command.VerbRefresh:
		l.refreshed++
		return command.RefreshReply{UserJWT: l.agentJWT(l.agentKey)}, nil
	}
	return nil, &command.Fault{Code: "invalid", Message: "unknown verb"}
}

func (l *leaf) agentJWT(publicKey string) string {
	token, err := l.signer.Agent(agentID, site, publicKey, natsauth.JWTLife)
	if err != nil {
		l.t.Errorf("make agent JWT: %v", err)
	}
	return token
}

// token makes an enrolment token that is good once, for some time.
func (l *leaf) token(life time.Duration) string {
	l.t.Helper()
	userJWT, err := l.signer.Enrol("tok-1", site, life)
	if err != nil {
		l.t.Fatal(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.secret = "once"
	text, err := json.Marshal(command.EnrolmentToken{ID: "tok-1", SiteID: site, Secret: l.secret, JWT: userJWT})
	if err != nil {
		l.t.Fatal(err)
	}
	return "cet_" + base64.RawURLEncoding.EncodeToString(text)
}

// order sends an order to the agent, signed as the platform does.
func (l *leaf) order(verb, job string, attempt int, body any, change ...func(*command.AgentCommand)) {
	l.t.Helper()
	raw, err := json.Marshal(body)
	if err != nil {
		l.t.Fatal(err)
	}
	c := command.AgentCommand{
		JobID: job, Attempt: attempt, SiteID: site, AgentID: agentID, Verb: verb,
		IssuedAt: time.Now().UTC(), ExpiresAt: time.Now().Add(time.Hour).UTC(), Body: raw,
	}
	for _, f := range change {
		f(&c)
	}
	payload, err := json.Marshal(c)
	if err != nil {
		l.t.Fatal(err)
	}
	signature, err := natsauth.SignCommand(l.platform.seed, payload)
	if err != nil {
		l.t.Fatal(err)
	}
	l.send(subject.SiteCommand(agentID, verb, job), command.Signed{Payload: payload, Signature: signature, KeyID: l.platform.public})
}

func (l *leaf) send(to string, signed command.Signed) {
	l.t.Helper()
	text, err := json.Marshal(signed)
	if err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(l.t.Context(), patience)
	defer cancel()
	m := nats.NewMsg(to)
	m.Data = text
	m.Header["ce-id"] = []string{"cmd-" + nats.NewInbox()[len("_INBOX."):]}
	m.Header["ce-correlationid"] = []string{"req-1"}
	if _, err := l.js.PublishMsg(ctx, m); err != nil {
		l.t.Fatalf("send order: %v", err)
	}
}

// await waits until a condition over what the leaf heard holds.
func (l *leaf) await(what string, holds func() bool) {
	l.t.Helper()
	eventually(l.t, what, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return holds()
	})
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(patience)
	for !holds() {
		select {
		case <-deadline:
			t.Fatalf("%s: not within %s", what, patience)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// report waits for the report of an outcome of a job.
func (l *leaf) report(job, outcome string) command.AgentReport {
	l.t.Helper()
	var found command.AgentReport
	l.await(outcome+" of "+job, func() bool {
		for _, r := range l.reports {
			if r.JobID == job && r.Outcome == outcome {
				found = r
				return true
			}
			if r.JobID == job && r.Error != "" {
				l.t.Fatalf("%s is %s: %s", job, r.Outcome, r.Error)
			}
		}
		return false
	})
	return found
}

func (l *leaf) count(job, outcome string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, r := range l.reports {
		if r.JobID == job && r.Outcome == outcome {
			n++
		}
	}
	return n
}

// settled waits until the agent has acknowledged every order.
func (l *leaf) settled() {
	l.t.Helper()
	eventually(l.t, "every order acknowledged", func() bool {
		ctx, cancel := context.WithTimeout(l.t.Context(), patience)
		defer cancel()
		c, err := l.js.Consumer(ctx, subject.StreamSiteCommands, agentID)
		if err != nil {
			return false
		}
		info, err := c.Info(ctx)
		if err != nil || info.NumPending > 0 || info.NumAckPending > 0 {
			return false
		}
		// What is pending is noted a little later than what is stored.
		orders, err := l.js.Stream(ctx, subject.StreamSiteCommands)
		if err != nil {
			return false
		}
		last, err := orders.GetLastMsgForSubject(ctx, subject.SiteCommands(agentID))
		return errors.Is(err, jetstream.ErrMsgNotFound) || err == nil && info.AckFloor.Stream >= last.Sequence
	})
}

// aged rewrites a JWT as if it had been issued some time ago.
func (l *leaf) aged(token string, age time.Duration) string {
	l.t.Helper()
	claims, err := jwt.DecodeUserClaims(token)
	if err != nil {
		l.t.Fatal(err)
	}
	claims.IssuedAt = time.Now().Add(-age).Unix()
	keys, err := l.hub.Authority.EdgeKeys()
	if err != nil {
		l.t.Fatal(err)
	}
	key, err := nkeys.FromSeed([]byte(keys.Agent))
	if err != nil {
		l.t.Fatal(err)
	}
	text, err := json.Marshal(claims)
	if err != nil {
		l.t.Fatal(err)
	}
	signed := strings.Split(token, ".")[0] + "." + base64.RawURLEncoding.EncodeToString(text)
	signature, err := key.Sign([]byte(signed))
	if err != nil {
		l.t.Fatal(err)
	}
	return fmt.Sprintf("%s.%s", signed, base64.RawURLEncoding.EncodeToString(signature))
}
