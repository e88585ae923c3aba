package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/jwt/v2"
	"go.uber.org/goleak"

	"github.com/certctl/certctl/contracts/httpapi/deploymentapi"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/natsauth"
	"github.com/certctl/certctl/libs/secret"
	"github.com/certctl/certctl/libs/testkit/pgtest"
	"github.com/certctl/certctl/migrations"
	"github.com/certctl/certctl/services/deployment/internal/api"
	"github.com/certctl/certctl/services/deployment/internal/desk"
	"github.com/certctl/certctl/services/deployment/internal/enrolment"
	"github.com/certctl/certctl/services/deployment/internal/fleet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.M{M: m}) }

var admin = authn.Principal{ID: "key-admin", Kind: authn.KindUser, Roles: []string{"admin"}}

type server struct {
	*testing.T
	db      *pgxpool.Pool
	handler http.Handler
	office  *enrolment.Office
	clock   *clock.Manual
	caller  authn.Principal
	// ensured lists the sites whose durable was looked after.
	ensured []string
	woken   int
}

func newServer(t *testing.T) *server {
	t.Helper()
	t.Parallel()
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
	account, err := authority.AccountJWT(natsauth.EDGE)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{T: t, db: db, clock: clock.At(time.Now()), caller: admin}
	s.exec(`INSERT INTO edge_account (jwt, revision) VALUES ($1, 4)`, account)
	s.office = &enrolment.Office{
		DB: db, Signer: signer, PlatformKey: "NPLATFORM", HubURLs: []string{"tls://hub.example.org:7422"}, Clock: s.clock,
		EnsureSite: func(_ context.Context, id string) error { s.ensured = append(s.ensured, id); return nil },
		Committed:  func() { s.woken++ },
	}
	answers := &api.Answers{
		DB: db, Office: s.office, Clock: s.clock, Committed: func() { s.woken++ },
		Issuer: elsewhere{"mc-without-targets", "ag-used"},
		Desk:   &desk.Desk{DB: db, Clock: s.clock, Log: slog.New(slog.DiscardHandler)},
	}
	s.handler = answers.Handler()
	return s
}

func (s *server) exec(sql string, args ...any) {
	s.Helper()
	if _, err := s.db.Exec(s.Context(), sql, args...); err != nil {
		s.Fatal(err)
	}
}

// call makes a request and decodes the answer if it has the status that is wanted.
func (s *server) call(want int, method, path string, body, into any) {
	s.Helper()
	var text []byte
	switch b := body.(type) {
	case nil:
	case string:
		text = []byte(b)
	default:
		var err error
		if text, err = json.Marshal(b); err != nil {
			s.Fatal(err)
		}
	}
	r := httptest.NewRequestWithContext(authn.NewContext(s.Context(), s.caller), method, path, bytes.NewReader(text))
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	if w.Code != want {
		s.Fatalf("%s %s: got %d, want %d: %s", method, path, w.Code, want, w.Body)
	}
	if into == nil {
		return
	}
	if err := json.Unmarshal(w.Body.Bytes(), into); err != nil {
		s.Fatalf("%s %s: %v: %s", method, path, err, w.Body)
	}
}

// refused makes a request that fails, and returns why.
func (s *server) refused(want int, method, path string, body any) string {
	s.Helper()
	var problem deploymentapi.Problem
	s.call(want, method, path, body, &problem)
	if problem.Status != want || problem.Message == "" {
		s.Fatalf("%s %s: %+v is no problem document", method, path, problem)
	}
	return problem.Message
}

func userKey(t *testing.T) string {
	t.Helper()
	_, public, err := natsauth.NewUserKey()
	if err != nil {
		t.Fatal(err)
	}
	return public
}

func (s *server) agent(agentID string) {
	s.Helper()
	public := userKey(s.T)
	s.exec(`INSERT INTO agents (id, site_id, public_key, status, last_heartbeat_at, registered_at)
		VALUES ($1, 'site-local', $2, 'Online', $3, $3)`, agentID, public, s.clock.Now())
}

func (s *server) count(sql string, args ...any) (n int) {
	s.Helper()
	if err := s.db.QueryRow(s.Context(), sql, args...).Scan(&n); err != nil {
		s.Fatal(err)
	}
	return n
}

var nginx = map[string]any{"cert_path": "/etc/tls/w.crt", "key_path": "/etc/tls/w.key"}

func TestSites_OneIsThereFromTheStart(t *testing.T) {
	s := newServer(t)
	var list deploymentapi.SiteList
	s.call(200, "GET", "/api/v1/sites", nil, &list)
	if list.Total != 1 || list.Data[0].ID != fleet.LocalSite || list.Data[0].Name != "local" || list.Data[0].Status != deploymentapi.New {
		t.Errorf("%+v", list)
	}
}

func TestSites_ANewLeafEnrolsOnceWithTheToken(t *testing.T) {
	s := newServer(t)
	var site deploymentapi.Site
	s.call(201, "POST", "/api/v1/sites", map[string]any{"name": "Berlin"}, &site)
	if site.Token == nil || !strings.HasPrefix(site.ID, "site-") {
		t.Fatalf("%+v", site)
	}
	s.refused(409, "POST", "/api/v1/sites", map[string]any{"name": "Berlin"})
	s.refused(409, "POST", "/api/v1/sites", map[string]any{"name": "Hamburg", "id": site.ID})
	if n := s.count(`SELECT count(*) FROM outbox WHERE subject LIKE 'certctl.evt.site.%.created'`); n != 1 {
		t.Errorf("%d events of a new site", n)
	}

	s.caller = authn.Anonymous()
	_, public, err := natsauth.NewUserKey()
	if err != nil {
		t.Fatal(err)
	}
	path := "/api/v1/sites/" + site.ID + "/enrol"
	enrol := map[string]any{"token": *site.Token, "public_key": public}
	s.refused(400, "POST", "/api/v1/sites/site-local/enrol", enrol)
	s.refused(400, "POST", path, map[string]any{"token": *site.Token, "public_key": "UABC"})
	s.refused(400, "POST", path, map[string]any{"token": "cet_nonsense", "public_key": public})
	var who deploymentapi.SiteIdentity
	s.call(200, "POST", path, enrol, &who)
	if who.SiteID != site.ID || who.Domain != site.ID || len(who.HubUrls) != 1 || who.PlatformKey != "NPLATFORM" {
		t.Errorf("%+v", who)
	}
	for _, token := range []string{who.UserJwt, who.RelayJwt} {
		claims, err := jwt.DecodeUserClaims(token)
		if err != nil || claims.Subject != public || claims.Name != site.ID || claims.IssuerAccount != who.AccountKey {
			t.Errorf("%v, %+v", err, claims)
		}
	}
	if _, err := natsauth.Newer(who.OperatorJwt, "", who.AccountJwt); err != nil {
		t.Error(err)
	}
	if len(s.ensured) != 1 || s.ensured[0] != site.ID {
		t.Errorf("durables looked after: %v", s.ensured)
	}
	// The answer may have been lost: the same leaf is told again, no other one is.
	s.call(200, "POST", path, enrol, nil)
	_, other, _ := natsauth.NewUserKey()
	if why := s.refused(409, "POST", path, map[string]any{"token": *site.Token, "public_key": other}); !strings.Contains(why, "has been used") {
		t.Errorf("refused because %q", why)
	}
	if n := s.count(`SELECT count(*) FROM outbox WHERE subject LIKE 'certctl.evt.site.%.connected'`); n != 1 {
		t.Errorf("%d events of a connected site", n)
	}
	if n := s.count(`SELECT account_revision FROM sites WHERE id = $1`, site.ID); n != 4 {
		t.Errorf("the site knows account JWT %d, want 4", n)
	}
}

func TestSites_AnExpiredOrForeignTokenIsRefused(t *testing.T) {
	s := newServer(t)
	var berlin, hamburg deploymentapi.Site
	s.call(201, "POST", "/api/v1/sites", map[string]any{"name": "Berlin"}, &berlin)
	s.call(201, "POST", "/api/v1/sites", map[string]any{"name": "Hamburg"}, &hamburg)
	var agents deploymentapi.EnrolmentToken
	s.call(201, "POST", "/api/v1/enrolment-tokens", map[string]any{"site_id": berlin.ID}, &agents)
	_, public, _ := natsauth.NewUserKey()
	path := "/api/v1/sites/" + berlin.ID + "/enrol"
	s.refused(400, "POST", path, map[string]any{"token": *hamburg.Token, "public_key": public})
	s.refused(401, "POST", path, map[string]any{"token": agents.Token, "public_key": public})
	s.clock.Advance(8 * 24 * time.Hour)
	if why := s.refused(403, "POST", path, map[string]any{"token": *berlin.Token, "public_key": public}); !strings.Contains(why, "expired at") {
		t.Errorf("refused because %q", why)
	}
}

func TestSites_CannotEnrolWhileTheHubHasNoAddress(t *testing.T) {
	s := newServer(t)
	s.office.HubURLs = nil
	var site deploymentapi.Site
	s.call(201, "POST", "/api/v1/sites", map[string]any{"name": "Berlin"}, &site)
	_, public, _ := natsauth.NewUserKey()
	s.refused(503, "POST", "/api/v1/sites/"+site.ID+"/enrol", map[string]any{"token": *site.Token, "public_key": public})
	if n := s.count(`SELECT count(*) FROM enrolment_tokens WHERE used_at IS NOT NULL`); n != 0 {
		t.Error("the token was used up")
	}
}

func TestTokens_AreStoredAsHashesAndHaveABoundedLife(t *testing.T) {
	s := newServer(t)
	var token deploymentapi.EnrolmentToken
	s.call(201, "POST", "/api/v1/enrolment-tokens", nil, &token)
	if token.SiteID != fleet.LocalSite || !token.ExpiresAt.Equal(s.clock.Now().Add(time.Hour)) {
		t.Errorf("%+v", token)
	}
	carried, err := fleet.DecodeToken(token.Token)
	if err != nil {
		t.Fatal(err)
	}
	claims, err := jwt.DecodeUserClaims(carried.JWT)
	if err != nil || claims.Name != token.ID {
		t.Errorf("%v, %+v", err, claims)
	}
	if n := s.count(`SELECT count(*) FROM enrolment_tokens t WHERE t::text LIKE '%' || $1 || '%'`, carried.Secret); n != 0 {
		t.Error("the secret is in the database")
	}
	s.refused(400, "POST", "/api/v1/enrolment-tokens", map[string]any{"ttl_seconds": 59})
	s.refused(400, "POST", "/api/v1/enrolment-tokens", map[string]any{"ttl_seconds": 604801})
	s.refused(404, "POST", "/api/v1/enrolment-tokens", map[string]any{"site_id": "site-none"})
}

func TestTargets_LiveThroughTheirLife(t *testing.T) {
	s := newServer(t)
	s.agent("agent-a")
	s.agent("agent-b")
	var target deploymentapi.Target
	s.call(201, "POST", "/api/v1/targets", map[string]any{"name": "web-1", "type": "nginx", "agent_id": "agent-a", "config": nginx}, &target)
	if target.Type != "NGINX" || !target.Enabled || !strings.HasPrefix(target.ID, "tgt-") {
		t.Errorf("%+v", target)
	}
	s.refused(409, "POST", "/api/v1/targets", map[string]any{"name": "web-1", "type": "nginx", "agent_id": "agent-a", "config": nginx})
	path := "/api/v1/targets/" + target.ID

	// What is left out stays, in the config too; unknown fields are ignored.
	var changed deploymentapi.Target
	s.call(200, "PUT", path, map[string]any{"id": "other", "enabled": false, "config": map[string]any{"verify_address": "127.0.0.1:8443"}}, &changed)
	if changed.ID != target.ID || changed.Name != "web-1" || changed.Enabled || changed.Config["cert_path"] != "/etc/tls/w.crt" || changed.Config["verify_address"] != "127.0.0.1:8443" {
		t.Errorf("%+v", changed)
	}
	var moved deploymentapi.Target
	s.call(200, "PUT", path, map[string]any{"config": map[string]any{"verify_address": nil}, "agent_id": "agent-b"}, &moved)
	if _, there := moved.Config["verify_address"]; there || moved.AgentID != "agent-b" {
		t.Errorf("%+v", moved)
	}
	s.refused(400, "PUT", path, map[string]any{"config": map[string]any{"cert_path": nil}})
	s.refused(400, "PUT", path, map[string]any{"agent_id": "agent-none"})

	var list deploymentapi.TargetList
	s.call(200, "GET", "/api/v1/targets?per_page=9999", nil, &list)
	if list.Total != 1 || list.PerPage != 500 || list.Data[0].ID != target.ID {
		t.Errorf("%+v", list)
	}
	s.call(204, "DELETE", path, nil, nil)
	s.refused(404, "DELETE", path, nil)
	s.refused(404, "GET", path, nil)
	var events string
	err := s.db.QueryRow(t.Context(), `SELECT string_agg(split_part(subject, '.', 5) || (headers->'ce-aggversion'->>0), ' ' ORDER BY id) FROM outbox`).Scan(&events)
	if want := "created1 updated2 updated3 deleted4"; err != nil || events != want {
		t.Errorf("events %q, want %q; %v", events, want, err)
	}
}

func TestTargets_InUseCannotBeRemoved(t *testing.T) {
	s := newServer(t)
	s.agent("agent-a")
	s.call(201, "POST", "/api/v1/targets", map[string]any{"id": "tgt-1", "name": "web-1", "type": "NGINX", "agent_id": "agent-a", "config": nginx}, nil)
	s.exec(`INSERT INTO certificates (id, target_ids) VALUES ('mc-1', '{tgt-1,tgt-2}'), ('mc-2', '{tgt-2}')`)
	if why := s.refused(409, "DELETE", "/api/v1/targets/tgt-1", nil); !strings.Contains(why, "mc-1") || strings.Contains(why, "mc-2") {
		t.Errorf("refused because %q", why)
	}
	if why := s.refused(409, "DELETE", "/api/v1/agents/agent-a", nil); !strings.Contains(why, "tgt-1") {
		t.Errorf("refused because %q", why)
	}
	s.exec(`UPDATE certificates SET archived = true`)
	s.call(204, "DELETE", "/api/v1/targets/tgt-1", nil, nil)
	s.call(204, "DELETE", "/api/v1/agents/agent-a", nil, nil)
	s.call(204, "DELETE", "/api/v1/agents/agent-a", nil, nil)
	if n := s.count(`SELECT count(*) FROM agents WHERE status = 'Retired' AND revoke_at IS NOT NULL`); n != 1 {
		t.Error("no revocation is due")
	}
	s.refused(400, "POST", "/api/v1/targets", map[string]any{"name": "web-2", "type": "NGINX", "agent_id": "agent-a", "config": nginx})
}

func TestInput_ThatIsWrongIsRefusedClearly(t *testing.T) {
	s := newServer(t)
	s.agent("agent-a")
	for _, c := range []struct {
		want         int
		method, path string
		body         any
		says         string
	}{
		{400, "POST", "/api/v1/targets", `{"name": `, "JSON"},
		{400, "POST", "/api/v1/targets", `{"name": 7}`, "name"},
		{400, "POST", "/api/v1/targets", ``, "empty"},
		{400, "POST", "/api/v1/targets", `{"name": "w", "type": "Apache", "agent_id": "agent-a"}`, "installs on NGINX only"},
		{400, "POST", "/api/v1/targets", `{"name": "w", "type": "NGINX", "agent_id": "agent-a"}`, "cert_path"},
		{400, "POST", "/api/v1/targets", map[string]any{"name": "w", "type": "NGINX", "agent_id": "agent-none", "config": nginx}, "there is no agent"},
		{400, "POST", "/api/v1/targets", map[string]any{"name": "w\x00", "type": "NGINX", "agent_id": "agent-a", "config": nginx}, "name"},
		{400, "POST", "/api/v1/targets", map[string]any{"id": "Not.Valid", "name": "w", "type": "NGINX", "agent_id": "agent-a", "config": nginx}, "id"},
		{413, "POST", "/api/v1/targets", `{"name": "` + strings.Repeat("x", 10<<20) + `"}`, "larger"},
		{400, "POST", "/api/v1/sites", `{"name": " "}`, "name"},
		{400, "POST", "/api/v1/sites", `{"name": "x", "id": "site"}`, "reserved"},
		{400, "GET", "/api/v1/agents?page=x", nil, "page"},
		{400, "GET", "/api/v1/agents?page=0", nil, "page"},
		{400, "GET", "/api/v1/agents?per_page=-1", nil, "per_page"},
		{400, "GET", "/api/v1/agents?status=Sleepy", nil, "status"},
		{400, "GET", "/api/v1/agents?site_id=%00", nil, "site_id"},
		{400, "GET", "/api/v1/jobs?status=Banana", nil, "status"},
		{400, "GET", "/api/v1/jobs?type=Banana", nil, "type"},
		{400, "GET", "/api/v1/jobs?cursor=Banana", nil, "cursor"},
		{400, "GET", "/api/v1/jobs?certificate_id=A.B", nil, "certificate_id"},
		{404, "GET", "/api/v1/jobs/job-d-none", nil, "no job"},
		{404, "POST", "/api/v1/jobs/job-d-none/cancel", nil, "no job"},
		{404, "GET", "/api/v1/agents/%00", nil, "no such agent"},
		{404, "GET", "/api/v1/targets/A%27%20OR%201", nil, "no such target"},
		{404, "GET", "/api/v1/nothing", nil, "nothing"},
	} {
		if why := s.refused(c.want, c.method, c.path, c.body); !strings.Contains(why, c.says) {
			t.Errorf("%s %s: refused because %q, which does not say %q", c.method, c.path, why, c.says)
		}
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/api/v1/agents", nil)
	w := httptest.NewRecorder()
	if s.handler.ServeHTTP(w, r); w.Code != 401 {
		t.Errorf("without a principal: %d", w.Code)
	}
}

// deployed adds jobs without their agents.
func (s *server) deployed(n int, certificate, issuer, team string) {
	s.Helper()
	s.exec(`INSERT INTO certificates (id, issuer_id, team_id) VALUES ($1, $2, $3)`, certificate, issuer, team)
	s.exec(`INSERT INTO versions (id, certificate_id, fingerprint_sha256, not_before, not_after, pem_chain)
		VALUES ('cv-' || $1, $1, 'f', now(), now(), '')`, certificate)
	s.exec(`INSERT INTO jobs (id, type, certificate_id, version_id, fingerprint_sha256, target_id, status, scheduled_at, created_at)
		SELECT 'job-d-' || $1 || i, 'Deployment', $1::text, 'cv-' || $1, 'f', 'tgt-' || i, 'Pending', $3::timestamptz, $3::timestamptz + make_interval(secs => i / 3)
		FROM generate_series(1, $2) i`, certificate, n, s.clock.Now())
}

func TestJobs_EachComesOnceThroughTheCursor(t *testing.T) {
	s := newServer(t)
	s.deployed(95, "mc-1", "iss-local", "t-default")
	seen := map[string]bool{}
	path := "/api/v1/jobs?per_page=10"
	for pages := 1; ; pages++ {
		var list deploymentapi.JobList
		s.call(200, "GET", path, nil, &list)
		for i, j := range list.Data {
			if seen[j.ID] {
				t.Fatalf("%s came twice", j.ID)
			}
			seen[j.ID] = true
			if i > 0 && list.Data[i-1].CreatedAt.Before(j.CreatedAt) {
				t.Fatal("not newest first")
			}
		}
		if list.NextCursor == nil {
			if pages != 10 {
				t.Errorf("%d pages, want 10", pages)
			}
			break
		}
		// A job that comes meanwhile disturbs nothing.
		s.exec(`INSERT INTO jobs (id, type, certificate_id, version_id, fingerprint_sha256, target_id, status, scheduled_at, created_at)
			VALUES ($1, 'Deployment', 'mc-1', 'cv-mc-1', 'f', $1, 'Pending', now(), now() + interval '1 day')`, fmt.Sprint("job-d-new-", pages))
		path = "/api/v1/jobs?per_page=10&cursor=" + *list.NextCursor
	}
	if len(seen) != 95 {
		t.Errorf("%d jobs came, want 95", len(seen))
	}
}

func TestJobs_AreHiddenWithTheirCertificates(t *testing.T) {
	s := newServer(t)
	s.deployed(2, "mc-1", "iss-local", "t-red")
	s.deployed(3, "mc-2", "iss-other", "t-blue")
	s.deployed(1, "mc-3", "iss-local", "")
	for _, c := range []struct {
		scope authn.Scope
		sees  int64
	}{
		{authn.Scope{}, 6},
		{authn.Scope{Teams: []string{"t-red"}}, 2},
		{authn.Scope{Teams: []string{"t-red", "t-blue"}}, 5},
		{authn.Scope{Teams: []string{}}, 0},
		{authn.Scope{Issuers: []string{"iss-local"}}, 3},
		{authn.Scope{Issuers: []string{"iss-local"}, Teams: []string{"t-blue"}}, 0},
		{authn.Scope{Profiles: []string{"prof-1"}}, 0},
		{authn.Scope{Environments: []string{""}}, 0},
	} {
		s.caller = admin
		s.caller.Scope = c.scope
		var list deploymentapi.JobList
		s.call(200, "GET", "/api/v1/jobs", nil, &list)
		if list.Total != c.sees || int64(len(list.Data)) != c.sees {
			t.Errorf("%+v sees %d of %d, want %d", c.scope, len(list.Data), list.Total, c.sees)
		}
	}
	s.caller.Scope = authn.Scope{Teams: []string{"t-blue"}}
	s.refused(404, "GET", "/api/v1/jobs/job-d-mc-11", nil)
	s.refused(404, "POST", "/api/v1/jobs/job-d-mc-11/cancel", nil)
	s.refused(404, "POST", "/api/v1/jobs/job-d-mc-11/approve", nil)
	for _, verb := range []string{"approve", "reject"} {
		want := "cannot " + verb + " job with status Pending (must be AwaitingApproval)"
		if message := s.refused(400, "POST", "/api/v1/jobs/job-d-mc-21/"+verb, nil); message != want {
			t.Errorf("%s: %q", verb, message)
		}
	}
	s.call(200, "POST", "/api/v1/jobs/job-d-mc-21/cancel", nil, nil)
	s.refused(409, "POST", "/api/v1/jobs/job-d-mc-21/cancel", nil)
}

func TestScope_LimitedToATeamMayLookAndChangeNothing(t *testing.T) {
	s := newServer(t)
	s.agent("agent-a")
	s.call(201, "POST", "/api/v1/targets", map[string]any{"id": "tgt-1", "name": "web-1", "type": "NGINX", "agent_id": "agent-a", "config": nginx}, nil)
	s.caller.Scope = authn.Scope{Teams: []string{"t-red"}}
	for _, path := range []string{"/api/v1/sites", "/api/v1/agents", "/api/v1/agents/agent-a", "/api/v1/targets", "/api/v1/targets/tgt-1"} {
		s.call(200, "GET", path, nil, nil)
	}
	s.refused(403, "POST", "/api/v1/sites", `{"name": "x"}`)
	s.refused(403, "POST", "/api/v1/enrolment-tokens", nil)
	s.refused(403, "POST", "/api/v1/targets", `{"name": "x"}`)
	s.refused(403, "PUT", "/api/v1/targets/tgt-1", `{"enabled": false}`)
	s.refused(403, "DELETE", "/api/v1/targets/tgt-1", nil)
	s.refused(403, "DELETE", "/api/v1/agents/agent-a", nil)
}

func TestEnrol_FailsClearlyWhileTheHubIsAway(t *testing.T) {
	s := newServer(t)
	var site deploymentapi.Site
	s.call(201, "POST", "/api/v1/sites", map[string]any{"name": "Berlin"}, &site)
	_, public, _ := natsauth.NewUserKey()
	enrol := map[string]any{"token": *site.Token, "public_key": public}
	s.office.EnsureSite = func(context.Context, string) error { return errors.New("no server") }
	s.refused(500, "POST", "/api/v1/sites/"+site.ID+"/enrol", enrol)
	s.office.EnsureSite = func(context.Context, string) error { return nil }
	s.call(200, "POST", "/api/v1/sites/"+site.ID+"/enrol", enrol, nil)
}
