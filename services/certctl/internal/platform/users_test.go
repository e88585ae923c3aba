package platform

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/libs/natsauth"
)

const settleWithin = 5 * time.Second

// busOnly is the platform's own NATS server with all its users and streams, and no
// database.
func busOnly(t *testing.T) *Platform {
	t.Helper()
	cfg := Config{DataDir: t.TempDir(), NatsLeafListen: "127.0.0.1:0", NatsListen: "127.0.0.1:0", NatsMaxBytes: minNatsBytes}
	sealer, err := seal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	p := &Platform{Sealer: sealer, config: cfg, log: slog.New(slog.DiscardHandler)}
	if err := p.openBus(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Hub.Stop)
	return p
}

// thief is whoever stole the credentials of a user: it has the rights of the user, and
// hears what the server refuses.
type thief struct {
	conn    *bus.Conn
	refused chan string
}

func (p *Platform) steal(t *testing.T, account natsauth.Account, name string) *thief {
	t.Helper()
	credentials, err := Credentials(p.Authority, account, name)
	if err != nil {
		t.Fatal(err)
	}
	s := &thief{refused: make(chan string, 16)}
	nc, err := nats.Connect(p.Hub.URL(), nats.UserJWTAndSeed(credentials.JWT, credentials.Seed),
		nats.CustomInboxPrefix(subject.Inbox(name)),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { s.refused <- err.Error() }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	s.conn = &bus.Conn{NC: nc}
	return s
}

// permitted publishes or subscribes, and tells whether the server let it pass. The
// server answers in order, so after a flush a refusal has arrived.
func (s *thief) permitted(t *testing.T, do func(nc *nats.Conn) error) bool {
	t.Helper()
	if err := do(s.conn.NC); err != nil {
		t.Fatal(err)
	}
	if err := s.conn.NC.FlushTimeout(settleWithin); err != nil {
		t.Fatal(err)
	}
	select {
	case text := <-s.refused:
		if !strings.Contains(strings.ToLower(text), "permissions violation") {
			t.Fatalf("the server said %q", text)
		}
		return false
	case <-time.After(50 * time.Millisecond):
		return true
	}
}

func (s *thief) mayPublish(t *testing.T, subj string) bool {
	t.Helper()
	return s.permitted(t, func(nc *nats.Conn) error { return nc.Publish(subj, []byte("{}")) })
}

func (s *thief) maySubscribe(t *testing.T, subj string) bool {
	t.Helper()
	return s.permitted(t, func(nc *nats.Conn) error {
		_, err := nc.SubscribeSync(subj)
		return err
	})
}

func TestUsers_ReachTheirOwnSubjectsAndNoOthers(t *testing.T) {
	p := busOnly(t)
	// What each service may publish and subscribe to of what follows; nothing else.
	owns := map[string][]string{
		"gateway": {
			subject.AuditRecord("api", "gateway"), subject.Operation("issuer", "getCertificate"),
			subject.Operation("deployment", "listAgents"), subject.Operation("audit", "listAuditEvents"),
			subject.Operation("deployment", "getTarget"), subject.Event("apikey", "changed"),
			subject.Replicas("gateway", "apikeys"),
		},
		"issuer": {
			subject.Event("certificate", "issued"), subject.Event("issuer", "configured"),
			subject.Operation("deployment", "getTarget"), subject.Operation("deployment", "answerHTTP01"),
			"$JS.API.CONSUMER.MSG.NEXT.EVT.issuer-evt",
			subject.DeadLetter("issuer", subject.ConsumerIssuerEvents),
		},
		"deployment": {
			subject.Event("csr", "submitted"), subject.Event("deployment", "completed"),
			subject.Event("agent", "online"), subject.Event("target", "created"),
			subject.Operation("authority", "revokeUsers"), subject.Operation("issuer", "getCertificate"),
			"$JS.API.CONSUMER.MSG.NEXT.EVT.deploy-evt",
		},
		"revocation": {subject.Operation("issuer", "signCRL"), "$JS.API.CONSUMER.MSG.NEXT.EVT.revocation-evt"},
		"audit": {
			"$JS.API.CONSUMER.MSG.NEXT.EVT.audit-evt", "$JS.API.CONSUMER.MSG.NEXT.AUDIT.audit-records",
			subject.Event("checkpoint", "signed"), "$JS.API.STREAM.INFO.DLQ", "$JS.API.DIRECT.GET.DLQ",
		},
	}
	targets := []string{
		"$JS.API.STREAM.DELETE.EVT", "$JS.API.STREAM.PURGE.EVT", "$JS.API.STREAM.MSG.GET.EVT", "$JS.API.DIRECT.GET.EVT",
		"$JS.API.CONSUMER.CREATE.EVT.thief", "$JS.API.CONSUMER.DELETE.EVT.audit-evt", "$SYS.REQ.CLAIMS.UPDATE",
		subject.AgentCommand("site-1", "agent-1", "deploy", "job-1"),
	}
	for _, own := range owns {
		targets = append(targets, own...)
	}
	for service, own := range owns {
		t.Run(service, func(t *testing.T) {
			s := p.steal(t, natsauth.CORE, service)
			for _, subj := range targets {
				want := slices.Contains(own, subj)
				if got := s.mayPublish(t, subj); got != want {
					t.Errorf("publish to %s: permitted %v, want %v", subj, got, want)
				}
			}
			for _, subj := range []string{
				">", subject.AllEvents, subject.AllAudit, "_INBOX.>", "_INBOX_gateway.>", "_INBOX_issuer.>", "_INBOX_deployment.>",
				subject.Operations("gateway"), subject.Operations("issuer"), subject.Operations("authority"),
				subject.Replicas("gateway", "apikeys"),
			} {
				want := subj == subject.Inbox(service)+".>" || subj == subject.Operations(service) && service != "gateway" ||
					subj == subject.Replicas(service, "apikeys")
				if got := s.maySubscribe(t, subj); got != want {
					t.Errorf("subscribe to %s: permitted %v, want %v", subj, got, want)
				}
			}
		})
	}
}

// TestUsers_OfAnotherAccountAreNotHeard: the accounts share nothing, so EDGE's service
// user cannot reach CORE whatever it is permitted.
func TestUsers_OfAnotherAccountAreNotHeard(t *testing.T) {
	p := busOnly(t)
	core := p.steal(t, natsauth.CORE, "issuer")
	sub, err := core.conn.NC.SubscribeSync(subject.Operations("issuer"))
	if err != nil {
		t.Fatal(err)
	}
	if err := core.conn.NC.FlushTimeout(settleWithin); err != nil {
		t.Fatal(err)
	}
	edge := p.steal(t, natsauth.EDGE, "deployment")
	if edge.mayPublish(t, subject.Operation("issuer", "getCertificate")) {
		t.Error("a user of EDGE may call a service")
	}
	gateway := p.steal(t, natsauth.CORE, "gateway")
	if !gateway.mayPublish(t, subject.Operation("issuer", "getCertificate")) {
		t.Error("the gateway may not call a service")
	}
	ctx, cancel := context.WithTimeout(t.Context(), settleWithin)
	defer cancel()
	if _, err := sub.NextMsgWithContext(ctx); err != nil {
		t.Errorf("the gateway's call did not arrive: %v", err)
	}
	if _, err := sub.NextMsg(50 * time.Millisecond); !errors.Is(err, nats.ErrTimeout) {
		t.Errorf("something else arrived: %v", err)
	}
}

func TestAuthority_RefusesWhoeverHasNoCredentials(t *testing.T) {
	p := busOnly(t)
	if nc, err := nats.Connect(p.Hub.URL()); err == nil {
		nc.Close()
		t.Error("the hub let somebody in without credentials")
	}
}

// TestUsers_AllConnect holds the length of credentials to what the hub reads.
func TestUsers_AllConnect(t *testing.T) {
	p := busOnly(t)
	for _, u := range users() {
		if s := p.steal(t, u.account, u.name); !s.conn.NC.IsConnected() {
			t.Errorf("%s does not get in", u.name)
		}
	}
}
