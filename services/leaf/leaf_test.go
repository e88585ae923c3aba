package leaf_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/natsauth"
	"github.com/certctl/certctl/services/leaf"
)

func TestLeaf_CarriesOrdersAndReportsUnderTheSameIDInOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "site-1")
	l := w.leaf(w.config("site-1"))
	a := w.enter("agent-a", "site-1", l)
	const n = 300
	for i := range n {
		w.order("site-1", "agent-a", fmt.Sprintf("job-%d", i))
	}
	for i, m := range w.orders(a, n) {
		job := fmt.Sprintf("job-%d", i)
		if m.Subject() != "site.cmd.agent-a.deploy."+job || string(m.Data()) != job || m.Headers().Get(nats.MsgIdHdr) != "m-"+job {
			t.Fatalf("order %d is %s %s %v", i, m.Subject(), m.Data(), m.Headers())
		}
		if err := w.report(a, job); err != nil {
			t.Fatal(err)
		}
	}
	for i, m := range w.stored(subject.StreamAgentReports, subject.AgentReports("site-1"), n) {
		job := fmt.Sprintf("job-%d", i)
		if m.Subject() != "certctl.agent.evt.site-1.agent-a.deploy."+job || m.Headers().Get(nats.MsgIdHdr) != "r-agent-a-"+job {
			t.Fatalf("report %d is %s %v", i, m.Subject(), m.Headers())
		}
	}
}

func TestLeaf_StartsAndServesAgentsWithTheHubAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "site-1")
	c := w.config("site-1")
	l := w.leaf(c)
	a := w.enter("agent-a", "site-1", l)
	w.order("site-1", "agent-a", "job-1")
	if got := w.orders(a, 1); string(got[0].Data()) != "job-1" {
		t.Fatalf("order %s", got[0].Data())
	}
	l.stop()
	w.hub.Stop()

	c.Token, c.SiteID = "", "site-1" // a restart needs no token
	l = w.leaf(c)
	w.connect(a, l.url)
	if r := w.ask(a, command.VerbHello, nil); r.Fault != nil {
		t.Fatalf("hello with the hub away: %v", r.Fault)
	}
	began := time.Now()
	r := w.ask(a, command.VerbRefresh, nil)
	if r.Fault == nil || r.Fault.Code != string(fault.Unavailable) {
		t.Errorf("question to the hub: %+v", r)
	}
	if took := time.Since(began); took > 8*time.Second { // a question waits ten for its answer
		t.Errorf("it took %v to say so", took)
	}
	for i := range 20 {
		if err := w.report(a, fmt.Sprintf("job-%d", i)); err != nil {
			t.Fatalf("report with the hub away: %v", err)
		}
	}
	began = time.Now()
	w.hub.Restart()
	if got := w.stored(subject.StreamAgentReports, subject.AgentReports("site-1"), 20); len(got) != 20 {
		t.Errorf("%d reports", len(got))
	}
	t.Logf("20 reports at the hub %v after it began to start", time.Since(began))
}

func TestLeaf_EnrolsOnceAndKeepsItsKeyToItself(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "site-1")
	c := w.config("site-1")
	w.leaf(c).stop()
	w.leaf(c).stop()
	if w.enrols != 1 {
		t.Errorf("enrolled %d times", w.enrols)
	}
	info, err := os.Stat(filepath.Join(c.DataDir, "identity.json"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("identity has mode %v", info.Mode())
	}
}

func TestLeaf_RefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "site-1")
	used := w.config("site-1")
	w.leaf(used).stop()
	for name, c := range map[string]struct {
		change func(*leaf.Config)
		says   string
	}{
		"a token that was used":       {func(c *leaf.Config) { c.DataDir = t.TempDir() }, "the token has been used"},
		"another site's directory":    {func(c *leaf.Config) { c.SiteID = "site-2" }, "is that of site site-1"},
		"no token":                    {func(c *leaf.Config) { c.DataDir, c.Token, c.SiteID = t.TempDir(), "", "site-1" }, "has not enrolled"},
		"no site":                     {func(c *leaf.Config) { c.Token = "" }, "is needed"},
		"plain on the network":        {func(c *leaf.Config) { c.Listen = "0.0.0.0:0" }, "not a loopback address"},
		"a site named hub":            {func(c *leaf.Config) { c.SiteID = "hub" }, "cannot be the id"},
		"a hub over plain TCP afar":   {func(c *leaf.Config) { c.HubURL = []string{"nats://192.0.2.1:7422"} }, "neither TLS nor on this host"},
		"the token over HTTP to afar": {func(c *leaf.Config) { c.DataDir, c.GatewayURL = t.TempDir(), "http://192.0.2.1" }, "not sent"},
	} {
		t.Run(name, func(t *testing.T) {
			config := used
			c.change(&config)
			err := leaf.Run(t.Context(), config)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("err = %v", err)
			}
		})
	}
}

func TestLeaf_KeepsASecondOneOutOfItsDirectory(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "site-1")
	c := w.config("site-1")
	w.leaf(c)
	if err := leaf.Run(t.Context(), c); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("err = %v", err)
	}
}

func TestEnrolment_NeedsNothingButTheLeaf(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "site-1")
	l := w.leaf(w.config("site-1"))
	w.mu.Lock()
	w.answer = func(from subject.Agent, _ []byte) any {
		return command.EnrolReply{AgentID: "agent-new", SiteID: from.Site}
	}
	w.mu.Unlock()
	bearer, err := w.signer.Enrol("tok-1", "site-1", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	var denied error
	nc, err := nats.Connect(l.url, nats.UserJWT(func() (string, error) { return bearer, nil }, func([]byte) ([]byte, error) { return nil, nil }),
		nats.CustomInboxPrefix("_INBOX_enrol-tok-1"), nats.NoReconnect(),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { denied = err }))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	eventually(t, "an answer from the hub", func() bool {
		m, err := nc.Request(subject.SiteRequest(subject.AgentEnrol, "tok-1"), []byte("{}"), patience)
		if err != nil {
			t.Fatal(err)
		}
		var r command.Reply[command.EnrolReply]
		if err := json.Unmarshal(m.Data, &r); err != nil {
			t.Fatal(err)
		}
		return r.Fault == nil && r.Body.AgentID == "agent-new"
	})
	// The durable is there before the agent ever says hello.
	a := w.newAgent("agent-new", "site-1")
	w.connect(a, l.url)
	w.order("site-1", "agent-new", "job-1")
	w.orders(a, 1)

	for _, s := range []string{"site.rpc.enrol.tok-2", "site.rpc.agent-new.refresh", "site.rpc.site.refresh", "$JS.API.INFO"} {
		if _, err := nc.Request(s, nil, 200*time.Millisecond); err == nil {
			t.Errorf("the token may ask %s", s)
		}
	}
	nc.Close()
	if !errors.Is(denied, nats.ErrPermissionViolation) {
		t.Errorf("denied: %v", denied)
	}
}

func TestHeartbeats_AreGatheredAndKeptWhileTheHubIsAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "site-1")
	l := w.leaf(w.config("site-1"))
	a, b := w.enter("agent-a", "site-1", l), w.enter("agent-b", "site-1", l)
	w.hub.Stop()
	w.ask(a, command.VerbHeartbeat, command.Heartbeat{AgentID: "agent-b", Hostname: "one", OS: "linux"})
	w.ask(a, command.VerbHeartbeat, command.Heartbeat{Hostname: "two"})
	w.ask(b, command.VerbHeartbeat, command.Heartbeat{Hostname: "three"})
	w.hub.Restart()
	eventually(t, "both heartbeats", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.beats["agent-a"]) > 0 && len(w.beats["agent-b"]) > 0
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	if got := w.beats["agent-a"][0]; got.Hostname != "two" || got.OS != "linux" || got.At.IsZero() {
		t.Errorf("agent-a: %+v", got)
	}
	if got := w.beats["agent-b"][0]; got.Hostname != "three" {
		t.Errorf("agent-b, for whom agent-a cannot speak: %+v", got)
	}
}

func TestLeaf_RenewsItsJWTOverTheLink(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "site-1")
	c := w.config("site-1")
	w.leaf(c)
	eventually(t, "a JWT that lasts longer than an hour", func() bool {
		return leafJWTOf(t, c.DataDir).Expires > time.Now().Add(2*time.Hour).Unix()
	})
}

func TestLeaf_KeepsItsJWTWhenItIsGivenAnothers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "site-1")
	c := w.config("site-1")
	l := w.leaf(c)
	l.stop()
	before := leafJWTOf(t, c.DataDir)
	_, stranger, err := natsauth.NewUserKey()
	if err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	w.leafKey["site-1"], w.asked = stranger, nil
	w.mu.Unlock()
	w.leaf(c)
	eventually(t, "a second question after the first answer was refused", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.asked) >= 2
	})
	if after := leafJWTOf(t, c.DataDir); after.Subject != before.Subject {
		t.Errorf("the leaf took the JWT of %s", after.Subject)
	}
}

func TestLeaf_EnrolsAgainWithANewTokenWhenItsJWTRanOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "site-1")
	w.hub.Stop() // so that the JWT is not renewed
	w.life = time.Second
	c := w.config("site-1")
	w.leaf(c).stop()
	eventually(t, "the JWT has run out", func() bool { return time.Now().Unix() >= leafJWTOf(t, c.DataDir).Expires })
	w.life = time.Hour
	w.leaf(c)
	if w.enrols != 2 {
		t.Errorf("enrolled %d times", w.enrols)
	}
}

func leafJWTOf(t *testing.T, dir string) *jwt.UserClaims {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "identity.json"))
	if err != nil {
		t.Fatal(err)
	}
	var who struct {
		LeafJWT string `json:"leaf_jwt"`
	}
	if err := json.Unmarshal(data, &who); err != nil {
		t.Fatal(err)
	}
	claims, err := jwt.DecodeUserClaims(who.LeafJWT)
	if err != nil {
		t.Fatal(err)
	}
	return claims
}
