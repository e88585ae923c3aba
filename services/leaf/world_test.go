package leaf_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
	"go.uber.org/goleak"

	"github.com/certctl/certctl/contracts/access"
	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/contracts/stream"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/config"
	"github.com/certctl/certctl/libs/natsauth"
	"github.com/certctl/certctl/libs/testkit/natstest"
	"github.com/certctl/certctl/services/leaf"
)

const patience = 15 * time.Second

// childEnv makes the test binary be a leaf, for tests that kill it.
const childEnv = "CERTCTL_TEST_IS_LEAF"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		child()
		return
	}
	goleak.VerifyTestMain(m)
}

func child() {
	var c leaf.Config
	err := config.Load("CERTCTL_LEAF", &c)
	if err == nil {
		c.Ready = func(url string) { fmt.Println(url) }
		err = leaf.Run(context.Background(), c)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// world is a hub with the platform's streams, a stand-in for the deployment service on
// it, and a gateway that enrols leaves.
type world struct {
	t      *testing.T
	hub    *natstest.Hub
	nc     *nats.Conn
	js     jetstream.JetStream
	signer *natsauth.EdgeSigner
	url    string        // of the gateway
	life   time.Duration // of the JWT that enrolment gives

	mu      sync.Mutex
	enrols  int                             // guarded by mu
	leafKey map[string]string               // guarded by mu, by site
	asked   []string                        // guarded by mu: subjects of questions
	answer  func(subject.Agent, []byte) any // guarded by mu
	beats   map[string][]command.Heartbeat  // guarded by mu, by agent
}

func newWorld(t *testing.T, sites ...string) *world {
	t.Helper()
	w := &world{t: t, life: time.Hour, leafKey: map[string]string{}, beats: map[string][]command.Heartbeat{}}
	w.hub = natstest.Operator(t, natsauth.Roles{
		Agent: natsauth.Permissions(access.Agent()), Enrol: natsauth.Permissions(access.Enrol()),
		Leaf: natsauth.Permissions(access.Leaf()), Relay: natsauth.Permissions(access.Relay()),
	})
	w.signer = w.hub.EdgeSigner()
	w.nc = w.hub.User(natsauth.EDGE, "deployment", natstest.Everything())
	var err error
	if w.js, err = jetstream.New(w.nc); err != nil {
		t.Fatal(err)
	}
	streams, _ := stream.Edge()
	for _, s := range streams {
		s.MaxBytes = 64 << 20
		if _, err := w.js.CreateStream(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	for _, site := range sites {
		c := stream.Site(site)
		c.Config.AckWait = 3 * time.Second // above the two seconds for which a server heeds a pull of a link that is gone
		if _, err := w.js.CreateConsumer(t.Context(), c.Stream, c.Config); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.nc.Subscribe(subject.AllAgentRequests, w.serve); err != nil {
		t.Fatal(err)
	}
	gateway := httptest.NewServer(http.HandlerFunc(w.enrolSite))
	t.Cleanup(gateway.Close)
	w.url = gateway.URL
	return w
}

// serve answers questions as the deployment service does.
func (w *world) serve(m *nats.Msg) {
	from, _ := subject.ParseAgent(m.Subject)
	w.mu.Lock()
	w.asked = append(w.asked, m.Subject)
	answer := w.answer
	key := w.leafKey[from.Site]
	w.mu.Unlock()
	var body any = struct{}{}
	switch {
	case from.Agent == subject.AgentSite && from.Verb == command.VerbRefresh:
		token, err := w.signer.Leaf(from.Site, key)
		if err != nil {
			w.t.Error(err)
		}
		body = command.RefreshReply{UserJWT: token, AccountJWT: w.account()}
	case from.Verb == command.VerbHeartbeats:
		var beats command.Heartbeats
		if err := json.Unmarshal(m.Data, &beats); err != nil {
			w.t.Error(err)
		}
		w.mu.Lock()
		for _, b := range beats.Heartbeats {
			w.beats[b.AgentID] = append(w.beats[b.AgentID], b)
		}
		w.mu.Unlock()
	case answer != nil:
		body = answer(from, m.Data)
	}
	data, err := json.Marshal(map[string]any{"body": body})
	if err != nil {
		w.t.Error(err)
	}
	if err := m.Respond(data); err != nil && w.t.Context().Err() == nil {
		w.t.Log(err)
	}
}

func (w *world) account() string {
	token, err := w.hub.Authority.AccountJWT(natsauth.EDGE)
	if err != nil {
		w.t.Error(err)
	}
	return token
}

// enrolSite answers POST /api/v1/sites/{id}/enrol; each token is good once.
func (w *world) enrolSite(rw http.ResponseWriter, r *http.Request) {
	site := strings.Split(r.URL.Path, "/")[4]
	var body struct {
		Token     string `json:"token"`
		PublicKey string `json:"public_key"`
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		w.t.Error(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	rw.Header().Set("Content-Type", "application/json")
	if body.Token != siteToken(site) || (w.leafKey[site] != "" && w.leafKey[site] != body.PublicKey) {
		rw.WriteHeader(http.StatusForbidden)
		fmt.Fprint(rw, `{"message":"the token has been used"}`)
		return
	}
	w.enrols++
	w.leafKey[site] = body.PublicKey
	user := w.leafJWT(site, body.PublicKey, w.life)
	relay, err := w.signer.Relay(site, body.PublicKey)
	if err != nil {
		w.t.Error(err)
	}
	_ = json.NewEncoder(rw).Encode(map[string]any{
		"site_id": site, "domain": site, "user_jwt": user, "relay_jwt": relay, "operator_jwt": w.signer.OperatorJWT(),
		"account_jwt": w.account(), "account_key": w.signer.AccountKey(), "platform_key": "-",
		"hub_urls": []string{w.hub.LeafURL().String()},
	})
}

// leafJWT is the JWT of a leaf with a life of the test's choice.
func (w *world) leafJWT(site, public string, life time.Duration) string {
	keys, err := w.hub.Authority.EdgeKeys()
	if err != nil {
		w.t.Error(err)
	}
	key, err := nkeys.FromSeed([]byte(keys.Leaf))
	if err != nil {
		w.t.Error(err)
	}
	claims := jwt.NewUserClaims(public)
	claims.SetScoped(true)
	claims.Name, claims.IssuerAccount, claims.Expires = site, keys.Account, time.Now().Add(life).Unix()
	token, err := claims.Encode(key)
	if err != nil {
		w.t.Error(err)
	}
	return token
}

func siteToken(site string) string {
	data, _ := json.Marshal(command.EnrolmentToken{ID: "tok-" + site, SiteID: site, Secret: "s"})
	return "cet_" + base64.RawURLEncoding.EncodeToString(data)
}

// runningLeaf is a leaf in this process.
type runningLeaf struct {
	config leaf.Config
	url    string
	cancel context.CancelFunc
	done   chan error
}

func (w *world) config(site string) leaf.Config {
	return leaf.Config{
		Token: siteToken(site), GatewayURL: w.url, DataDir: filepath.Join(w.t.TempDir(), site), Listen: "127.0.0.1:0",
		CommandBytes: 32 << 20, ReportBytes: 32 << 20, ReconnectDelay: 50 * time.Millisecond,
		Log: slog.New(slog.NewTextHandler(testWriter{w.t}, &slog.HandlerOptions{Level: slog.LevelInfo})),
	}
}

// leaf starts a leaf of a site and waits until agents can connect.
func (w *world) leaf(c leaf.Config) *runningLeaf {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	l := &runningLeaf{config: c, cancel: cancel, done: make(chan error, 1)}
	ready := make(chan string, 1)
	c.Ready = func(url string) { ready <- url }
	go func() { l.done <- leaf.Run(ctx, c) }()
	select {
	case l.url = <-ready:
	case err := <-l.done:
		w.t.Fatalf("leaf: %v", err)
	case <-time.After(patience):
		w.t.Fatal("leaf is not ready")
	}
	w.t.Cleanup(l.stop)
	return l
}

func (l *runningLeaf) stop() {
	l.cancel()
	err := <-l.done
	l.done <- err
}

// agent is an agent's connection to a leaf.
type agent struct {
	id, seed, public, jwt string
	nc                    *nats.Conn
	js                    jetstream.JetStream
}

func (w *world) newAgent(id, site string) *agent {
	w.t.Helper()
	a := &agent{id: id}
	var err error
	if a.seed, a.public, err = natsauth.NewUserKey(); err != nil {
		w.t.Fatal(err)
	}
	if a.jwt, err = w.signer.Agent(id, site, a.public, natsauth.JWTLife); err != nil {
		w.t.Fatal(err)
	}
	return a
}

func (w *world) connect(a *agent, url string) {
	w.t.Helper()
	nc, err := nats.Connect(url, nats.UserJWTAndSeed(a.jwt, a.seed), nats.CustomInboxPrefix(subject.Inbox(a.id)),
		nats.NoReconnect(), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		w.t.Fatalf("agent %s: %v", a.id, err)
	}
	w.t.Cleanup(nc.Close)
	a.nc = nc
	if a.js, err = jetstream.New(nc); err != nil {
		w.t.Fatal(err)
	}
}

// enter connects an agent and says hello.
func (w *world) enter(id, site string, l *runningLeaf) *agent {
	w.t.Helper()
	a := w.newAgent(id, site)
	w.connect(a, l.url)
	if r := w.ask(a, command.VerbHello, nil); r.Fault != nil {
		w.t.Fatalf("hello: %v", r.Fault)
	}
	return a
}

func (w *world) ask(a *agent, verb string, body any) command.Reply[json.RawMessage] {
	w.t.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		w.t.Fatal(err)
	}
	m, err := a.nc.Request(subject.SiteRequest(a.id, verb), data, patience)
	if err != nil {
		w.t.Fatalf("%s: %v", verb, err)
	}
	var r command.Reply[json.RawMessage]
	if err := json.Unmarshal(m.Data, &r); err != nil {
		w.t.Fatalf("%s: %v", verb, err)
	}
	return r
}

// order sends a command as the deployment service does.
func (w *world) order(site, agentID, job string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	_, err := w.js.Publish(ctx, subject.AgentCommand(site, agentID, command.VerbDeploy, job), []byte(job), jetstream.WithMsgID("m-"+job))
	if err != nil {
		w.t.Fatalf("order %s: %v", job, err)
	}
}

func (w *world) report(a *agent, job string) error {
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	_, err := a.js.Publish(ctx, subject.SiteReport(a.id, subject.KindDeploy, job), []byte(job), jetstream.WithMsgID("r-"+a.id+"-"+job))
	return err
}

// orders takes n orders of an agent.
func (w *world) orders(a *agent, n int) []jetstream.Msg {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	c, err := a.js.Consumer(ctx, subject.StreamSiteCommands, a.id)
	if err != nil {
		w.t.Fatalf("durable of %s: %v", a.id, err)
	}
	var out []jetstream.Msg
	for len(out) < n {
		m, err := c.Next(jetstream.FetchContext(ctx))
		if err != nil {
			w.t.Fatalf("order %d of %d: %v", len(out)+1, n, err)
		}
		if err := m.DoubleAck(ctx); err != nil {
			w.t.Fatalf("ack: %v", err)
		}
		out = append(out, m)
	}
	return out
}

// stored waits for n messages of a hub's stream and returns all that there are.
func (w *world) stored(streamName, filter string, n int) []jetstream.Msg {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 2*patience)
	defer cancel()
	c, err := w.js.OrderedConsumer(ctx, streamName, jetstream.OrderedConsumerConfig{FilterSubjects: []string{filter}})
	if err != nil {
		w.t.Fatal(err)
	}
	it, err := c.Messages()
	if err != nil {
		w.t.Fatal(err)
	}
	defer it.Stop()
	var out []jetstream.Msg
	for {
		wait := jetstream.NextContext(ctx)
		if len(out) >= n {
			wait = jetstream.NextMaxWait(50 * time.Millisecond)
		}
		m, err := it.Next(wait)
		if err != nil && len(out) >= n {
			return out
		}
		if err != nil {
			w.t.Fatalf("%s holds %d of %d: %v", streamName, len(out), n, err)
		}
		out = append(out, m)
	}
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-deadline.C:
			t.Fatalf("waited in vain: %s", what)
		case <-tick.C:
		}
	}
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	if w.t.Context().Err() == nil {
		w.t.Log(strings.TrimSpace(string(b)))
	}
	return len(b), nil
}
