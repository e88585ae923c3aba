package leaf_test

import (
	"encoding/json"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/natsauth"
)

// refusal is long enough for an answer that comes, and short enough to wait for one
// that must not.
const refusal = 150 * time.Millisecond

// refused tries subjects, each with a reply expected, and fails if one is answered.
func refused(t *testing.T, nc *nats.Conn, inbox string, subjects ...string) {
	t.Helper()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range subjects {
		if err := nc.PublishRequest(s, inbox, []byte(`{"batch":1,"no_wait":true}`)); err != nil {
			t.Fatal(err)
		}
		m, err := sub.NextMsg(refusal)
		if err == nil && m.Header.Get("Status") != "503" {
			t.Errorf("%s is answered: %s", s, m.Data)
		}
	}
}

// deaf subscribes and fails if anything is heard until trigger has been run.
func deaf(t *testing.T, nc *nats.Conn, trigger func(), subjects ...string) {
	t.Helper()
	heard := make(chan *nats.Msg, 16)
	for _, s := range subjects {
		if _, err := nc.ChanSubscribe(s, heard); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	trigger()
	select {
	case m := <-heard:
		t.Errorf("%s can be heard", m.Subject)
	case <-time.After(refusal):
	}
}

func TestAgent_CannotReadOrAnswerForAnother(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "site-1")
	l := w.leaf(w.config("site-1"))
	a, b := w.enter("agent-a", "site-1", l), w.enter("agent-b", "site-1", l)
	w.order("site-1", "agent-a", "job-1")
	refused(
		t, b.nc, subject.Inbox("agent-b")+".x",
		"$JS.API.CONSUMER.MSG.NEXT.SITE_CMD.agent-a", "$JS.API.CONSUMER.INFO.SITE_CMD.agent-a",
		"$JS.API.CONSUMER.CREATE.SITE_CMD", "$JS.API.CONSUMER.CREATE.SITE_CMD.x.site.cmd.agent-a.>",
		"$JS.API.CONSUMER.DELETE.SITE_CMD.agent-a", "$JS.API.STREAM.INFO.SITE_CMD", "$JS.API.STREAM.MSG.GET.SITE_CMD",
		"$JS.API.DIRECT.GET.SITE_CMD", "$JS.API.STREAM.PURGE.SITE_CMD", "$JS.API.STREAM.NAMES",
		"$JS.hub.API.CONSUMER.MSG.NEXT.AGENT_CMD.site-1", "$JS.hub.API.STREAM.INFO.AGENT_CMD",
		"site.rpc.agent-a.hello", "site.rpc.site.refresh", "site.rpc.enrol.tok-1", "site.evt.agent-a.deploy.job-1",
		"certctl.agent.rpc.site-1.agent-a.refresh", "certctl.agent.evt.site-1.agent-a.deploy.job-1", "site.cmd.agent-a.deploy.x",
	)
	deaf(
		t, b.nc, func() { w.order("site-1", "agent-a", "job-2"); _ = w.report(a, "job-1") },
		"site.>", "site.cmd.agent-a.>", "site.evt.>", subject.Inbox("agent-a")+".>", "_INBOX.>", "certctl.>", ">",
	)
	if got := w.orders(a, 2); string(got[0].Data()) != "job-1" {
		t.Errorf("agent-a's order: %s", got[0].Data())
	}
	if got := w.stored(subject.StreamAgentReports, subject.AgentReports("site-1"), 1); len(got) != 1 {
		t.Errorf("%d reports at the hub, where one is agent-a's", len(got))
	}
}

func TestStolenSigningKey_MakesNoWiderRights(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "site-1")
	l := w.leaf(w.config("site-1"))
	w.enter("agent-a", "site-1", l)
	w.order("site-1", "agent-a", "job-1")
	keys, err := w.hub.Authority.EdgeKeys()
	if err != nil {
		t.Fatal(err)
	}
	forge := func(seed, name string, change func(*jwt.UserClaims)) (*nats.Conn, error) {
		key, err := nkeys.FromSeed([]byte(seed))
		if err != nil {
			t.Fatal(err)
		}
		own, public, err := natsauth.NewUserKey()
		if err != nil {
			t.Fatal(err)
		}
		claims := jwt.NewUserClaims(public)
		claims.SetScoped(true)
		claims.Name, claims.IssuerAccount = name, keys.Account
		change(claims)
		token, err := claims.Encode(key)
		if err != nil {
			t.Fatal(err)
		}
		nc, err := nats.Connect(l.url, nats.UserJWTAndSeed(token, own), nats.NoReconnect(),
			nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
		if err == nil {
			t.Cleanup(nc.Close)
		}
		return nc, err
	}
	asItIs := func(*jwt.UserClaims) {}
	for what, try := range map[string]func() (*nats.Conn, error){
		"permissions of its own": func() (*nats.Conn, error) {
			return forge(keys.Agent, "agent-a", func(c *jwt.UserClaims) { c.Pub.Allow.Add(">"); c.Sub.Allow.Add(">") })
		},
		"another kind of connection": func() (*nats.Conn, error) { return forge(keys.Relay, "site-1", asItIs) },
		"a leaf as a client":         func() (*nats.Conn, error) { return forge(keys.Leaf, "site-1", asItIs) },
		"the name >":                 func() (*nats.Conn, error) { return forge(keys.Agent, ">", asItIs) },
		"no name":                    func() (*nats.Conn, error) { return forge(keys.Agent, "", asItIs) },
	} {
		if _, err := try(); !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, name := range []string{"*", "*.deploy", "*.1"} {
		nc, err := forge(keys.Agent, name, asItIs)
		if err != nil {
			continue
		}
		inbox := "_INBOX_" + name + ".x"
		refused(t, nc, inbox, "$JS.API.CONSUMER.MSG.NEXT.SITE_CMD.agent-a", "$JS.API.CONSUMER.INFO.SITE_CMD.agent-a",
			"site.rpc.agent-a.hello", "site.rpc.site.refresh", "$JS.API.STREAM.INFO.SITE_CMD")
	}
}

// A leaf's host belongs to a customer: whoever has its key runs whatever server he
// likes.
func TestLeaf_CannotReachAnotherSite(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "site-1", "site-2")
	c := w.config("site-1")
	w.leaf(c).stop()
	var stolen struct {
		Seed     string `json:"seed"`
		LeafJWT  string `json:"leaf_jwt"`
		RelayJWT string `json:"relay_jwt"`
	}
	data, err := os.ReadFile(filepath.Join(c.DataDir, "identity.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &stolen); err != nil {
		t.Fatal(err)
	}
	evil := func(token string) (*server.Server, *nats.Conn) {
		o := &server.Options{ServerName: "evil", Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true}
		o.LeafNode.ReconnectInterval = 20 * time.Millisecond
		o.LeafNode.Remotes = []*server.RemoteLeafOpts{{
			URLs: []*url.URL{w.hub.LeafURL()},
			SignatureCB: func(nonce []byte) (string, []byte, error) {
				key, err := nkeys.FromSeed([]byte(stolen.Seed))
				if err != nil {
					return "", nil, err
				}
				signature, err := key.Sign(nonce)
				return token, signature, err
			},
		}}
		s, err := server.NewServer(o)
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
		if !s.ReadyForConnections(patience) {
			t.Fatal("not ready")
		}
		nc, err := nats.Connect(s.ClientURL())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		return s, nc
	}
	s, nc := evil(stolen.LeafJWT)
	eventually(t, "the link", func() bool { return s.NumLeafNodes() == 1 })
	w.order("site-2", "agent-b", "job-1")
	refused(
		t, nc, "_INBOX_site-1.x",
		"$JS.hub.API.CONSUMER.MSG.NEXT.AGENT_CMD.site-2", "$JS.hub.API.CONSUMER.INFO.AGENT_CMD.site-2",
		"$JS.hub.API.CONSUMER.CREATE.AGENT_CMD", "$JS.hub.API.CONSUMER.CREATE.AGENT_CMD.x", "$JS.hub.API.STREAM.INFO.AGENT_CMD",
		"$JS.hub.API.STREAM.MSG.GET.AGENT_CMD", "$JS.hub.API.STREAM.CREATE.X", "$JS.hub.API.INFO", "$JS.API.STREAM.NAMES",
		"certctl.agent.evt.site-2.agent-b.deploy.job-1", "certctl.agent.rpc.site-2.agent-b.refresh",
		"certctl.agent.rpc.site-2.site.refresh", "certctl.agent.cmd.site-2.agent-b.deploy.x", "certctl.agent.cmd.site-1.agent-a.deploy.x",
	)
	deaf(
		t, nc, func() { w.order("site-2", "agent-b", "job-2"); w.order("site-1", "agent-a", "job-3") },
		"certctl.>", "certctl.agent.cmd.>", "_INBOX_site-2.>", "$JS.>", "_INBOX.>",
	)
	w.mu.Lock()
	for _, asked := range w.asked {
		if strings.Contains(asked, "site-2") {
			t.Errorf("the hub was asked %s", asked)
		}
	}
	w.mu.Unlock()
	reports, err := w.js.Stream(t.Context(), subject.StreamAgentReports)
	if err != nil {
		t.Fatal(err)
	}
	if n := reports.CachedInfo().State.Msgs; n != 0 {
		t.Errorf("%d reports were forged", n)
	}
	// Its own durable is open to it: that is what makes the refusals above tell.
	m, err := nc.Request("$JS.hub.API.CONSUMER.INFO.AGENT_CMD.site-1", nil, refusal)
	if err == nil {
		t.Errorf("a reply came to an inbox that is not the site's: %s", m.Subject)
	}
	relay, _ := evil(stolen.RelayJWT)
	deadline := time.NewTimer(refusal)
	<-deadline.C
	if relay.NumLeafNodes() != 0 {
		t.Error("the relay's JWT makes a link")
	}
}

func TestRevocation_EndsAnAgentAtItsLeafAtOnceAndForGood(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "site-1")
	c := w.config("site-1")
	l := w.leaf(c)
	a, b := w.enter("agent-a", "site-1", l), w.enter("agent-b", "site-1", l)
	before := w.account()
	stranger := newWorld(t)
	foreign, err := stranger.hub.Authority.Revoke(natsauth.EDGE, []string{b.public})
	if err != nil {
		t.Fatal(err)
	}
	after, err := w.hub.Authority.Revoke(natsauth.EDGE, []string{a.public})
	if err != nil {
		t.Fatal(err)
	}
	tell := func(token, n string) {
		t.Helper()
		data, err := json.Marshal(command.RevokedUsers{AccountJWT: token})
		if err != nil {
			t.Fatal(err)
		}
		to := subject.AgentCommand("site-1", subject.AgentSite, command.VerbAccount, n)
		if _, err := w.js.Publish(t.Context(), to, data, jetstream.WithMsgID("account-"+n)); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	tell(after, "1")
	eventually(t, "agent-a is disconnected", a.nc.IsClosed)
	t.Logf("disconnected %v after the order was sent", time.Since(began))
	tell(before, "2")
	tell(foreign, "3")
	tell("x", "4")
	w.order("site-1", "agent-b", "job-1")
	w.orders(b, 1) // carried after the three
	if b.nc.IsClosed() {
		t.Error("an account JWT of another operator was obeyed")
	}
	denied := func(url string) {
		t.Helper()
		nc, err := nats.Connect(url, nats.UserJWTAndSeed(a.jwt, a.seed))
		if !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("the revoked agent connects: %v", err)
			nc.Close()
		}
	}
	denied(l.url)
	l.stop()
	w.hub.Stop()
	l = w.leaf(c)
	denied(l.url)
	w.connect(b, l.url)
}
