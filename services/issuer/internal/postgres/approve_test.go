package postgres_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
)

func TestApproval_HoldsIssuanceAndRenewalForSomebodyElse(t *testing.T) {
	e := newEngine(t)
	e.policy("rp-asked", "approval_required = true")
	other := somebody
	other.ID = "key-2"
	r := signed(t)
	r.RenewalPolicyID = "rp-asked"
	created := e.create(r)
	j := e.job(created.Job.ID)
	if created.Version != nil || j.Status != issuance.JobAwaitingApproval || e.ca.asked != 0 || !strings.Contains(created.Certificate.StatusReason, "waits for somebody to approve it") {
		t.Fatalf("created %+v, job %+v", created, j)
	}
	e.work()
	err := e.service.Approve(t.Context(), somebody, issuance.Origin{Actor: somebody.ID}, j.ID, "")
	if fault.CodeOf(err) != fault.Forbidden {
		t.Errorf("the requester approves: %v", err)
	}
	if err := e.service.Approve(t.Context(), other, issuance.Origin{Actor: other.ID}, j.ID, "CHG-1"); err != nil {
		t.Fatal(err)
	}
	e.work()
	j = e.job(j.ID)
	if c := e.certificate(created.Certificate.ID); j.Status != issuance.JobCompleted || c.Status != issuance.Active || c.VersionID == "" {
		t.Errorf("job %+v, certificate %+v", j, c)
	}
	if j.ApprovedBy != "key-2" || j.ApprovalReason != "CHG-1" || !j.ApprovedAt.Equal(e.clock.Now()) || j.Origin.Actor != somebody.ID {
		t.Errorf("job %+v", j)
	}
	err = e.service.Approve(t.Context(), other, issuance.Origin{Actor: other.ID}, j.ID, "")
	if fault.CodeOf(err) != fault.Invalid || fault.From(err).Message != "cannot approve job with status Completed (must be AwaitingApproval)" {
		t.Errorf("approved twice: %v", err)
	}
	if diff := cmp.Diff([]string{"requested", "approved", "issued"}, e.eventsOf(created.Certificate.ID)); diff != "" {
		t.Error(diff)
	}
}

func TestApproval_RefusedOrLapsedLeavesTheCertificateAsItWas(t *testing.T) {
	e := newEngine(t)
	e.policy("rp-asked", "approval_required = true, approval_expires_after_hours = 2")
	e.hold(
		holder{id: "mc-rejected", policy: "rp-asked", issued: 70 * day, lifetime: 90 * day},
		holder{id: "mc-lapsed", policy: "rp-asked", issued: 70 * day, lifetime: 90 * day},
	)
	e.look()
	rejected, lapsed := e.renewals("mc-rejected")[0], e.renewals("mc-lapsed")[0]
	if rejected.Status != issuance.JobAwaitingApproval || e.certificate("mc-rejected").Status != issuance.RenewalInProgress {
		t.Fatalf("job %+v", rejected)
	}
	if err := e.service.Reject(t.Context(), somebody, issuance.Origin{Actor: somebody.ID}, rejected.ID, "not now"); err != nil {
		t.Fatal(err)
	}
	j := e.job(rejected.ID)
	if j.Status != issuance.JobCancelled || j.LastError != "rejected: not now" || j.RejectedBy != somebody.ID || j.ApprovedBy != "" || j.CompletedAt.IsZero() {
		t.Errorf("job %+v", j)
	}
	e.clock.Advance(2 * time.Hour)
	e.work()
	j = e.job(lapsed.ID)
	if j.Status != issuance.JobCancelled || j.LastError != "nobody approved it in time" || !j.StartedAt.IsZero() && j.Attempts > 0 {
		t.Errorf("job %+v", j)
	}
	e.look()
	for _, id := range []string{"mc-rejected", "mc-lapsed"} {
		if c := e.certificate(id); c.Status != issuance.Expiring || len(e.renewals(id)) != 1 {
			t.Errorf("certificate %+v", c)
		}
		if told := e.eventsOf(id); slices.Contains(told, "expiring 14") || strings.Count(strings.Join(told, ","), "expiring") != 1 {
			t.Errorf("told %v", told)
		}
	}
	e.clock.Advance(25 * time.Hour)
	e.look()
	if n := len(e.renewals("mc-rejected")); n != 2 {
		t.Errorf("%d renewals the next day", n)
	}
}

func TestApproval_OfARenewalByPolicyWaitsForTheMaintenanceWindow(t *testing.T) {
	e := newEngine(t)
	e.policy("rp-asked", `approval_required = true,
		maintenance_windows = '[{"weekdays":["Wed"],"start":"01:00","end":"03:00","time_zone":"UTC"}]'`)
	e.hold(holder{id: "mc-1", policy: "rp-asked", issued: 70 * day, lifetime: 90 * day})
	e.look()
	asked := e.renewals("mc-1")[0]
	if err := e.service.Approve(t.Context(), somebody, issuance.Origin{Actor: somebody.ID}, asked.ID, ""); err != nil {
		t.Fatal(err)
	}
	j := e.job(asked.ID)
	if want := time.Date(2026, 11, 25, 1, 0, 0, 0, time.UTC); j.Status != issuance.JobPending || !j.NextActionAt.Equal(want) {
		t.Errorf("job %+v", j)
	}
	if reason := e.certificate("mc-1").StatusReason; !strings.Contains(reason, "waits for its maintenance window") {
		t.Errorf("reason %q", reason)
	}
}

func TestApply_ChangesNoJobThatHasEnded(t *testing.T) {
	e := newEngine(t)
	created := e.create(signed(t))
	for _, status := range issuance.JobStatuses {
		if !status.Final() {
			continue
		}
		e.run(`UPDATE jobs SET status = $1, lease_token = 5`, string(status))
		change := issuance.Change{JobID: created.Job.ID, Token: 5, Status: issuance.JobPending, NextActionAt: e.clock.Now(), At: e.clock.Now()}
		if applied, err := e.store.Apply(t.Context(), []issuance.Change{change}); err != nil || len(applied) != 0 {
			t.Errorf("a job that is %s was changed: %v, error %v", status, applied, err)
		}
	}
}
