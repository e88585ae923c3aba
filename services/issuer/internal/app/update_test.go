package app_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/httpapi/issuerapi"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/services/issuer/internal/app"
	"github.com/certctl/certctl/services/issuer/internal/ca/catest"
)

func (w *world) update(certificateID string, body any) (c issuerapi.Certificate) {
	w.t.Helper()
	w.put(http.StatusOK, "updateCertificate", certificates+"/"+certificateID, body, "", &c)
	return c
}

// The MCP server sends the id and the one field that is to change; everything else stays.
func TestUpdate_ChangesTheFieldThatIsGivenAndNoOther(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.team("t-web", "Web")
	w.owner("o-ada", "t-web")
	w.exec(`INSERT INTO issuer.renewal_policies (id, name) VALUES ('rp-urgent', 'Urgent')`)
	w.issuer(map[string]any{"id": "iss-other", "name": "Other", "type": "local", "enabled": true})
	c := w.create(map[string]any{
		"common_name": "www.example.com", "sans": []string{"example.com"}, "tags": map[string]string{"a": "b"}, "environment": "test",
		"csr_pem": csrFor(t, "www.example.com", "www.example.com", "example.com"),
	})
	want := w.certificate(c.ID)
	for _, tt := range []struct {
		field         string
		value, before any
		apply         func()
	}{
		{"name", "Shop", "www.example.com", func() { want.Name = "Shop" }},
		{"environment", "production", "test", func() { want.Environment = "production" }},
		{"owner_id", "o-ada", "o-default", func() { want.OwnerID = "o-ada" }},
		{"team_id", "t-web", "t-default", func() { want.TeamID = "t-web" }},
		{"issuer_id", "iss-other", "iss-local", func() { want.IssuerID = "iss-other" }},
		{"renewal_policy_id", "rp-urgent", "rp-default", func() { want.RenewalPolicyID = "rp-urgent" }},
		{"tags", map[string]any{"tier": "1"}, map[string]any{"a": "b"}, func() { want.Tags = map[string]string{"tier": "1"} }},
		{
			"sans",
			[]any{"www.example.com", "example.com", "shop.example.com"},
			[]any{"www.example.com", "example.com"},
			func() { want.Sans = []string{"www.example.com", "example.com", "shop.example.com"} },
		},
	} {
		t.Run(tt.field, func(t *testing.T) {
			answered := w.update(c.ID, map[string]any{"id": c.ID, tt.field: tt.value, "status": "Revoked", "expires_at": "never"})
			tt.apply()
			want.UpdatedAt = answered.UpdatedAt
			got := w.certificate(c.ID)
			slices.Sort(got.Sans[1:])
			slices.Sort(want.Sans[1:])
			slices.Sort(answered.Sans[1:])
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("more or less changed than was asked for (-want +got):\n%s", d)
			}
			if d := cmp.Diff(got, answered); d != "" {
				t.Errorf("the answer and the record differ:\n%s", d)
			}
			told, _ := hear(w, func(e event.CertificateUpdated) bool { _, there := e.Changes[tt.field]; return there })
			if len(told.Changes) != 1 || tt.field != "sans" && cmp.Diff(event.Change{Before: tt.before, After: tt.value}, told.Changes[tt.field]) != "" {
				t.Errorf("told %+v", told.Changes)
			}
		})
	}
	before := len(all(w.heard, func(event.CertificateUpdated) bool { return true }))
	tag := w.tag("getCertificate", certificates+"/"+c.ID)
	if again := w.put(http.StatusOK, "updateCertificate", certificates+"/"+c.ID, map[string]any{"name": "Shop", "owner_id": ""}, tag, nil); again != tag {
		t.Errorf("what changes nothing has changed the tag from %s to %s", tag, again)
	}
	w.must(http.StatusNoContent, http.MethodDelete, "archiveCertificate", certificates+"/"+c.ID, nil, nil)
	hear(w, func(e event.CertificateArchived) bool { return e.CertificateID == c.ID })
	if after := len(all(w.heard, func(event.CertificateUpdated) bool { return true })); after != before {
		t.Errorf("told %d times of what changed nothing", after-before)
	}
	p := w.refused(http.StatusConflict, http.MethodPut, "updateCertificate", certificates+"/"+c.ID, map[string]any{"name": "x"})
	if !strings.Contains(p.Message, "archived") {
		t.Errorf("message %q", p.Message)
	}
}

func TestUpdate_NamesWhatIsWrongAndChangesNothing(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.deployment(nil)
	c := w.create(map[string]any{"common_name": "www.example.com", "csr_pem": csrFor(t, "www.example.com")})
	path := certificates + "/" + c.ID
	for body, field := range map[string]string{
		`{"owner_id":"o-none"}`:           "owner_id",
		`{"team_id":"t-none"}`:            "team_id",
		`{"issuer_id":"iss-none"}`:        "issuer_id",
		`{"renewal_policy_id":"rp-none"}`: "renewal_policy_id",
		`{"target_ids":["tgt-none"]}`:     "target_ids[0]",
		`{"target_ids":["T"]}`:            "target_ids[0]",
		`{"owner_id":"O"}`:                "owner_id",
		`{"common_name":"no host name!"}`: "common_name",
		`{"sans":["a@example.com"]}`:      "sans",
		`{"environment":"a\u0000b"}`:      "environment",
		`{"tags":{"":"x"}}`:               "tags",
		`{"name":7}`:                      "name",
	} {
		p := w.refused(http.StatusBadRequest, http.MethodPut, "updateCertificate", path, body)
		if len(p.Errors) != 1 || p.Errors[0].Name != field {
			t.Errorf("%s: fields %+v, want %s", body, p.Errors, field)
		}
	}
	w.refused(http.StatusNotFound, http.MethodPut, "updateCertificate", certificates+"/mc-none", `{"name":"x"}`)
	c.JobID, c.Version = nil, nil
	if d := cmp.Diff(c, w.certificate(c.ID)); d != "" {
		t.Errorf("something changed:\n%s", d)
	}
}

func TestUpdate_OfNamesAndIssuerCountsFromTheNextIssueOn(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	other := w.issuer(map[string]any{"id": "iss-other", "name": "Other", "type": "local", "enabled": true})
	c := w.create(map[string]any{"common_name": "www.example.com", "sans": []string{"a.example.com"}, "csr_pem": csrFor(t, "www.example.com", "www.example.com", "a.example.com")})
	now := w.update(c.ID, map[string]any{"common_name": "shop.example.com", "issuer_id": "iss-other"})
	if !slices.Equal(now.Sans, []string{"shop.example.com", "a.example.com"}) || *now.SerialNumber != *c.SerialNumber {
		t.Errorf("changed to %+v", now)
	}
	w.refused(http.StatusBadRequest, http.MethodPost, "renewCertificate", certificates+"/"+c.ID+"/renew",
		map[string]any{"csr_pem": csrFor(t, "www.example.com", "www.example.com", "a.example.com")})
	done := w.renew(c.ID, map[string]any{"csr_pem": csrFor(t, "shop.example.com", "shop.example.com", "a.example.com")})
	now = w.certificate(c.ID)
	now.Version = done.Version
	verified(t, now, other)
}

func TestUpdate_OfNamesIsRefusedWhileAJobIsOpen(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.target("tgt-1", "agent-1")
	w.target("tgt-2", "agent-1")
	c, asked := w.withTarget("tgt-1")
	for _, body := range []map[string]any{{"common_name": "shop.example.com"}, {"sans": []string{"a.example.com"}}, {"target_ids": []string{"tgt-2"}}} {
		p := w.refused(http.StatusConflict, http.MethodPut, "updateCertificate", certificates+"/"+c.ID, body)
		if !strings.Contains(p.Message, asked.JobID) {
			t.Errorf("message %q", p.Message)
		}
	}
	w.update(c.ID, map[string]any{"environment": "production"})
	w.answer(asked, catest.NewKey(t, ecdsa))
	hear(w, func(e event.CertificateIssued) bool { return e.CertificateID == c.ID })
	w.update(c.ID, map[string]any{"sans": []string{"a.example.com"}})
}

func TestUpdate_OfTargetsTellsTheNewestVersion(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.target("tgt-1", "agent-1")
	w.target("tgt-2", "agent-1")
	w.target("tgt-far", "agent-2")
	c, asked := w.withTarget("tgt-1")
	w.answer(asked, catest.NewKey(t, ecdsa))
	issued, _ := hear(w, func(e event.CertificateIssued) bool { return e.CertificateID == c.ID })
	w.publish(event.DeploymentCompleted{Deployment: deploymentOf(&issued, "tgt-1")}, 1)
	hear(w, func(e event.CertificateActivated) bool { return e.CertificateID == c.ID })

	p := w.refused(http.StatusBadRequest, http.MethodPut, "updateCertificate", certificates+"/"+c.ID, map[string]any{"target_ids": []string{"tgt-1", "tgt-far"}})
	if len(p.Errors) != 1 || p.Errors[0].Name != "target_ids[1]" || !strings.Contains(p.Message, "another agent") {
		t.Errorf("problem %+v", p)
	}
	now := w.update(c.ID, map[string]any{"target_ids": []string{"tgt-2", "tgt-1"}})
	if !slices.Equal(now.TargetIds, []string{"tgt-2", "tgt-1"}) || now.Status != issuerapi.CertificateStatusActive {
		t.Errorf("changed to %+v", now)
	}
	told, message := hear(w, func(e event.CertificateUpdated) bool { return e.CertificateID == c.ID })
	if told.Newest.VersionID != issued.VersionID || told.Newest.PEMChain != issued.PEMChain ||
		told.KeyAgentID != "agent-1" || !slices.Equal(told.TargetIDs, []string{"tgt-2", "tgt-1"}) || message.AggVersion != 4 {
		t.Errorf("told %+v, version %d", told, message.AggVersion)
	}
	w.update(c.ID, map[string]any{"target_ids": []string{}})
	if n := w.count(`SELECT count(*) FROM certificate_targets WHERE certificate_id = $1`, c.ID); n != 0 {
		t.Errorf("%d targets are left", n)
	}
}

// A certificate that waits only for a target that is taken away waits no more.
func TestUpdate_ThatDropsTheTargetThatWasWaitedForActivates(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.target("tgt-1", "agent-1")
	w.target("tgt-2", "agent-1")
	c, asked := w.withTarget("tgt-1", "tgt-2")
	w.answer(asked, catest.NewKey(t, ecdsa))
	issued, _ := hear(w, func(e event.CertificateIssued) bool { return e.CertificateID == c.ID })
	w.publish(event.DeploymentCompleted{Deployment: deploymentOf(&issued, "tgt-1")}, 1)
	w.settled()
	if now := w.certificate(c.ID); now.Status != issuerapi.CertificateStatusPending {
		t.Fatalf("it does not wait: %+v", now)
	}
	now := w.update(c.ID, map[string]any{"target_ids": []string{"tgt-1"}})
	if now.Status != issuerapi.CertificateStatusActive || now.StatusReason != nil {
		t.Errorf("it still waits: %+v", now)
	}
	_, updated := hear(w, func(e event.CertificateUpdated) bool { return e.CertificateID == c.ID })
	_, activated := hear(w, func(e event.CertificateActivated) bool { return e.CertificateID == c.ID })
	if activated.AggVersion != updated.AggVersion+1 {
		t.Errorf("versions %d and %d", updated.AggVersion, activated.AggVersion)
	}
}

// The CLI's import sends little, and some of what it sends means nothing to us.
func TestImport_IsCompletedByDefaultsAndWaitsForARequestOrTargets(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.target("tgt-1", "agent-1")
	c := w.create(`{"common_name":"www.example.com","sans":["www.example.com"],"issuer_id":"iss-local","environment":"imported",
		"status":"Active","serial_number":"0A","expires_at":"soon","force":false}`)
	if c.OwnerID != "o-default" || c.TeamID != "t-default" || c.RenewalPolicyID != "rp-default" || c.Name != "www.example.com" ||
		c.Environment != "imported" || c.Status != issuerapi.CertificateStatusPending || c.SerialNumber != nil {
		t.Errorf("imported %+v", c)
	}
	now := w.update(c.ID, map[string]any{"target_ids": []string{"tgt-1"}})
	if now.StatusReason == nil || !strings.Contains(*now.StatusReason, "agent") {
		t.Errorf("with a target: %+v", now)
	}
	asked := w.keyRequest(c.ID, 1)
	w.answer(asked, catest.NewKey(t, ecdsa))
	hear(w, func(e event.CertificateIssued) bool {
		return e.CertificateID == c.ID && slices.Equal(e.TargetIDs, []string{"tgt-1"})
	})
}

func TestScope_CountsOnWhatACertificateIsAndOnWhatItBecomes(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	c := w.create(map[string]any{"common_name": "www.example.com", "environment": "test", "csr_pem": csrFor(t, "www.example.com")})
	path := certificates + "/" + c.ID
	w.as = authn.Principal{ID: "key-test", Kind: authn.KindUser, Scope: authn.Scope{Environments: []string{"test", "dev"}}}
	w.refused(http.StatusForbidden, http.MethodPut, "updateCertificate", path, map[string]any{"environment": "production"})
	w.update(c.ID, map[string]any{"environment": "dev"})
	w.as.Scope.Environments = []string{"test"}
	w.refused(http.StatusNotFound, http.MethodPut, "updateCertificate", path, map[string]any{"environment": "test"})
	w.as = admin
	if now := w.certificate(c.ID); now.Environment != "dev" {
		t.Errorf("environment %s", now.Environment)
	}
}
