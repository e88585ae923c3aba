package hub_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/certctl/certctl/contracts/access"
	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/natsauth"
	"github.com/certctl/certctl/libs/secret"
	"github.com/certctl/certctl/services/certctl/internal/authority"
	"github.com/certctl/certctl/services/certctl/internal/hub"
)

const patience = 10 * time.Second

var everything = natsauth.Permissions{Publish: []string{">"}, Subscribe: []string{">"}}

// installation is a hub's data folder.
type installation struct {
	t      *testing.T
	dir    string
	sealer *secret.Sealer
}

// authority opens the identities, as each start does.
func (in installation) authority() *natsauth.Authority {
	in.t.Helper()
	a, err := natsauth.Open(filepath.Join(in.dir, "authority"), in.sealer, natsauth.Config{
		Roles: natsauth.Roles{
			Agent: natsauth.Permissions(access.Agent()), Enrol: natsauth.Permissions(access.Enrol()),
			Leaf: natsauth.Permissions(access.Leaf()), Relay: natsauth.Permissions(access.Relay()),
		},
		Limits: map[natsauth.Account]natsauth.Limits{natsauth.CORE: {DiskBytes: -1}, natsauth.EDGE: {DiskBytes: -1}},
	})
	if err != nil {
		in.t.Fatal(err)
	}
	return a
}

func (in installation) start() (*hub.Hub, *natsauth.Authority) {
	in.t.Helper()
	a := in.authority()
	h, err := hub.Start(in.t.Context(), hub.Options{
		Authority: a, Dir: filepath.Join(in.dir, "nats"), Listen: "127.0.0.1:0", LeafListen: "127.0.0.1:0",
		MaxStore: 1 << 30, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		in.t.Fatal(err)
	}
	in.t.Cleanup(h.Stop)
	return h, a
}

func connect(t *testing.T, h *hub.Hub, a *natsauth.Authority, account natsauth.Account, name string, p natsauth.Permissions) (*nats.Conn, natsauth.Credentials) {
	t.Helper()
	creds, err := a.ServiceUser(account, name, p)
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect("", nats.InProcessServer(h), nats.UserJWTAndSeed(creds.JWT, creds.Seed), nats.NoReconnect(),
		nats.CustomInboxPrefix("_INBOX_"+name), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		t.Fatalf("%s in %s: %v", name, account, err)
	}
	t.Cleanup(nc.Close)
	return nc, creds
}

func TestHub_KeepsStreamsAndIdentitiesOverARestart(t *testing.T) {
	in := installation{t, t.TempDir(), secret.New(secret.NewKey())}
	h, a := in.start()
	nc, creds := connect(t, h, a, natsauth.CORE, "issuer", everything)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "EVT", Subjects: []string{"certctl.evt.>"}, MaxBytes: 16 << 20}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(ctx, "certctl.evt.certificate.mc-1.issued", nil); err != nil {
		t.Fatal(err)
	}
	h.Stop()

	h, _ = in.start()
	if err := h.Health(ctx); err != nil {
		t.Fatal(err)
	}
	// The credentials of before the restart are still good, over the network too.
	nc, err = nats.Connect(h.URL(), nats.UserJWTAndSeed(creds.JWT, creds.Seed))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if js, err = jetstream.New(nc); err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(ctx, "EVT")
	if err != nil {
		t.Fatal(err)
	}
	if n := s.CachedInfo().State.Msgs; n != 1 {
		t.Errorf("%d messages", n)
	}
}

func TestHub_LetsNobodyInWithoutAJWTAndNoAccountIntoAnother(t *testing.T) {
	in := installation{t, t.TempDir(), secret.New(secret.NewKey())}
	h, a := in.start()
	for what, option := range map[string]nats.Option{"anonymous": nats.Name("x"), "a password": nats.UserInfo("admin", "admin")} {
		if nc, err := nats.Connect(h.URL(), option); !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("%s: %v", what, err)
			nc.Close()
		}
	}
	core, _ := connect(t, h, a, natsauth.CORE, "issuer", everything)
	edge, _ := connect(t, h, a, natsauth.EDGE, "deployment", everything)
	heard, err := core.SubscribeSync(">")
	if err != nil {
		t.Fatal(err)
	}
	if err := core.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := edge.Publish("certctl.evt.certificate.mc-1.issued", nil); err != nil {
		t.Fatal(err)
	}
	if err := edge.Flush(); err != nil {
		t.Fatal(err)
	}
	if m, err := heard.NextMsg(100 * time.Millisecond); err == nil {
		t.Errorf("CORE hears EDGE: %s", m.Subject)
	}
	if _, err := core.Request("$SYS.REQ.SERVER.PING", nil, 100*time.Millisecond); err == nil {
		t.Error("CORE may ask SYS")
	}
}

func TestHub_ListensOnLoopbackOnly(t *testing.T) {
	in := installation{t, t.TempDir(), secret.New(secret.NewKey())}
	_, a := in.start()
	for _, o := range []hub.Options{{Listen: "0.0.0.0:0", LeafListen: "127.0.0.1:0"}, {LeafListen: ":0"}} {
		o.Authority, o.Dir, o.MaxStore, o.Log = a, t.TempDir(), 1<<30, slog.New(slog.DiscardHandler)
		if h, err := hub.Start(t.Context(), o); err == nil {
			h.Stop()
			t.Errorf("started with %q, %q", o.Listen, o.LeafListen)
		}
	}
}

// The whole way of a revocation: asked for on the bus, signed, applied, kept.
func TestAuthority_EndsARevokedLeafsLinkAtOnceAndForGood(t *testing.T) {
	in := installation{t, t.TempDir(), secret.New(secret.NewKey())}
	h, a := in.start()
	core, _ := connect(t, h, a, natsauth.CORE, "authority", everything)
	system, _ := connect(t, h, a, natsauth.SYS, "system", natsauth.Permissions{
		Publish: []string{"$SYS.REQ.CLAIMS.UPDATE"}, Subscribe: []string{"_INBOX_system.>"},
	})
	asker, _ := connect(t, h, a, natsauth.CORE, "deployment", natsauth.Permissions{
		Publish: []string{subject.Operation("authority", "revokeUsers")}, Subscribe: []string{"_INBOX_deployment.>"},
	})
	desk := &authority.Desk{Authority: a, Core: core, System: system, Log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- desk.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	seed, public, err := natsauth.NewUserKey()
	if err != nil {
		t.Fatal(err)
	}
	keys, err := a.EdgeKeys()
	if err != nil {
		t.Fatal(err)
	}
	signer, err := natsauth.NewEdgeSigner(keys)
	if err != nil {
		t.Fatal(err)
	}
	token, err := signer.Leaf("site-1", public)
	if err != nil {
		t.Fatal(err)
	}
	linked := leafNode(t, h.LeafURL(), token, seed)
	eventually(t, "the link", func() bool { return linked() == 1 })

	ask := func(request command.RevokeUsers) command.Reply[command.RevokedUsers] {
		t.Helper()
		body, err := json.Marshal(request)
		if err != nil {
			t.Fatal(err)
		}
		var reply command.Reply[command.RevokedUsers]
		eventually(t, "the desk answers", func() bool {
			m, err := asker.Request(subject.Operation("authority", "revokeUsers"), body, patience)
			return err == nil && json.Unmarshal(m.Data, &reply) == nil
		})
		return reply
	}
	for _, bad := range []command.RevokeUsers{
		{Account: "CORE", PublicKeys: []string{public}},
		{Account: "SYS", PublicKeys: []string{public}},
		{Account: "EDGE", PublicKeys: []string{"x"}},
	} {
		if reply := ask(bad); reply.Fault == nil || reply.Fault.Code != "invalid" {
			t.Errorf("%+v: %+v", bad, reply)
		}
	}
	before, err := a.AccountJWT(natsauth.EDGE)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	reply := ask(command.RevokeUsers{Account: "EDGE", PublicKeys: []string{public}})
	if reply.Fault != nil {
		t.Fatal(reply.Fault)
	}
	eventually(t, "the link ends", func() bool { return linked() == 0 })
	t.Logf("the link was gone %v after the question", time.Since(began))
	if _, err := natsauth.Newer(a.OperatorJWT(), before, reply.Body.AccountJWT); err != nil {
		t.Errorf("a leaf would not take the answer: %v", err)
	}
	again := leafNode(t, h.LeafURL(), token, seed)
	timer := time.NewTimer(300 * time.Millisecond)
	<-timer.C
	if again() != 0 {
		t.Error("the revoked leaf links again")
	}
	b := in.authority()
	after, err := b.AccountJWT(natsauth.EDGE)
	if err != nil || after != reply.Body.AccountJWT {
		t.Errorf("after a restart the revocation is not there: %v", err)
	}
}

// leafNode links a bare server to the hub, and returns how many links it has.
func leafNode(t *testing.T, hubURL, token, seed string) func() int {
	t.Helper()
	u, err := url.Parse(hubURL)
	if err != nil {
		t.Fatal(err)
	}
	o := &server.Options{ServerName: "leaf", Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true}
	o.LeafNode.ReconnectInterval = 20 * time.Millisecond
	o.LeafNode.Remotes = []*server.RemoteLeafOpts{{URLs: []*url.URL{u}, SignatureCB: func(nonce []byte) (string, []byte, error) {
		key, err := nkeys.FromSeed([]byte(seed))
		if err != nil {
			return "", nil, err
		}
		signature, err := key.Sign(nonce)
		return token, signature, err
	}}}
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	return s.NumLeafNodes
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-deadline.C:
			t.Fatalf("waited in vain: %s", what)
		case <-tick.C:
		}
	}
}
