package authority_test

import (
	"encoding/json"
	"log/slog"
	"slices"
	"sync/atomic"
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
	"github.com/certctl/certctl/services/deployment/internal/authority"
	"github.com/certctl/certctl/services/deployment/internal/postgres"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.M{M: m}) }

type court struct {
	*testing.T
	db      *pgxpool.Pool
	clock   *clock.Manual
	holder  *natsauth.Authority
	revoker *authority.Revoker
	// away makes the authority refuse.
	away atomic.Bool
}

func newCourt(t *testing.T) *court {
	t.Helper()
	c := &court{T: t, db: pgtest.New(t, migrations.FS("deployment"), "deployment"), clock: clock.At(time.Now())}
	var err error
	if c.holder, err = natsauth.Create(t.TempDir(), secret.New(secret.NewKey()), natsauth.Config{}); err != nil {
		t.Fatal(err)
	}
	hub := natstest.Start(t)
	holder := hub.Connect(bus.Options{}).NC
	if _, err := holder.Subscribe(subject.Operation("authority", "revokeUsers"), c.answer); err != nil {
		t.Fatal(err)
	}
	if err := holder.Flush(); err != nil {
		t.Fatal(err)
	}
	c.revoker = &authority.Revoker{
		DB: c.db, NC: hub.Connect(bus.Options{}).NC, OperatorJWT: c.holder.OperatorJWT(), Clock: c.clock,
		Log: slog.New(slog.DiscardHandler), Committed: func() {},
	}
	if err := c.revoker.Keep(t.Context(), c.jwt()); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *court) jwt() string {
	c.Helper()
	token, err := c.holder.AccountJWT(natsauth.EDGE)
	if err != nil {
		c.Fatal(err)
	}
	return token
}

func (c *court) answer(m *nats.Msg) {
	var q command.RevokeUsers
	var reply command.Reply[command.RevokedUsers]
	if err := json.Unmarshal(m.Data, &q); err != nil {
		c.Errorf("question: %v", err)
	}
	token, err := c.holder.Revoke(natsauth.Account(q.Account), q.PublicKeys)
	switch {
	case err != nil:
		c.Errorf("revoke: %v", err)
	case c.away.Load():
		reply.Fault = &command.Fault{Code: "unavailable", Message: "not now"}
	default:
		reply.Body = &command.RevokedUsers{AccountJWT: token}
	}
	text, err := json.Marshal(reply)
	if err != nil {
		c.Errorf("answer: %v", err)
	}
	if err := m.Respond(text); err != nil {
		c.Errorf("answer: %v", err)
	}
}

func (c *court) exec(sql string, args ...any) {
	c.Helper()
	if _, err := c.db.Exec(c.Context(), sql, args...); err != nil {
		c.Fatal(err)
	}
}

func (c *court) retired(agentID string) (publicKey string) {
	c.Helper()
	_, publicKey, err := natsauth.NewUserKey()
	if err != nil {
		c.Fatal(err)
	}
	c.exec(`INSERT INTO agents (id, site_id, public_key, status, last_heartbeat_at, registered_at, retired_at, revoke_at)
		VALUES ($1, 'site-local', $2, 'Retired', $3, $3, $3, $3)`, agentID, publicKey, c.clock.Now())
	return publicKey
}

// accounts lists what sites were told, as site and the JWT's revoked keys.
func (c *court) accounts() map[string][]string {
	c.Helper()
	rows, err := c.db.Query(c.Context(), `SELECT subject, body FROM outbox WHERE stream = 'AGENT_CMD' ORDER BY id`)
	if err != nil {
		c.Fatal(err)
	}
	defer rows.Close()
	told := map[string][]string{}
	for rows.Next() {
		var on string
		var body []byte
		if err := rows.Scan(&on, &body); err != nil {
			c.Fatal(err)
		}
		to, ok := subject.ParseAgent(on)
		if !ok || to.Agent != subject.AgentSite || to.Verb != command.VerbAccount {
			c.Fatalf("order on %s", on)
		}
		var account command.RevokedUsers
		if err := json.Unmarshal(body, &account); err != nil {
			c.Fatal(err)
		}
		claims, err := jwt.DecodeAccountClaims(account.AccountJWT)
		if err != nil {
			c.Fatal(err)
		}
		told[to.Site] = nil
		for key := range claims.Revocations {
			told[to.Site] = append(told[to.Site], key)
		}
	}
	return told
}

func TestRevoke_TakesTheKeyAndTellsEverySite(t *testing.T) {
	c := newCourt(t)
	c.exec(`INSERT INTO sites (id, name, status, account_revision) VALUES ('site-a', 'a', 'Connected', 1), ('site-b', 'b', 'Connected', 1)`)
	keys := []string{c.retired("agent-1"), c.retired("agent-2")}
	if n, err := c.revoker.Revoke(t.Context()); n != 2 || err != nil {
		t.Fatalf("revoked %d, %v", n, err)
	}
	if n, err := c.revoker.Tell(t.Context()); n != 2 || err != nil {
		t.Fatalf("told %d, %v", n, err)
	}
	told := c.accounts()
	slices.Sort(keys)
	for _, site := range []string{"site-a", "site-b"} {
		slices.Sort(told[site])
		if !slices.Equal(told[site], keys) {
			t.Errorf("%s knows of %v, want %v", site, told[site], keys)
		}
	}
	if len(told) != 2 {
		t.Errorf("a site that has no leaf was told: %v", told)
	}
	var events int
	if err := c.db.QueryRow(t.Context(), `SELECT count(*) FROM outbox WHERE subject LIKE 'certctl.evt.agent.%.retired'`).Scan(&events); err != nil || events != 2 {
		t.Errorf("%d events, %v", events, err)
	}
	// Nothing is left to be done.
	if n, err := c.revoker.Revoke(t.Context()); n != 0 || err != nil {
		t.Errorf("revoked %d, %v", n, err)
	}
	if n, err := c.revoker.Tell(t.Context()); n != 0 || err != nil {
		t.Errorf("told %d, %v", n, err)
	}
}

func TestRevoke_IsAskedForUntilItIsHad(t *testing.T) {
	c := newCourt(t)
	c.retired("agent-1")
	c.away.Store(true)
	if _, err := c.revoker.Revoke(t.Context()); err == nil {
		t.Fatal("a refusal went unnoticed")
	}
	if n, err := c.revoker.Revoke(t.Context()); n != 0 || err != nil {
		t.Fatalf("asked again at once: %d, %v", n, err)
	}
	c.clock.Advance(time.Minute)
	c.away.Store(false)
	if n, err := c.revoker.Revoke(t.Context()); n != 1 || err != nil {
		t.Fatalf("revoked %d, %v", n, err)
	}
}

func TestRevoke_TakesTheKeysOfFormerLeavesToo(t *testing.T) {
	c := newCourt(t)
	c.exec(`INSERT INTO sites (id, name, status, account_revision) VALUES ('site-a', 'a', 'Connected', 1)`)
	_, leaf, err := natsauth.NewUserKey()
	if err != nil {
		t.Fatal(err)
	}
	c.exec(`INSERT INTO replaced_leaves (public_key, site_id, revoke_at) VALUES ($1, 'site-a', $2)`, leaf, c.clock.Now())
	agent := c.retired("agent-1")
	c.away.Store(true)
	if _, err := c.revoker.Revoke(t.Context()); err == nil {
		t.Fatal("a refusal went unnoticed")
	}
	c.away.Store(false)
	if n, err := c.revoker.Revoke(t.Context()); n != 0 || err != nil {
		t.Fatalf("asked again at once: %d, %v", n, err)
	}
	due, err := postgres.NextRevocation(t.Context(), c.db)
	if err != nil || !due.After(c.clock.Now()) {
		t.Fatalf("due at %s, %v", due, err)
	}
	c.clock.Set(due)
	if n, err := c.revoker.Revoke(t.Context()); n != 2 || err != nil {
		t.Fatalf("revoked %d, %v", n, err)
	}
	if n, err := c.revoker.Tell(t.Context()); n != 1 || err != nil {
		t.Fatalf("told %d, %v", n, err)
	}
	told, want := c.accounts()["site-a"], []string{leaf, agent}
	slices.Sort(told)
	slices.Sort(want)
	if !slices.Equal(told, want) {
		t.Errorf("the site knows of %v, want %v", told, want)
	}
	if due, err := postgres.NextRevocation(t.Context(), c.db); !due.IsZero() || err != nil {
		t.Errorf("still due at %s, %v", due, err)
	}
}

func TestRevoke_ClaimOfAKilledReplicaIsTakenUpByAnother(t *testing.T) {
	c := newCourt(t)
	c.retired("agent-1")
	// The claim of a replica that never came back.
	c.exec(`UPDATE agents SET revoke_at = $1`, c.clock.Now().Add(30*time.Second))
	if n, err := c.revoker.Revoke(t.Context()); n != 0 || err != nil {
		t.Fatalf("took what another had claimed: %d, %v", n, err)
	}
	c.clock.Advance(30 * time.Second)
	if n, err := c.revoker.Revoke(t.Context()); n != 1 || err != nil {
		t.Fatalf("revoked %d, %v", n, err)
	}
}

func TestAccount_OlderAndForgedJWTsAreNotKept(t *testing.T) {
	c := newCourt(t)
	before := c.jwt()
	key := c.retired("agent-1")
	if _, err := c.revoker.Revoke(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.revoker.Keep(t.Context(), before); err != nil {
		t.Fatal(err)
	}
	other, err := natsauth.Create(t.TempDir(), secret.New(secret.NewKey()), natsauth.Config{})
	if err != nil {
		t.Fatal(err)
	}
	forged, err := other.AccountJWT(natsauth.EDGE)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.revoker.Keep(t.Context(), forged); err == nil {
		t.Error("a JWT of another operator was kept")
	}
	var kept string
	if err := c.db.QueryRow(t.Context(), `SELECT jwt FROM edge_account`).Scan(&kept); err != nil {
		t.Fatal(err)
	}
	claims, err := jwt.DecodeAccountClaims(kept)
	if err != nil || len(claims.Revocations) != 1 || claims.Revocations[key] == 0 {
		t.Errorf("kept: %+v, %v", claims, err)
	}
}

func TestCatch_LearnsWhatHappenedMeanwhile(t *testing.T) {
	c := newCourt(t)
	_, key, err := natsauth.NewUserKey()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.holder.Revoke(natsauth.EDGE, []string{key}); err != nil {
		t.Fatal(err)
	}
	if err := c.revoker.Catch(t.Context()); err != nil {
		t.Fatal(err)
	}
	var revision int
	if err := c.db.QueryRow(t.Context(), `SELECT revision FROM edge_account`).Scan(&revision); err != nil || revision != 2 {
		t.Errorf("revision %d, %v", revision, err)
	}
}
