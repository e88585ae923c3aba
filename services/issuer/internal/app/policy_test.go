package app_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/httpapi/issuerapi"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/httpx"
	"github.com/certctl/certctl/libs/natshttp"
	"github.com/certctl/certctl/services/issuer/internal/app"
)

const policies = "/api/v1/policies"

func (w *world) policyRule(body object) (r issuerapi.PolicyRule) {
	w.t.Helper()
	w.must(http.StatusCreated, http.MethodPost, "createPolicy", policies, body, &r)
	return r
}

func (w *world) changeRule(id string, body object) (r issuerapi.PolicyRule) {
	w.t.Helper()
	w.must(http.StatusOK, http.MethodPut, "updatePolicy", policies+"/"+id, body, &r)
	return r
}

func (w *world) violations(ruleID string) []issuerapi.PolicyViolation {
	w.t.Helper()
	var list issuerapi.PolicyViolationList
	w.must(http.StatusOK, http.MethodGet, "listPolicyViolations", policies+"/"+ruleID+"/violations", nil, &list)
	if list.Total != int64(len(list.Data)) {
		w.t.Errorf("total %d of %d", list.Total, len(list.Data))
	}
	return list.Data
}

func TestPolicies_AreSetUpReadChangedAndRemoved(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	made := w.policyRule(object{"id": "pr-own", "name": "Own CA", "type": "AllowedIssuers", "config": object{"issuer_ids": []string{"iss-local"}}})
	want := issuerapi.PolicyRule{
		ID: "pr-own", Name: "Own CA", Type: "AllowedIssuers", Severity: "Warning", Config: issuerapi.PolicyConfig{"issuer_ids": []any{"iss-local"}},
		CreatedAt: made.CreatedAt, UpdatedAt: made.UpdatedAt,
	}
	if d := cmp.Diff(want, made); d != "" {
		t.Errorf("defaults:\n%s", d)
	}
	changed := w.changeRule("pr-own", object{"id": "ignored", "enabled": true, "severity": "Critical"})
	want.Enabled, want.Severity, want.UpdatedAt = true, "Critical", changed.UpdatedAt
	if d := cmp.Diff(want, changed); d != "" {
		t.Errorf("what is left out stays:\n%s", d)
	}
	told, _ := hear(w, func(e event.PolicyChanged) bool { return e.Verb == event.Updated })
	if d := cmp.Diff(event.Changes{
		"enabled": {Before: false, After: true}, "severity": {Before: "Warning", After: "Critical"},
	}, told.Changes); d != "" {
		t.Error(d)
	}
	_, tag := w.conditional(http.MethodGet, "getPolicy", policies+"/pr-own", "", nil)
	if status, _ := w.conditional(http.MethodPut, "updatePolicy", policies+"/pr-own", `"1"`, object{"name": "Lost"}); status != http.StatusPreconditionFailed || tag != `"2"` {
		t.Errorf("an update of an older revision: %d, tag %s", status, tag)
	}
	for name, tt := range map[string]struct {
		body  object
		field string
	}{
		"an unknown type":     {object{"name": "x", "type": "ownership", "config": object{}}, "type"},
		"no configuration":    {object{"name": "x", "type": "AllowedIssuers"}, "config.issuer_ids"},
		"a misspelt key":      {object{"name": "x", "type": "AllowedIssuers", "config": object{"issuer_ids": []string{"a"}, "isuers": 1}}, "config.isuers"},
		"an unknown severity": {object{"name": "x", "type": "RenewalLeadTime", "severity": "Fatal", "config": object{"min_days": 1}}, "severity"},
		"no name":             {object{"type": "RenewalLeadTime", "config": object{"min_days": 1}}, "name"},
	} {
		if p := w.refused(http.StatusBadRequest, http.MethodPost, "createPolicy", policies, tt.body); len(p.Errors) != 1 || p.Errors[0].Name != tt.field {
			t.Errorf("%s: %+v", name, p)
		}
	}
	// A change of the type asks for its configuration.
	if p := w.refused(http.StatusBadRequest, http.MethodPut, "updatePolicy", policies+"/pr-own", object{"type": "RenewalLeadTime"}); len(p.Errors) != 2 {
		t.Errorf("errors %+v", p.Errors)
	}
	w.refused(http.StatusConflict, http.MethodPost, "createPolicy", policies,
		object{"id": "pr-own", "name": "x", "type": "RenewalLeadTime", "config": object{"min_days": 1}})
	for _, call := range [][3]string{{http.MethodGet, "getPolicy", ""}, {http.MethodPut, "updatePolicy", ""}, {http.MethodDelete, "deletePolicy", ""}, {http.MethodGet, "listPolicyViolations", "/violations"}, {http.MethodPost, "dryRunPolicy", "/dry-run"}} {
		w.refused(http.StatusNotFound, call[0], call[1], policies+"/pr-none"+call[2], object{})
	}
	var list issuerapi.PolicyRuleList
	w.must(http.StatusOK, http.MethodGet, "listPolicies", policies, nil, &list)
	if len(list.Data) != 1 || list.Data[0].ID != "pr-own" {
		t.Errorf("list %+v", list)
	}
	w.must(http.StatusNoContent, http.MethodDelete, "deletePolicy", policies+"/pr-own", nil, nil)
	hear(w, func(e event.PolicyChanged) bool { return e.Verb == event.Deleted })
	for _, limited := range []authn.Scope{{Teams: []string{"t-default"}}, {Profiles: []string{"prof-a"}}, {Issuers: []string{}}} {
		w.as = authn.Principal{ID: "key-limited", Kind: authn.KindUser, Scope: limited}
		w.must(http.StatusOK, http.MethodGet, "listPolicies", policies, nil, nil)
		w.refused(http.StatusForbidden, http.MethodPost, "createPolicy", policies, object{"name": "x", "type": "RenewalLeadTime", "config": object{"min_days": 1}})
	}
}

func TestPolicy_ForbidsWhatBreaksItAndSaysWhy(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	fine := object{
		"common_name": "www.example.com", "environment": "prod", "name": "Shop", "tags": object{"cost-centre": "7"}, "csr_pem": csrFor(t, "www.example.com"),
	}
	for _, tt := range []struct {
		kind   string
		config object
		change object
		field  string
		says   string
	}{
		{"AllowedIssuers", object{"issuer_ids": []string{"iss-other"}}, nil, "issuer_id", "iss-local is none"},
		{"AllowedDomains", object{"allow": []string{"*.example.org"}}, nil, "sans", "www.example.com"},
		{"RequiredMetadata", object{"fields": []string{"name", "environment"}, "tags": []string{"cost-centre"}}, object{"tags": object{}}, "tags", "cost-centre"},
		{"AllowedEnvironments", object{"environments": []string{"prod"}}, object{"environment": "test"}, "environment", `"test"`},
		{"RenewalLeadTime", object{"min_days": 31}, nil, "renewal_policy_id", "rp-default opens its window 30 days before"},
	} {
		t.Run(tt.kind, func(t *testing.T) {
			w.t = t
			body := object{}
			for _, from := range []object{fine, tt.change} {
				maps.Copy(body, from)
			}
			r := w.policyRule(object{"name": "The " + tt.kind, "type": tt.kind, "config": tt.config, "severity": "Error"})
			// Not enabled, it does nothing.
			w.create(body)
			if v := w.violations(r.ID); len(v) != 0 {
				t.Errorf("a rule that is off was broken: %+v", v)
			}
			w.changeRule(r.ID, object{"enabled": true})
			before := w.count(`SELECT count(*) FROM certificates`)
			for range 3 {
				p := w.refused(http.StatusConflict, http.MethodPost, "createCertificate", certificates, body)
				if len(p.Errors) != 1 || p.Errors[0].Name != tt.field {
					t.Fatalf("errors %+v", p.Errors)
				}
				for _, part := range []string{"The " + tt.kind, r.ID, tt.says} {
					if !strings.Contains(p.Message, part) || !strings.Contains(p.Errors[0].Reason, part) {
						t.Errorf("%q lacks %q", p.Message, part)
					}
				}
			}
			if n := w.count(`SELECT count(*) FROM certificates`); n != before {
				t.Errorf("%d certificates were stored", n-before)
			}
			found := w.violations(r.ID)
			if len(found) != 1 || found[0].Count != 3 || !found[0].Blocked || found[0].Stage != "issue" || found[0].Severity != "Error" ||
				found[0].CertificateID != "" || found[0].CommonName != "www.example.com" || !strings.Contains(found[0].Message, tt.says) {
				t.Errorf("violations %+v", found)
			}
			hear(w, func(e event.PolicyViolated) bool { return e.RuleID == r.ID && e.Blocked && e.Stage == "issue" })
			if told := all(w.heard, func(e event.PolicyViolated) bool { return e.RuleID == r.ID }); len(told) != 1 {
				t.Errorf("told %d times", len(told))
			}
			// A warning lets pass, and is put on record with the certificate.
			w.changeRule(r.ID, object{"severity": "Warning"})
			c := w.create(body)
			warned, _ := hear(w, func(e event.PolicyViolated) bool { return e.RuleID == r.ID && !e.Blocked })
			if warned.CertificateID != c.ID || warned.Severity != "Warning" || warned.RuleName != "The "+tt.kind {
				t.Errorf("told %+v", warned)
			}
			var list issuerapi.PolicyViolationList
			w.must(http.StatusOK, http.MethodGet, "listViolations", "/api/v1/violations?certificate_id="+c.ID, nil, &list)
			if len(list.Data) != 1 || list.Data[0].RuleID != r.ID || list.Data[0].Blocked {
				t.Errorf("of the certificate: %+v", list.Data)
			}
			w.changeRule(r.ID, object{"enabled": false})
			w.create(body)
			// With a rule goes what is on record of it.
			w.must(http.StatusNoContent, http.MethodDelete, "deletePolicy", policies+"/"+r.ID, nil, nil)
			if n := w.count(`SELECT count(*) FROM policy_violations WHERE rule_id = $1`, r.ID); n != 0 {
				t.Errorf("%d violations are left", n)
			}
		})
	}
	w.t = t
}

func TestPolicy_AllowsWhatKeepsIt(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	for kind, config := range map[string]object{
		"AllowedIssuers": {"issuer_ids": []string{"iss-local"}}, "AllowedDomains": {"allow": []string{"*.example.com"}},
		"RequiredMetadata":    {"fields": []string{"name", "environment", "tags"}, "tags": []string{"cost-centre"}},
		"AllowedEnvironments": {"environments": []string{"prod"}}, "RenewalLeadTime": {"min_days": 30},
	} {
		w.policyRule(object{"name": kind, "type": kind, "config": config, "severity": "Critical", "enabled": true})
	}
	c := w.create(object{
		"common_name": "www.example.com", "environment": "prod", "name": "Shop", "tags": object{"cost-centre": "7"}, "csr_pem": csrFor(t, "www.example.com"),
	})
	if c.Version == nil || w.renew(c.ID, object{"csr_pem": csrFor(t, "www.example.com")}).Version == nil {
		t.Error("was not issued")
	}
	var list issuerapi.PolicyViolationList
	w.must(http.StatusOK, http.MethodGet, "listViolations", "/api/v1/violations", nil, &list)
	if len(list.Data) != 0 {
		t.Errorf("violations %+v", list.Data)
	}
	// A renewal policy that comes to renew too late.
	w.exec(`UPDATE issuer.renewal_policies SET renewal_window_days = 7`)
	w.await("the change to be seen", func() bool {
		status, _ := w.try(http.MethodPost, "renewCertificate", certificates+"/"+c.ID+"/renew", object{"csr_pem": csrFor(t, "www.example.com")})
		return status == http.StatusConflict
	})
}

func TestPolicy_IsHeldAgainstRenewalsAndWhatIsHandedInLater(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	active := w.create(object{"common_name": "www.example.com", "csr_pem": csrFor(t, "www.example.com")})
	waiting := w.create(object{"common_name": "www.example.com"})
	r := w.policyRule(object{"name": "Elsewhere", "type": "AllowedDomains", "config": object{"deny": []string{"*.example.com"}}, "severity": "Error", "enabled": true})
	body := object{"csr_pem": csrFor(t, "www.example.com")}
	w.refused(http.StatusConflict, http.MethodPost, "renewCertificate", certificates+"/"+active.ID+"/renew", nil)
	w.refused(http.StatusConflict, http.MethodPost, "renewCertificate", certificates+"/"+active.ID+"/renew", body)
	w.refused(http.StatusConflict, http.MethodPost, "submitCertificateCSR", certificates+"/"+waiting.ID+"/csr", body)
	if c := w.certificate(active.ID); c.Status != issuerapi.CertificateStatusActive || *c.SerialNumber != *active.SerialNumber {
		t.Errorf("certificate %+v", c)
	}
	stages := map[string]string{}
	for _, v := range w.violations(r.ID) {
		stages[v.CertificateID] = fmt.Sprint(v.Stage, " ", v.Count, " ", v.Blocked)
	}
	if d := cmp.Diff(map[string]string{active.ID: "renew 2 true", waiting.ID: "issue 1 true"}, stages); d != "" {
		t.Error(d)
	}
	w.changeRule(r.ID, object{"severity": "Warning"})
	if done := w.renew(active.ID, body); done.Version == nil {
		t.Error("a warning stopped a renewal")
	}
	w.must(http.StatusAccepted, http.MethodPost, "submitCertificateCSR", certificates+"/"+waiting.ID+"/csr", body, nil)
	for _, v := range w.violations(r.ID) {
		if v.Blocked || v.Severity != "Warning" {
			t.Errorf("violation %+v", v)
		}
	}
}

// A renewal that nobody waits for ends with the explanation, and so does an issuance whose turn comes late.
func TestPolicy_EndsJobsThatItForbids(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.target("tgt-1", "agent-1")
	c := w.create(object{"common_name": "www.example.com", "csr_pem": csrFor(t, "www.example.com")})
	started := w.renew(c.ID, nil)
	r := w.policyRule(object{"name": "Elsewhere", "type": "AllowedDomains", "config": object{"deny": []string{"www.example.com"}}, "severity": "Critical", "enabled": true})
	w.exec(`UPDATE issuer.jobs SET status = 'Pending', next_action_at = now() WHERE id = $1`, started.JobID)
	w.create(object{"common_name": "wake.example.com", "target_ids": []string{"tgt-1"}})
	failed, _ := hear(w, func(e event.CertificateFailed) bool { return e.CertificateID == c.ID })
	if failed.Stage != "renewal" || !strings.Contains(failed.Reason, r.ID) || !strings.Contains(failed.Reason, "www.example.com") {
		t.Errorf("failed %+v", failed)
	}
	j := w.job(started.JobID)
	if j.Status != issuerapi.JobStatusFailed || j.LastError == nil || *j.LastError != failed.Reason {
		t.Errorf("job %+v", j)
	}
	violated, _ := hear(w, func(e event.PolicyViolated) bool { return e.CertificateID == c.ID })
	if !violated.Blocked || violated.Stage != "renew" {
		t.Errorf("told %+v", violated)
	}
	if v := w.violations(r.ID); len(v) != 1 || v[0].Count != 1 {
		t.Errorf("violations %+v", v)
	}
}

func TestPolicy_WarningsOfAJobCountOnceHoweverOftenItIsTried(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.target("tgt-1", "agent-1")
	r := w.policyRule(object{"name": "Careful", "type": "AllowedEnvironments", "config": object{"environments": []string{"prod"}}, "enabled": true})
	c, asked := w.withTarget("tgt-1")
	w.publish(event.CSRFailed{CertificateID: c.ID, JobID: asked.JobID, Attempt: 1, AgentID: "agent-1", Reason: "disk full"}, 1)
	w.await("the setback", func() bool { return w.job(asked.JobID).Status == issuerapi.JobStatusPending })
	w.exec(`UPDATE issuer.jobs SET next_action_at = now() WHERE id = $1`, asked.JobID)
	w.wakeWorker()
	w.keyRequest(c.ID, 2)
	for _, v := range w.violations(r.ID) {
		if v.Count != 1 || v.Blocked {
			t.Errorf("violation %+v", v)
		}
	}
}

func TestPolicy_HoldsForWhatComesAfterTheAnswerAndSoonElsewhere(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	r := w.policyRule(object{"name": "None", "type": "AllowedEnvironments", "config": object{"environments": []string{"prod"}}, "severity": "Error"})
	body := object{"common_name": "www.example.com"}
	for range 20 {
		w.create(body)
		w.changeRule(r.ID, object{"enabled": true})
		w.refused(http.StatusConflict, http.MethodPost, "createCertificate", certificates, body)
		w.changeRule(r.ID, object{"enabled": false})
	}
	w.start(app.Settings{})
	w.changeRule(r.ID, object{"enabled": true})
	// Any of the two answers.
	w.await("the rule to hold in both", func() bool {
		for range 12 {
			if status, _ := w.try(http.MethodPost, "createCertificate", certificates, body); status != http.StatusConflict {
				return false
			}
		}
		return true
	})
}

// groups answers listGroupsOfAgent as the deployment service does.
func (w *world) groups(of map[string][]string) (stop func()) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	started, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- natshttp.Serve(ctx, w.conn.NC, natshttp.Options{
			Service: "deployment", Operations: []string{"listGroupsOfAgent"}, Started: func() { close(started) },
		}, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			agent, suits := strings.CutSuffix(strings.TrimPrefix(r.URL.Path, "/api/v1/agents/"), "/groups")
			if !suits || authn.FromContext(r.Context()).Kind != authn.KindSystem {
				httpx.NotFound(rw, r)
				return
			}
			data := []object{}
			for _, id := range of[agent] {
				data = append(data, object{"id": id})
			}
			httpx.WriteJSON(rw, http.StatusOK, object{"data": data, "total": len(data)})
		}))
	}()
	<-started
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	})
	w.t.Cleanup(stop)
	return stop
}

func TestPolicy_OfAnAgentGroupIsForWhatItsAgentsInstall(t *testing.T) {
	w := newWorld(t)
	// The worker looks by itself: to wake it by a certificate would ask for groups once more.
	w.start(app.Settings{Sweep: 50 * time.Millisecond})
	w.target("tgt-in", "agent-in")
	w.target("tgt-out", "agent-out")
	w.target("tgt-away", "agent-away")
	r := w.policyRule(object{
		"name": "Edge", "type": "AllowedEnvironments", "config": object{"environments": []string{"edge"}}, "severity": "Error",
		"agent_group_id": "ag-edge", "enabled": true,
	})
	on := func(target string) object {
		return object{"common_name": "www.example.com", "target_ids": []string{target}}
	}
	// While deployment does not answer nobody knows, and nothing is let through that the rule may be for.
	p := w.refused(http.StatusServiceUnavailable, http.MethodPost, "createCertificate", certificates, on("tgt-away"))
	if !strings.Contains(p.Message, "agent-away") {
		t.Errorf("message %q", p.Message)
	}
	w.create(object{"common_name": "www.example.com"})

	stop := w.groups(map[string][]string{"agent-in": {"ag-other", "ag-edge"}, "agent-out": {"ag-other"}})
	w.await("deployment to be asked again", func() bool {
		status, _ := w.try(http.MethodPost, "createCertificate", certificates, on("tgt-in"))
		return status == http.StatusConflict
	})
	w.create(on("tgt-out"))
	if v := w.violations(r.ID); len(v) != 1 || !v[0].Blocked {
		t.Errorf("violations %+v", v)
	}
	stop()
	// A job waits until it can be told.
	c := w.create(object{"common_name": "www.example.com", "csr_pem": csrFor(t, "www.example.com")})
	started := w.renew(c.ID, nil)
	w.exec(`INSERT INTO issuer.certificate_targets (certificate_id, target_id, position) VALUES ($1, 'tgt-away', 1)`, c.ID)
	w.exec(`UPDATE issuer.jobs SET status = 'Pending', next_action_at = now() WHERE id = $1`, started.JobID)
	w.await("the job to be put off", func() bool {
		j := w.job(started.JobID)
		return j.Status == issuerapi.JobStatusPending && j.LastError != nil && strings.Contains(*j.LastError, "agent-away")
	})
	// What is no group's is left alone.
	w.changeRule(r.ID, object{"enabled": false})
	w.create(on("tgt-away"))
}

func TestPolicy_DryRunSaysWhatARuleWouldObjectToAndStoresNothing(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	for i, environment := range []string{"prod", "test", "test", "dev", ""} {
		w.create(object{"id": fmt.Sprintf("mc-%d", i), "common_name": fmt.Sprintf("host-%d.example.com", i), "environment": environment})
	}
	w.create(object{"id": "mc-old", "common_name": "old.example.com", "environment": "test"})
	w.must(http.StatusNoContent, http.MethodDelete, "archiveCertificate", certificates+"/mc-old", nil, nil)
	draft := object{"name": "Prod only", "type": "AllowedEnvironments", "config": object{"environments": []string{"prod"}}, "severity": "Critical", "enabled": true}
	var run issuerapi.PolicyDryRun
	w.must(http.StatusOK, http.MethodPost, "dryRunPolicyDraft", policies+"/dry-run", draft, &run)
	type counts = []issuerapi.PolicyDryRunCount
	if run.Evaluated != 5 || run.Violating != 4 || !run.Complete || run.Cursor != nil || len(run.Violations) != 4 {
		t.Errorf("run %+v", run)
	}
	if d := cmp.Diff(counts{{Count: 2, Value: "test"}, {Count: 1, Value: ""}, {Count: 1, Value: "dev"}}, run.ByEnvironment); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(counts{{Count: 4, Value: "o-default"}}, run.ByOwner); d != "" {
		t.Error(d)
	}
	if !slices.ContainsFunc(run.Violations, func(v issuerapi.PolicyDryRunViolation) bool {
		return v.CertificateID == "mc-1" && v.CommonName == "host-1.example.com" && strings.Contains(v.Message, `"test"`)
	}) {
		t.Errorf("violations %+v", run.Violations)
	}
	if n := w.count(`SELECT count(*) FROM policy_rules`) + w.count(`SELECT count(*) FROM policy_violations`); n != 0 {
		t.Errorf("%d rows were stored", n)
	}
	w.create(object{"common_name": "still.example.com", "environment": "test"})

	draft["enabled"], draft["id"] = false, "pr-prod"
	w.policyRule(draft)
	var stored issuerapi.PolicyDryRun
	w.must(http.StatusOK, http.MethodPost, "dryRunPolicy", policies+"/pr-prod/dry-run", nil, &stored)
	if stored.Evaluated != 6 || stored.Violating != 5 {
		t.Errorf("stored: %+v", stored)
	}
	w.as = authn.Principal{ID: "key-dev", Kind: authn.KindUser, Scope: authn.Scope{Environments: []string{"dev", "prod"}}}
	w.must(http.StatusOK, http.MethodPost, "dryRunPolicy", policies+"/pr-prod/dry-run", nil, &stored)
	if stored.Evaluated != 2 || stored.Violating != 1 {
		t.Errorf("within a scope: %+v", stored)
	}
	if p := w.refused(http.StatusBadRequest, http.MethodPost, "dryRunPolicyDraft", policies+"/dry-run", object{"name": "x", "type": "AllowedIssuers", "config": object{}}); p.Errors[0].Name != "config.issuer_ids" {
		t.Errorf("errors %+v", p.Errors)
	}
	w.refused(http.StatusBadRequest, http.MethodPost, "dryRunPolicy", policies+"/pr-prod/dry-run?cursor=junk", nil)
}

func TestViolations_AreSeenWithinAScope(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	r := w.policyRule(object{"name": "Nowhere", "type": "AllowedEnvironments", "config": object{"environments": []string{"none"}}, "severity": "Error", "enabled": true})
	for _, environment := range []string{"prod", "test"} {
		w.refused(http.StatusConflict, http.MethodPost, "createCertificate", certificates, object{"common_name": "www.example.com", "environment": environment})
	}
	var list issuerapi.PolicyViolationList
	w.must(http.StatusOK, http.MethodGet, "listPolicyViolations", policies+"/"+r.ID+"/violations?per_page=1", nil, &list)
	if list.Total != 2 || len(list.Data) != 1 || list.NextCursor == nil {
		t.Fatalf("first page %+v", list)
	}
	newest := list.Data[0].ID
	var second issuerapi.PolicyViolationList
	w.must(http.StatusOK, http.MethodGet, "listPolicyViolations", policies+"/"+r.ID+"/violations?per_page=1&cursor="+*list.NextCursor, nil, &second)
	if len(second.Data) != 1 || second.Data[0].ID == newest || second.NextCursor != nil {
		t.Errorf("second page %+v", second)
	}
	w.as = authn.Principal{ID: "key-test", Kind: authn.KindUser, Scope: authn.Scope{Environments: []string{"test"}}}
	if v := w.violations(r.ID); len(v) != 1 || !strings.Contains(v[0].Message, `"test"`) {
		t.Errorf("sees %+v", v)
	}
}
