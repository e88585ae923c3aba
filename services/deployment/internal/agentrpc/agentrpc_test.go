package agentrpc_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/natsauth"
	"github.com/certctl/certctl/libs/secret"
	"github.com/certctl/certctl/libs/testkit/natstest"
	"github.com/certctl/certctl/libs/testkit/pgtest"
	"github.com/certctl/certctl/migrations"
	"github.com/certctl/certctl/services/deployment/internal/agentrpc"
	"github.com/certctl/certctl/services/deployment/internal/enrolment"
	"github.com/certctl/certctl/services/deployment/internal/fleet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.M{M: m}) }

// office is a server that answers, and a leaf that asks.
type office struct {
	testing.TB
	db     *pgxpool.Pool
	clock  *clock.Manual
	office *enrolment.Office
	leaf   *nats.Conn
}

func open(t testing.TB) *office {
	t.Helper()
	db := pgtest.New(t, migrations.FS("deployment"), "deployment")
	authority, err := natsauth.Create(t.TempDir(), secret.New(secret.NewKey()), natsauth.Config{})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := authority.EdgeKeys()
	if err != nil {
		t.Fatal(err)
	}
	signer, err := natsauth.NewEdgeSigner(keys)
	if err != nil {
		t.Fatal(err)
	}
	o := &office{TB: t, db: db, clock: clock.At(time.Now())}
	o.office = &enrolment.Office{
		DB: db, Signer: signer, PlatformKey: "NPLATFORM", Clock: o.clock, Committed: func() {},
		EnsureSite: func(context.Context, string) error { return nil },
	}
	hub := natstest.Start(t)
	o.leaf = hub.Connect(bus.Options{}).NC
	answering := hub.Connect(bus.Options{}).NC
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		s := &agentrpc.Server{
			DB: db, NC: answering, Office: o.office, Clock: o.clock, Log: slog.New(slog.DiscardHandler),
			OrderDeadline: time.Minute, Committed: func() {},
		}
		if err := s.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(func() { stop(); running.Wait() })
	o.await(func() bool {
		_, err := ask[command.RefreshReply](o, subject.AgentRequest("site-local", "agent-none", command.VerbRefresh), nil)
		return !errors.Is(err, nats.ErrNoResponders)
	})
	return o
}

func (o *office) await(done func() bool) {
	o.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !done() {
		if time.Now().After(deadline) {
			o.Fatal("it never came")
		}
	}
}

// refusal is a fault that came as an answer.
type refusal command.Fault

func (r *refusal) Error() string { return r.Code + ": " + r.Message }

func ask[T any](o *office, on string, body any) (T, error) {
	o.Helper()
	var none T
	text, ok := body.([]byte)
	if !ok {
		var err error
		if text, err = json.Marshal(body); err != nil {
			o.Fatal(err)
		}
	}
	answer, err := o.leaf.Request(on, text, 5*time.Second)
	if err != nil {
		return none, err
	}
	var reply command.Reply[T]
	if err := json.Unmarshal(answer.Data, &reply); err != nil {
		o.Fatalf("%s: %v", answer.Data, err)
	}
	if reply.Fault != nil {
		return none, (*refusal)(reply.Fault)
	}
	return *reply.Body, nil
}

func (o *office) token(life time.Duration) command.EnrolmentToken {
	o.Helper()
	_, text, err := o.office.AgentToken(o.Context(), fleet.LocalSite, life)
	if err != nil {
		o.Fatal(err)
	}
	token, err := fleet.DecodeToken(text)
	if err != nil {
		o.Fatal(err)
	}
	return token
}

func (o *office) enrol(token command.EnrolmentToken, publicKey string) (command.EnrolReply, error) {
	o.Helper()
	return ask[command.EnrolReply](o, subject.AgentRequest(token.SiteID, subject.AgentEnrol, token.ID), command.EnrolRequest{
		Secret: token.Secret, PublicKey: publicKey,
		Heartbeat: command.Heartbeat{Hostname: "web-1", OS: "linux", Architecture: "amd64", IPAddress: "192.0.2.7", Version: "1.0.0"},
	})
}

func userKey(t testing.TB) string {
	t.Helper()
	_, public, err := natsauth.NewUserKey()
	if err != nil {
		t.Fatal(err)
	}
	return public
}

func count(o *office, sql string, args ...any) (n int) {
	o.Helper()
	if err := o.db.QueryRow(o.Context(), sql, args...).Scan(&n); err != nil {
		o.Fatal(err)
	}
	return n
}

func wantRefusal(t testing.TB, err error, code, says string) {
	t.Helper()
	r, ok := errors.AsType[*refusal](err)
	if !ok || r.Code != code || !strings.Contains(r.Message, says) {
		t.Errorf("got %v, want %s: ...%s...", err, code, says)
	}
}

func TestEnrol_MakesAnAgentWithItsOwnIdentity(t *testing.T) {
	o := open(t)
	key := userKey(t)
	who, err := o.enrol(o.token(time.Hour), key)
	if err != nil {
		t.Fatal(err)
	}
	claims, err := jwt.DecodeUserClaims(who.UserJWT)
	if err != nil || claims.Subject != key || claims.Name != who.AgentID || !claims.Tags.Contains("site:site-local") {
		t.Errorf("%v, %+v", err, claims)
	}
	if who.SiteID != fleet.LocalSite || who.PlatformKey != "NPLATFORM" || !strings.HasPrefix(who.AgentID, "agent-") {
		t.Errorf("%+v", who)
	}
	if n := count(o, `SELECT count(*) FROM agents WHERE id = $1 AND name = 'web-1' AND ip_address = '192.0.2.7' AND status = 'Online'`, who.AgentID); n != 1 {
		t.Error("the agent is not as it told")
	}
	if n := count(o, `SELECT count(*) FROM outbox WHERE subject = $1 AND headers->'ce-subject'->>0 = $2`,
		subject.Event("agent", "registered"), "agent/"+who.AgentID); n != 1 {
		t.Errorf("%d events", n)
	}
	fresh, err := ask[command.RefreshReply](o, subject.AgentRequest("site-local", who.AgentID, command.VerbRefresh), nil)
	if err != nil || fresh.UserJWT == "" || fresh.AccountJWT != "" {
		t.Errorf("refresh: %+v, %v", fresh, err)
	}
}

func TestEnrol_TokenMakesOneAgentAndNoSecond(t *testing.T) {
	o := open(t)
	token, key := o.token(time.Hour), userKey(t)
	first, err := o.enrol(token, key)
	if err != nil {
		t.Fatal(err)
	}
	// The same host asks again because it never heard the answer.
	again, err := o.enrol(token, key)
	if err != nil || again.AgentID != first.AgentID {
		t.Errorf("again: %+v, %v", again, err)
	}
	_, err = o.enrol(token, userKey(t))
	wantRefusal(t, err, "conflict", "has been used")
	if n := count(o, `SELECT count(*) FROM agents`); n != 1 {
		t.Errorf("%d agents", n)
	}
	if n := count(o, `SELECT count(*) FROM outbox`); n != 1 {
		t.Errorf("%d events", n)
	}
}

func TestEnrol_ManyHostsAtOnceWithOneToken(t *testing.T) {
	o := open(t)
	token := o.token(time.Hour)
	var mu sync.Mutex
	var hosts sync.WaitGroup
	enrolled := 0
	for range 16 {
		hosts.Go(func() {
			if _, err := o.enrol(token, userKey(t)); err == nil {
				mu.Lock()
				enrolled++
				mu.Unlock()
			}
		})
	}
	hosts.Wait()
	if n := count(o, `SELECT count(*) FROM agents`); enrolled != 1 || n != 1 {
		t.Errorf("%d were enrolled, %d agents", enrolled, n)
	}
}

func TestEnrol_BadTokensAreRefused(t *testing.T) {
	o := open(t)
	token := o.token(time.Hour)
	wrong := token
	wrong.Secret = "guessed"
	_, err := o.enrol(wrong, userKey(t))
	wantRefusal(t, err, "unauthenticated", "not known")
	elsewhere := token
	elsewhere.SiteID = "site-other"
	_, err = o.enrol(elsewhere, userKey(t))
	wantRefusal(t, err, "unauthenticated", "not known")
	_, err = o.enrol(token, "UABC")
	wantRefusal(t, err, "invalid", "public_key")
	_, err = ask[command.EnrolReply](o, subject.AgentRequest("site-local", subject.AgentEnrol, token.ID), []byte("{"))
	wantRefusal(t, err, "invalid", "form")
	o.clock.Advance(time.Hour)
	_, err = o.enrol(token, userKey(t))
	wantRefusal(t, err, "forbidden", "expired at")
	if n := count(o, `SELECT count(*) FROM agents`); n != 0 {
		t.Errorf("%d agents", n)
	}
}

func TestRefresh_IsRefusedToWhoMayNotHaveIt(t *testing.T) {
	o := open(t)
	who, err := o.enrol(o.token(time.Hour), userKey(t))
	if err != nil {
		t.Fatal(err)
	}
	_, err = ask[command.RefreshReply](o, subject.AgentRequest("site-other", who.AgentID, command.VerbRefresh), nil)
	wantRefusal(t, err, "forbidden", "not of site")
	_, err = ask[command.RefreshReply](o, subject.AgentRequest("site-local", "agent-none", command.VerbRefresh), nil)
	wantRefusal(t, err, "not_found", "agent-none")
	_, err = ask[command.RefreshReply](o, subject.AgentRequest("site-local", subject.AgentSite, command.VerbRefresh), nil)
	wantRefusal(t, err, "forbidden", "has not enrolled")
	_, err = ask[command.RefreshReply](o, subject.AgentRequest("site-local", who.AgentID, "dance"), nil)
	wantRefusal(t, err, "not_found", "dance")
	if _, err := o.db.Exec(t.Context(), `UPDATE agents SET status = 'Retired', retired_at = now()`); err != nil {
		t.Fatal(err)
	}
	_, err = ask[command.RefreshReply](o, subject.AgentRequest("site-local", who.AgentID, command.VerbRefresh), nil)
	wantRefusal(t, err, "forbidden", "is retired")
}

func TestRefresh_GivesALeafTheNewestAccount(t *testing.T) {
	o := open(t)
	if err := o.office.Local(t.Context(), userKey(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := o.db.Exec(t.Context(), `INSERT INTO edge_account (jwt, revision) VALUES ('newest', 1)`); err != nil {
		t.Fatal(err)
	}
	fresh, err := ask[command.RefreshReply](o, subject.AgentRequest("site-local", subject.AgentSite, command.VerbRefresh), nil)
	if err != nil || fresh.AccountJWT != "newest" || fresh.UserJWT == "" {
		t.Errorf("%+v, %v", fresh, err)
	}
}

func (o *office) beats(siteID string, beats ...command.Heartbeat) {
	o.Helper()
	if _, err := ask[struct{}](o, subject.AgentRequest(siteID, subject.AgentSite, command.VerbHeartbeats), command.Heartbeats{Heartbeats: beats}); err != nil {
		o.Fatal(err)
	}
}

func TestHeartbeats_NoteWhatIsToldAndNeverGoBack(t *testing.T) {
	o := open(t)
	who, err := o.enrol(o.token(time.Hour), userKey(t))
	if err != nil {
		t.Fatal(err)
	}
	now := o.clock.Advance(time.Minute)
	// The host's clock is an hour slow, and it says twice what it is.
	o.beats("site-local", command.Heartbeat{AgentID: who.AgentID, Version: "1.0.1"},
		command.Heartbeat{AgentID: who.AgentID, Version: "1.0.2", Hostname: "web\x00-1", At: now.Add(-time.Hour)},
		command.Heartbeat{AgentID: "agent-unknown"}, command.Heartbeat{AgentID: "not.an.id"})
	heard := func() (at time.Time, hostname, version string) {
		err := o.db.QueryRow(t.Context(), `SELECT last_heartbeat_at, hostname, version FROM agents`).Scan(&at, &hostname, &version)
		if err != nil {
			t.Fatal(err)
		}
		return at, hostname, version
	}
	if at, hostname, version := heard(); !at.Equal(now) || hostname != "web-1" || version != "1.0.2" {
		t.Errorf("heard at %s: %s, %s", at, hostname, version)
	}
	// Another replica, whose clock is behind.
	o.clock.Set(now.Add(-10 * time.Second))
	o.beats("site-local", command.Heartbeat{AgentID: who.AgentID})
	if at, _, version := heard(); !at.Equal(now) || version != "1.0.2" {
		t.Errorf("heard at %s: %s", at, version)
	}
	// Its word for an agent of another site counts for nothing.
	o.clock.Set(now.Add(time.Hour))
	o.beats("site-other", command.Heartbeat{AgentID: who.AgentID, Version: "9"})
	if at, _, version := heard(); !at.Equal(now) || version != "1.0.2" {
		t.Errorf("heard at %s: %s", at, version)
	}
}

func TestHeartbeats_BringAnAgentBackAsItIsNowAndNotAsItWas(t *testing.T) {
	o := open(t)
	who, err := o.enrol(o.token(time.Hour), userKey(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.db.Exec(t.Context(), `UPDATE agents SET status = 'Offline', version = '1.0.0', ip_address = '10.0.0.1', os = 'linux'`); err != nil {
		t.Fatal(err)
	}
	now := o.clock.Advance(time.Hour)
	o.beats("site-local", command.Heartbeat{AgentID: who.AgentID, Version: "1.1.0", IPAddress: "10.0.0.2"})
	if n := count(o, `SELECT count(*) FROM agents WHERE status = 'Online' AND last_heartbeat_at = $1
		AND version = '1.1.0' AND ip_address = '10.0.0.2' AND os = 'linux'`, now); n != 1 {
		t.Error("the agent came back as it was before")
	}
}

func TestHeartbeats_BringAnAgentBackAndHurryItsOrders(t *testing.T) {
	o := open(t)
	who, err := o.enrol(o.token(time.Hour), userKey(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{
		`UPDATE agents SET status = 'Offline'`,
		`INSERT INTO agent_work (job_id, attempt, verb, agent_id, site_id, certificate_id, state, body, deadline, expires_at, created_at)
			SELECT 'job-d-1', 1, 'deploy', id, site_id, 'mc-1', 'Sent', '', now() + interval '6 hours', now() + interval '7 days', now() FROM agents`,
	} {
		if _, err := o.db.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if _, err := ask[struct{}](o, subject.AgentRequest("site-local", who.AgentID, command.VerbHeartbeat), command.Heartbeat{}); err != nil {
			t.Fatal(err)
		}
	}
	if n := count(o, `SELECT count(*) FROM outbox WHERE subject LIKE '%.online'`); n != 1 {
		t.Errorf("%d events, want one", n)
	}
	if n := count(o, `SELECT count(*) FROM agent_work WHERE deadline <= $1`, o.clock.Now().Add(time.Minute)); n != 1 {
		t.Error("the order is not sent again soon")
	}
}
