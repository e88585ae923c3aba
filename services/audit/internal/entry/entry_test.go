package entry

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/services/audit/internal/chain"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func message(ceType, entity, body string) bus.Message {
	return bus.Message{
		ID: "ev-1", Type: ceType, Source: "/certctl/issuer", Entity: entity, Time: now,
		Subject: "certctl.evt.x", Body: []byte(body),
	}
}

func one(t *testing.T, m bus.Message) chain.Event {
	t.Helper()
	events, err := FromMessage(m)
	if err != nil || len(events) != 1 {
		t.Fatalf("%d events, %v", len(events), err)
	}
	return events[0]
}

func TestFromMessage_KeepsWhatAnEventTells(t *testing.T) {
	m := message(event.Type(event.CertificateRequested{}), "certificate/mc-1", `{"certificate_id":"mc-1","renewal":false,"big":9007199254740993}`)
	m.Actor, m.CorrelationID = "key-ada", "req-1"
	want := chain.Event{
		ID: "ae-ev-1", Actor: "key-ada", ActorType: "User", Action: "certificate_created",
		ResourceType: "certificate", ResourceID: "mc-1", At: now,
		Details: `{"big":9007199254740993,"certificate_id":"mc-1","correlation_id":"req-1","event":"certctl.certificate.requested.v1","renewal":false}`,
	}
	if d := cmp.Diff(want, one(t, m)); d != "" {
		t.Error(d)
	}
}

// TestFromMessage_TakesWhateverIsJSON is about publishers that write it in ways of their own.
func TestFromMessage_TakesWhateverIsJSON(t *testing.T) {
	for body, want := range map[string]string{
		" { \"b\" : [ 1 , {\"x\" : null} ] ,\n\"a\":1.0e2 } ": `{"a":1.0e2,"b":[1,{"x":null}],"event":"certctl.new.thing.v1"}`,
		// Of what is said twice the last counts, and what is added here counts more.
		`{"a":1,"b":{},"a":2,"event":"another's"}`: `{"a":2,"b":{},"event":"certctl.new.thing.v1"}`,
		`{"\u0061":"\u0041\/<\ud800"}`:             `{"a":"\u0041\/\u003c\ud800","event":"certctl.new.thing.v1"}`,
		`{}`:                                       `{"event":"certctl.new.thing.v1"}`,
	} {
		if got := one(t, message("certctl.new.thing.v1", "", body)).Details; got != want {
			t.Errorf("%s: got %s, want %s", body, got, want)
		}
	}
	m := message("certctl.csr.submitted.v1", "", `{"agent_id":"w\u0065b\ud8001"}`)
	if e := one(t, m); e.Actor != "web\ufffd1" {
		t.Errorf("the agent is %q", e.Actor)
	}
}

func TestFromMessage_SaysWhichAgentWasAskedForTheKeyOfACertificate(t *testing.T) {
	body, err := json.Marshal(event.CertificateRequested{CertificateID: "mc-1", Renewal: true, KeyRequest: event.KeyRequest{
		Attempt: 1, AgentID: "agent-1", KeyAlgorithm: "ECDSA", KeySize: 256, ReuseSPKISHA256: "abc", ExpiresAt: now,
	}})
	if err != nil {
		t.Fatal(err)
	}
	var details struct {
		KeyRequest event.KeyRequest `json:"key_request"`
	}
	m := message(event.Type(event.CertificateRequested{}), "certificate/mc-1", string(body))
	if err := json.Unmarshal([]byte(one(t, m).Details), &details); err != nil {
		t.Fatal(err)
	}
	want := event.KeyRequest{Attempt: 1, AgentID: "agent-1", KeyAlgorithm: "ECDSA", KeySize: 256, ReuseSPKISHA256: "abc", ExpiresAt: now}
	if d := cmp.Diff(want, details.KeyRequest); d != "" {
		t.Error(d)
	}
}

func TestFromMessage_NamesActionsAsClientsKnowThem(t *testing.T) {
	cases := []struct{ ceType, body, want string }{
		{"certctl.certificate.requested.v1", `{"renewal":true}`, "renewal_triggered"},
		{"certctl.certificate.requested.v1", `{"renewal":true,"automatic":true}`, "renewal_job_created"},
		{"certctl.certificate.requested.v1", `{"renewal":false}`, "certificate_created"},
		{"certctl.certificate.expiring.v1", `{}`, "expiration_alert_sent"},
		{"certctl.certificate.expired.v1", `{}`, "certificate_expired"},
		{"certctl.certificate.imported.v1", `{}`, "certificate_imported"},
		{"certctl.certificate.keyreleased.v1", `{}`, "certificate_key_released"},
		{"certctl.job.approved.v1", `{}`, "job_approved"},
		{"certctl.job.rejected.v1", `{}`, "job_rejected"},
		{"certctl.certificate.issued.v1", `{}`, "certificate_issued"},
		{"certctl.certificate.renewed.v1", `{}`, "renewal_job_completed"},
		{"certctl.deployment.rolledback.v1", `{}`, "deployment_rolled_back"},
		{"certctl.csr.submitted.v1", `{}`, "csr_submitted"},
		{"certctl.target.created.v1", `{}`, "create_target"},
		{"certctl.certificate.updated.v1", `{}`, "certificate_updated"},
		{"certctl.team.changed.v1", `{"verb":"created"}`, "create_team"},
		{"certctl.owner.changed.v1", `{"verb":"updated"}`, "update_owner"},
		{"certctl.issuersettings.changed.v1", `{"verb":"deleted"}`, "delete_issuer"},
		{"certctl.profile.changed.v1", `{"verb":"created"}`, "create_profile"},
		{"certctl.policy.changed.v1", `{"verb":"created"}`, "policy_rule_created"},
		{"certctl.policy.changed.v1", `{"verb":"deleted"}`, "policy_rule_deleted"},
		{"certctl.renewalpolicy.changed.v1", `{"verb":"updated"}`, "update_renewal_policy"},
		{"certctl.agentgroup.changed.v1", `{"verb":"updated"}`, "update_agent_group"},
		{"certctl.apikey.changed.v1", `{"verb":"created"}`, "create_api_key"},
		// A newer publisher's.
		{"certctl.team.changed.v1", `{"verb":"merged"}`, "team_merged"},
		{"certctl.team.changed.v1", `{"verb":7}`, "team_changed"},
		{"certctl.policy.violated.v1", `{}`, "policy_violation_detected"},
		// What this build has never heard of.
		{"certctl.owner.merged.v12", `{}`, "owner_merged"},
		{"certctl.quorum.reached", `{}`, "quorum_reached"},
		{"somebody.elses", `{}`, "somebody_elses"},
	}
	for _, c := range cases {
		if got := one(t, message(c.ceType, "x/y", c.body)).Action; got != c.want {
			t.Errorf("%s %s is called %s, want %s", c.ceType, c.body, got, c.want)
		}
	}
}

// TestFromMessage_KnowsEveryKindOfRecord fails for a kind of record that is new and has
// no name here.
func TestFromMessage_KnowsEveryKindOfRecord(t *testing.T) {
	for _, e := range event.All() {
		if _, _, name := e.About(); name != "changed" {
			continue
		}
		kind := records[event.Type(e)]
		if got := one(t, message(event.Type(e), "x/y", `{"verb":"updated"}`)); kind == "" || got.ResourceType != kind {
			t.Errorf("%s is about %q", event.Type(e), got.ResourceType)
		}
	}
}

func TestFromMessage_TellsUsersAgentsAndServicesApart(t *testing.T) {
	const reported = `{"agent_id":"web1"}`
	cases := []struct {
		name, ceType, actor, body, want, kind string
	}{
		{"a user's key", "certctl.certificate.requested.v1", "key-ada", `{}`, "key-ada", "User"},
		{"a service by name", "certctl.issuer.configured.v1", "issuer", `{}`, "issuer", "System"},
		{"what fell due", "certctl.certificate.requested.v1", "system", `{}`, "system", "System"},
		{"nobody", "certctl.certificate.failed.v1", "", `{}`, "issuer", "System"},
		{"nobody, about an agent", "certctl.agent.offline.v1", "", reported, "issuer", "System"},
		{"an agent's own deed", "certctl.csr.submitted.v1", "", reported, "web1", "Agent"},
		{"an agent's deed without the agent", "certctl.csr.submitted.v1", "", `{"agent_id":7}`, "issuer", "System"},
		{"an agent as principal", "certctl.unheard.of.v1", "agent-1", `{}`, "agent-1", "Agent"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			m := message(c.ceType, "x/y", c.body)
			m.Actor = c.actor
			if e := one(t, m); e.Actor != c.want || e.ActorType != c.kind {
				t.Errorf("got %s %q, want %s %q", e.ActorType, e.Actor, c.kind, c.want)
			}
		})
	}
}

// TestFromMessage_LeavesOutCertificatesOfEveryEvent runs over the contract's frozen
// samples, so that an event that is new is looked at too.
func TestFromMessage_LeavesOutCertificatesOfEveryEvent(t *testing.T) {
	for _, e := range event.All() {
		if event.Type(e) == event.Type(event.APICalled{}) {
			continue
		}
		sample, err := os.ReadFile(filepath.Join("../../../../contracts/event/testdata/v1", event.Type(e)+".json"))
		if err != nil {
			t.Fatal(err)
		}
		aggregate, _, _ := e.About()
		got := one(t, message(event.Type(e), aggregate+"/x", string(sample)))
		if strings.Contains(got.Details, "pem") {
			t.Errorf("%s: %s", event.Type(e), got.Details)
		}
		want := aggregate
		if kind, ok := records[event.Type(e)]; ok {
			want = kind
		}
		if got.ResourceType != want || got.Action == "" || !json.Valid([]byte(got.Details)) {
			t.Errorf("%s: %+v", event.Type(e), got)
		}
	}
	got := one(t, message("certctl.ca.rotated.v1", "ca/x", `{"pem_chain":"A","csr_pem":"B","old_root_pem":"C","pemmican":"D"}`))
	if want := `{"event":"certctl.ca.rotated.v1","pemmican":"D"}`; got.Details != want {
		t.Errorf("got %s, want %s", got.Details, want)
	}
}

func TestFromMessage_RecordsBodiesThatAreNoObjects(t *testing.T) {
	for body, want := range map[string]string{
		`null`: `{"body":null,"event":"certctl.new.thing.v1"}`,
		`[1]`:  `{"body":[1],"event":"certctl.new.thing.v1"}`,
		`"x"`:  `{"body":"x","event":"certctl.new.thing.v1"}`,
	} {
		if got := one(t, message("certctl.new.thing.v1", "", body)).Details; got != want {
			t.Errorf("%s: got %s, want %s", body, got, want)
		}
	}
	for _, bad := range []string{"", "{", "\x00", `{"a":1}{`, `{"a":1,}`, `{"a":1}x`, `{"a"}`, `[1`, `nul`, `{"a":01}`, `{1:2}`} {
		if events, err := FromMessage(message("certctl.new.thing.v1", "", bad)); err == nil {
			t.Errorf("%q gave %+v", bad, events)
		}
	}
}

func calls(t *testing.T, all ...event.APICall) []chain.Event {
	t.Helper()
	body, err := json.Marshal(event.APICalled{ID: "api-1", Calls: all})
	if err != nil {
		t.Fatal(err)
	}
	events, err := FromMessage(message(event.Type(event.APICalled{}), "api/api-1", string(body)))
	if err != nil {
		t.Fatal(err)
	}
	return events
}

func TestFromMessage_MakesAnEventOfEachCall(t *testing.T) {
	got := calls(t,
		event.APICall{
			RequestID: "r1", At: "2026-11-23T11:00:00.5Z", Actor: "key-ada", ActorType: "User", Operation: "renewCertificate",
			Method: "POST", Path: "/api/v1/certificates/mc-1/renew", BodyHash: "0123456789abcdef", Status: 202, LatencyMillis: 7,
			RemoteAddress: "127.0.0.1:4",
		},
		event.APICall{RequestID: "r2", At: "a moment ago", Actor: "anonymous", ActorType: "Martian", Method: "GET", Path: "/x", Status: 404})
	want := []chain.Event{
		{
			ID: "ae-r1", Actor: "key-ada", ActorType: "User", Action: "api_post", ResourceType: "api",
			ResourceID: "/api/v1/certificates/mc-1/renew", At: now.Add(-time.Hour + time.Second/2),
			Details: `{"method":"POST","path":"/api/v1/certificates/mc-1/renew","operation":"renewCertificate","body_hash":"0123456789abcdef","status":202,"latency_ms":7,"request_id":"r1","remote_address":"127.0.0.1:4"}`,
		},
		{
			ID: "ae-r2", Actor: "anonymous", ActorType: "User", Action: "api_get", ResourceType: "api", ResourceID: "/x", At: now,
			Details: `{"method":"GET","path":"/x","status":404,"latency_ms":0,"request_id":"r2"}`,
		},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// TestFromMessage_LetsNoRequestSpoilItsRecord is about callers who would rather not be
// seen: what the database refuses would take the whole group of calls with it.
func TestFromMessage_LetsNoRequestSpoilItsRecord(t *testing.T) {
	for _, path := range []string{"/a\x00b", "/\xff\xfe", strings.Repeat("\xff", 1024), strings.Repeat("ü", 4000), "/" + strings.Repeat("€", 700)} {
		e := calls(t, event.APICall{RequestID: "r", At: now.Format(time.RFC3339), Method: strings.Repeat("M", 5000), Path: path})[0]
		for _, field := range []string{e.ResourceID, e.Action} {
			if len(field) > maxText+len("api_") || !utf8.ValidString(field) || strings.Contains(field, "\x00") {
				t.Errorf("%.20q gave %d bytes: %.40q", path, len(field), field)
			}
		}
		if strings.Contains(e.Details, `\u0000`) {
			t.Errorf("%.20q: details hold NUL", path)
		}
	}
}

func FuzzFromMessage_GivesOnlyWhatCanBeStored(f *testing.F) {
	f.Add("certctl.certificate.issued.v1", "certificate/mc-1", "key-1", `{"a":1}`)
	f.Add("certctl.api.called.v1", "", "", `{"calls":[{"path":"\u0000"}]}`)
	f.Add("x.v", "/", "agent-\xff", `null`)
	f.Fuzz(func(t *testing.T, ceType, entity, actor, body string) {
		m := message(ceType, entity, body)
		m.Actor = actor
		events, err := FromMessage(m)
		if err != nil {
			return
		}
		for _, e := range events {
			for _, field := range []string{e.Actor, e.Action, e.ResourceType, e.ResourceID} {
				if !utf8.ValidString(field) || strings.Contains(field, "\x00") || len(field) > maxText+len("api_") {
					t.Fatalf("cannot be stored: %q", field)
				}
			}
			if e.ActorType != kindUser && e.ActorType != kindAgent && e.ActorType != kindSystem {
				t.Fatalf("actor type %q", e.ActorType)
			}
			if !json.Valid([]byte(e.Details)) || !utf8.ValidString(e.Details) {
				t.Fatalf("details %q", e.Details)
			}
		}
	})
}
