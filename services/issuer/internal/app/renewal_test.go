package app_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/httpapi/issuerapi"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/services/issuer/internal/app"
	"github.com/certctl/certctl/services/issuer/internal/ca/catest"
)

const renewalPolicies = "/api/v1/renewal-policies"

// bySomebodyElse does what nobody may do with what they have asked for themselves.
func (w *world) bySomebodyElse(do func()) {
	w.as = authn.Principal{ID: "key-second", Kind: authn.KindUser, Roles: []string{"approver"}}
	defer func() { w.as = admin }()
	do()
}

func (w *world) policy(body any) (p issuerapi.RenewalPolicy) {
	w.t.Helper()
	w.must(http.StatusCreated, http.MethodPost, "createRenewalPolicy", renewalPolicies, body, &p)
	return p
}

func (w *world) setPolicy(id string, body any) (p issuerapi.RenewalPolicy) {
	w.t.Helper()
	w.must(http.StatusOK, http.MethodPut, "updateRenewalPolicy", renewalPolicies+"/"+id, body, &p)
	return p
}

func TestRenewalPolicies_AreSetUpAndChangedFieldByField(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	p := w.policy(map[string]any{
		"id": "rp-web", "name": "Web", "renewal_window_percent": 33, "alert_thresholds_days": []int{1, 14, 1},
		"maintenance_windows": []any{map[string]any{"weekdays": []string{"saturday"}, "start": "22:00", "end": "04:00", "time_zone": "Europe/Berlin"}},
	})
	if !p.AutoRenew || p.RenewalWindowDays != 30 || p.MaxRetries != 3 || !cmp.Equal(p.AlertThresholdsDays, []int{14, 1}) || p.ApprovalExpiresAfterHours != 72 {
		t.Errorf("created %+v", p)
	}
	if window := p.MaintenanceWindows[0]; !cmp.Equal(*window.Weekdays, []string{"Sat"}) || *window.TimeZone != "Europe/Berlin" {
		t.Errorf("window %+v", window)
	}
	changed := w.setPolicy("rp-web", map[string]any{"id": "ignored", "auto_renew": false, "max_retries": 5})
	want := p
	want.AutoRenew, want.MaxRetries, want.UpdatedAt = false, 5, changed.UpdatedAt
	if diff := cmp.Diff(want, changed); diff != "" {
		t.Error(diff)
	}
	again := w.setPolicy("rp-web", map[string]any{"auto_renew": false})
	if diff := cmp.Diff(changed, again); diff != "" {
		t.Errorf("a change of nothing changes something: %s", diff)
	}
	told, message := hear(w, func(e event.RenewalPolicyChanged) bool { return e.Verb == event.Updated })
	if diff := cmp.Diff(event.Changes{"auto_renew": {Before: true, After: false}, "max_retries": {Before: 3.0, After: 5.0}}, told.Changes); diff != "" || message.AggVersion != 2 || message.Actor != admin.ID {
		t.Errorf("told %+v: %s", message, diff)
	}
	var list issuerapi.RenewalPolicyList
	w.must(http.StatusOK, http.MethodGet, "listRenewalPolicies", renewalPolicies, nil, &list)
	if list.Total != 2 || list.Data[0].ID != "rp-default" || list.Data[1].ID != "rp-web" {
		t.Errorf("list %+v", list)
	}
	w.refused(http.StatusConflict, http.MethodPost, "createRenewalPolicy", renewalPolicies, map[string]any{"id": "rp-web", "name": "Web"})
	w.refused(http.StatusNotFound, http.MethodPut, "updateRenewalPolicy", renewalPolicies+"/rp-none", map[string]any{"name": "x"})
}

func TestRenewalPolicies_RefuseWhatCannotHoldAndNameIt(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	p := w.refused(http.StatusBadRequest, http.MethodPost, "createRenewalPolicy", renewalPolicies, map[string]any{
		"id": "RP", "name": "", "renewal_window_days": 0, "max_retries": -1, "retry_interval_seconds": 0,
		"alert_thresholds_days": []int{-1}, "approval_expires_after_hours": 0,
	})
	for _, field := range []string{"id", "name", "renewal_window_days", "max_retries", "retry_interval_seconds", "alert_thresholds_days", "approval_expires_after_hours"} {
		if !strings.Contains(p.Message, field) {
			t.Errorf("%s is not named in %q", field, p.Message)
		}
	}
	window := func(start, zone string) map[string]any {
		return map[string]any{"maintenance_windows": []any{map[string]any{"start": start, "end": "04:00", "time_zone": zone}}}
	}
	for field, body := range map[string]any{
		"maintenance_windows[0].start":     window("26:00", "UTC"),
		"maintenance_windows[0].time_zone": window("22:00", "Mars/Olympus"),
	} {
		if p := w.refused(http.StatusBadRequest, http.MethodPut, "updateRenewalPolicy", renewalPolicies+"/rp-default", body); !strings.Contains(p.Message, field) {
			t.Errorf("%s is not named in %q", field, p.Message)
		}
	}
}

func TestRenewalPolicies_HoldUpdatesToTheRevisionThatWasSeen(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.ifMatch = `"7"`
	w.refused(http.StatusPreconditionFailed, http.MethodPut, "updateRenewalPolicy", renewalPolicies+"/rp-default", map[string]any{"name": "New"})
	w.ifMatch = `"1"`
	w.setPolicy("rp-default", map[string]any{"name": "New"})
	w.refused(http.StatusPreconditionFailed, http.MethodPut, "updateRenewalPolicy", renewalPolicies+"/rp-default", map[string]any{"name": "Newer"})
}

func TestRenewalPolicies_InUseAreNotDeletedAndListWhoUsesThem(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.policy(map[string]any{"id": "rp-web", "name": "Web"})
	var last issuerapi.Certificate
	for range 12 {
		last = w.create(map[string]any{"common_name": "www.example.com", "renewal_policy_id": "rp-web"})
	}
	remove := func(id string) string { return renewalPolicies + "/" + id }
	p := w.refused(http.StatusConflict, http.MethodDelete, "deleteRenewalPolicy", remove("rp-web"), nil)
	if !strings.Contains(p.Message, "12 certificates") || !strings.Contains(p.Message, ", …)") || strings.Contains(p.Message, last.ID) {
		t.Errorf("message %q", p.Message)
	}
	w.refused(http.StatusConflict, http.MethodDelete, "deleteRenewalPolicy", remove("rp-default"), nil)
	w.exec(`UPDATE issuer.certificates SET status = 'Archived'`)
	w.must(http.StatusNoContent, http.MethodDelete, "deleteRenewalPolicy", remove("rp-web"), nil, nil)
	w.refused(http.StatusNotFound, http.MethodDelete, "deleteRenewalPolicy", remove("rp-web"), nil)
	if c := w.certificate(last.ID); c.RenewalPolicyID != "rp-default" {
		t.Errorf("an archived certificate refers to %s", c.RenewalPolicyID)
	}
	hear(w, func(e event.RenewalPolicyChanged) bool { return e.Verb == event.Deleted && e.ID == "rp-web" })
}

func TestRenewalPolicies_AreNotForKeysOfALimitedScopeToChange(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.policy(map[string]any{"id": "rp-web", "name": "Web"})
	w.as = authn.Principal{ID: "key-web", Kind: authn.KindUser, Scope: authn.Scope{Teams: []string{"t-web"}}}
	w.refused(http.StatusForbidden, http.MethodPost, "createRenewalPolicy", renewalPolicies, map[string]any{"name": "x"})
	w.refused(http.StatusForbidden, http.MethodPut, "updateRenewalPolicy", renewalPolicies+"/rp-web", map[string]any{"name": "x"})
	w.refused(http.StatusForbidden, http.MethodDelete, "deleteRenewalPolicy", renewalPolicies+"/rp-web", nil)
	w.must(http.StatusOK, http.MethodGet, "getRenewalPolicy", renewalPolicies+"/rp-web", nil, nil)
}

// A certificate that lives as long as the window is, and is back-dated by its CA, was due the moment it was issued.
func TestEngine_DoesNotRenewWhatHasJustBeenIssued(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	for id, days := range map[string]int{"prof-month": 30, "prof-week": 7} {
		w.profile(object{"id": id, "name": id, "enabled": true, "max_ttl_seconds": days * 86400})
		c := w.create(object{
			"common_name": id + ".example.com", "certificate_profile_id": id,
			"csr_pem": catest.NewCSR(t, catest.NewKey(t, ecdsa), id+".example.com", id+".example.com"),
		})
		var plan issuerapi.RenewalPlan
		w.must(http.StatusOK, http.MethodGet, "getRenewalPlan", certificates+"/"+c.ID+"/renewal-plan", nil, &plan)
		half := time.Duration(days) * 12 * time.Hour
		if plan.OpensAt == nil || time.Until(*plan.OpensAt) < half-time.Hour || time.Until(*plan.OpensAt) > half+time.Hour {
			t.Errorf("%s: %+v", id, plan)
		}
	}
}

// From the moment the policy says so, nobody has to do anything: key, request, signature and installation follow.
func TestEngine_RenewsACertificateByItselfOnceItIsDue(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.target("tgt-1", "agent-1")
	c, asked := w.withTarget("tgt-1")
	w.answer(asked, catest.NewKey(t, ecdsa))
	issued, _ := hear(w, func(e event.CertificateIssued) bool { return e.CertificateID == c.ID })
	w.publish(event.DeploymentCompleted{Deployment: deploymentOf(&issued, "tgt-1")}, 1)
	hear(w, func(e event.CertificateActivated) bool { return e.CertificateID == c.ID })
	var plan issuerapi.RenewalPlan
	w.must(http.StatusOK, http.MethodGet, "getRenewalPlan", certificates+"/"+c.ID+"/renewal-plan", nil, &plan)
	if plan.RenewalPolicyID != "rp-default" || plan.NextRenewalAt == nil || plan.OpensAt == nil || plan.NextRenewalAt.Before(*plan.OpensAt) || plan.NextAlertAt == nil {
		t.Errorf("plan %+v", plan)
	}

	// A month before its end, as far as the record tells.
	w.exec(`UPDATE issuer.certificate_versions SET created_at = created_at - interval '70 days', not_before = not_before - interval '70 days', not_after = not_after - interval '70 days'`)
	w.exec(`UPDATE issuer.certificates SET expires_at = expires_at - interval '70 days'`)
	w.setPolicy("rp-default", map[string]any{"renewal_window_days": 31})
	expiring, message := hear(w, func(e event.CertificateExpiring) bool { return e.CertificateID == c.ID })
	if expiring.Threshold != 30 || expiring.VersionID != issued.VersionID || message.Actor != "system" {
		t.Errorf("told %+v", expiring)
	}
	requested, _ := hear(w, func(e event.CertificateRequested) bool { return e.CertificateID == c.ID && e.Automatic })
	if !requested.Renewal || requested.Reason == "" {
		t.Errorf("requested %+v", requested)
	}
	again := w.asked(func(e event.CertificateKeyRequested) bool { return e.JobID == requested.JobID })
	w.answer(again, catest.NewKey(t, ecdsa))
	renewed, _ := hear(w, func(e event.CertificateRenewed) bool { return e.CertificateID == c.ID })
	w.publish(event.DeploymentCompleted{Deployment: deploymentOf(&renewed.CertificateIssued, "tgt-1")}, 1)
	hear(w, func(e event.CertificateActivated) bool { return e.VersionID == renewed.VersionID })
	if now := w.certificate(c.ID); now.Status != issuerapi.CertificateStatusActive {
		t.Errorf("certificate %+v", now)
	}
	if j := w.job(requested.JobID); *j.RequestedBy != "system" || j.Status != issuerapi.JobStatusCompleted {
		t.Errorf("job %+v", j)
	}
}

func TestApproval_IsGivenBySomebodyElseAndKept(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.policy(map[string]any{"id": "rp-asked", "name": "Asked", "approval_required": true})
	c := w.create(map[string]any{"common_name": "www.example.com", "renewal_policy_id": "rp-asked", "csr_pem": csrFor(t, "www.example.com")})
	if j := w.job(*c.JobID); c.Version != nil || j.Status != issuerapi.JobStatusAwaitingApproval || *j.RequestedBy != admin.ID {
		t.Fatalf("created %+v, job %+v", c, j)
	}
	w.refused(http.StatusBadRequest, http.MethodPost, "createCertificate", certificates,
		map[string]any{"common_name": "www.example.com", "renewal_policy_id": "rp-asked", "csr_pem": csrFor(t, "other.example.com")})
	approve, reject := "/api/v1/jobs/"+*c.JobID+"/approve", "/api/v1/jobs/"+*c.JobID+"/reject"
	if p := w.refused(http.StatusForbidden, http.MethodPost, "approveJob", approve, nil); !strings.Contains(p.Message, admin.ID) {
		t.Errorf("message %q", p.Message)
	}
	w.refused(http.StatusBadRequest, http.MethodPost, "rejectJob", reject, `{"reason":`)
	w.bySomebodyElse(func() {
		var s issuerapi.Status
		w.must(http.StatusOK, http.MethodPost, "approveJob", approve, map[string]any{"reason": "CHG-1"}, &s)
		if s.Status != "job_approved" {
			t.Errorf("status %q", s.Status)
		}
	})
	approved, message := hear(w, func(e event.JobApproved) bool { return e.JobID == *c.JobID })
	if approved.Reason != "CHG-1" || approved.RequestedBy != admin.ID || message.Actor != "key-second" || message.AggVersion == 0 {
		t.Errorf("told %+v", approved)
	}
	w.await("the certificate to be issued", func() bool { return w.certificate(c.ID).Status == issuerapi.CertificateStatusActive })
	j := w.job(*c.JobID)
	if *j.ApprovedBy != "key-second" || *j.ApprovalReason != "CHG-1" || j.ApprovedAt == nil || j.RejectedBy != nil {
		t.Errorf("job %+v", j)
	}
	p := w.refused(http.StatusBadRequest, http.MethodPost, "approveJob", approve, nil)
	if p.Message != "cannot approve job with status Completed (must be AwaitingApproval)" {
		t.Errorf("message %q", p.Message)
	}
	w.refused(http.StatusNotFound, http.MethodPost, "approveJob", "/api/v1/jobs/job-i-none/approve", nil)
}

func TestApproval_ThatIsRefusedCancelsTheJobAndKeepsTheReason(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	c := w.create(map[string]any{"common_name": "www.example.com", "csr_pem": csrFor(t, "www.example.com")})
	w.setPolicy("rp-default", map[string]any{"approval_required": true})
	renewal := w.renew(c.ID, nil)
	if now := w.certificate(c.ID); now.Status != issuerapi.CertificateStatusRenewalInProgress || !strings.Contains(*now.StatusReason, "approve") {
		t.Errorf("certificate %+v", now)
	}
	path := "/api/v1/jobs/" + renewal.JobID + "/reject"
	w.as = authn.Principal{ID: "key-web", Kind: authn.KindUser, Scope: authn.Scope{Teams: []string{"t-web"}}}
	w.refused(http.StatusNotFound, http.MethodPost, "rejectJob", path, nil)
	w.refused(http.StatusNotFound, http.MethodPost, "approveJob", "/api/v1/jobs/"+renewal.JobID+"/approve", nil)
	w.as = admin
	w.bySomebodyElse(func() {
		var s issuerapi.Status
		w.must(http.StatusOK, http.MethodPost, "rejectJob", path, map[string]any{"reason": "not now"}, &s)
		if s.Status != "job_rejected" {
			t.Errorf("status %q", s.Status)
		}
	})
	j := w.job(renewal.JobID)
	if j.Status != issuerapi.JobStatusCancelled || *j.LastError != "rejected: not now" || *j.RejectedBy != "key-second" || j.CompletedAt == nil {
		t.Errorf("job %+v", j)
	}
	if now := w.certificate(c.ID); now.Status != issuerapi.CertificateStatusActive {
		t.Errorf("certificate %+v", now)
	}
	hear(w, func(e event.JobRejected) bool { return e.JobID == renewal.JobID && e.Reason == "not now" })
}
