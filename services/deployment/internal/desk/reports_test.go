package desk_test

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/deployment/internal/outgoing"
)

// deploying is a world with one deployment on its way.
func deploying(t *testing.T) (*world, host, command.AgentCommand) {
	t.Helper()
	w := newWorld(t)
	a := w.host("agent-a")
	w.target("tgt-1", a)
	w.hear(message(issued("mc-1", "cv-1", 0, "tgt-1"), 1))
	return w, a, w.orders()[0].command
}

func served(fingerprint string) func(*command.AgentReport) {
	return func(r *command.AgentReport) { r.ServedFingerprintSHA256, r.DurationMillis = fingerprint, 42 }
}

func because(reason string, permanent bool) func(*command.AgentReport) {
	return func(r *command.AgentReport) { r.Error, r.Permanent = reason, permanent }
}

func (w *world) kinds() []string {
	w.Helper()
	var kinds []string
	for _, s := range w.events() {
		var parts [3]string
		n := 0
		for _, c := range s {
			if c == '.' {
				n++
				continue
			}
			parts[n] += string(c)
		}
		kinds = append(kinds, parts[0]+"."+parts[2])
	}
	return kinds
}

func TestReport_StartedThenCompleted(t *testing.T) {
	w, a, o := deploying(t)
	w.told(a.answer(o, command.OutcomeStarted))
	if j := w.jobs()[0]; j.Status != "Running" {
		t.Fatalf("job is %s, want Running", j.Status)
	}
	done := a.answer(o, command.OutcomeCompleted, served("f-cv-1"))
	w.told(done)
	w.told(done, a.answer(o, command.OutcomeStarted), a.answer(o, command.OutcomeFailed, because("late", true)))
	if j := w.jobs()[0]; j.Status != "Completed" || j.Error != "" {
		t.Fatalf("job: %+v", j)
	}
	if diff := cmp.Diff([]string{"deployment.started", "deployment.completed"}, w.kinds()); diff != "" {
		t.Error(diff)
	}
	got := last[event.DeploymentCompleted](w)
	want := event.DeploymentCompleted{
		Deployment:              event.Deployment{JobID: o.JobID, CertificateID: "mc-1", VersionID: "cv-1", TargetID: "tgt-1", AgentID: "agent-a", Attempt: 1, FingerprintSHA256: "f-cv-1"},
		ServedFingerprintSHA256: "f-cv-1", DurationMillis: 42,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if n := one[int](w, `SELECT count(*) FROM agent_work WHERE body IS NOT NULL OR deadline IS NOT NULL`); n != 0 {
		t.Error("the closed order is kept whole")
	}
}

func TestReport_StartAndEndInOneBatchAndInAnyOrder(t *testing.T) {
	w, a, o := deploying(t)
	w.told(a.answer(o, command.OutcomeCompleted), a.answer(o, command.OutcomeStarted))
	if j := w.jobs()[0]; j.Status != "Completed" {
		t.Fatalf("job is %s", j.Status)
	}
	if diff := cmp.Diff([]string{"deployment.completed"}, w.kinds()); diff != "" {
		t.Error(diff)
	}
}

func TestReport_FailureIsTriedAgainUntilNoAttemptIsLeft(t *testing.T) {
	w, a, o := deploying(t)
	for attempt := 1; attempt <= 3; attempt++ {
		w.told(a.answer(o, command.OutcomeStarted), a.answer(o, command.OutcomeRolledBack, because("nginx -t failed", false)))
		w.sweep()
		if n := len(w.orders()); n != attempt {
			t.Fatalf("attempt %d: %d orders before the wait is over", attempt, n)
		}
		w.clock.Advance(time.Minute << (attempt - 1))
		w.sweep()
		if attempt < 3 {
			orders := w.orders()
			o = orders[len(orders)-1].command
			if o.Attempt != attempt+1 {
				t.Fatalf("got attempt %d, want %d", o.Attempt, attempt+1)
			}
		}
	}
	if j := w.jobs()[0]; j.Status != "Failed" || j.Attempts != 3 || j.Error != "nginx -t failed" {
		t.Errorf("job: %+v", j)
	}
	want := []string{
		"deployment.started", "deployment.rolledback", "deployment.started", "deployment.rolledback",
		"deployment.started", "deployment.rolledback", "deployment.failed",
	}
	if diff := cmp.Diff(want, w.kinds()); diff != "" {
		t.Error(diff)
	}
	revisions := one[[]int](w, `SELECT array_agg((headers->'ce-aggversion'->>0)::int ORDER BY id) FROM outbox WHERE stream = 'EVT'`)
	if !slices.IsSorted(revisions) || len(slices.Compact(revisions)) != len(want) {
		t.Errorf("revisions do not order the events: %v", revisions)
	}
}

func TestReport_PermanentFailureIsFinal(t *testing.T) {
	w, a, o := deploying(t)
	w.told(a.answer(o, command.OutcomeFailed, because("no such type\x00\n", true)))
	w.clock.Advance(24 * time.Hour)
	w.sweep()
	if j := w.jobs()[0]; j.Status != "Failed" || j.Attempts != 1 || j.Error != "no such type" || len(w.orders()) != 1 {
		t.Errorf("job: %+v", j)
	}
}

func TestReport_OfAnotherCertificateServedIsAFailure(t *testing.T) {
	w, a, o := deploying(t)
	w.told(a.answer(o, command.OutcomeCompleted, served("f-other")))
	if j := w.jobs()[0]; j.Status != "Pending" || j.Error != "the target serves f-other, not f-cv-1" {
		t.Errorf("job: %+v", j)
	}
}

func TestReport_OfAnEarlierAttemptChangesNothing(t *testing.T) {
	w, a, first := deploying(t)
	w.told(a.answer(first, command.OutcomeFailed, because("no luck", false)))
	w.clock.Advance(time.Minute)
	w.sweep()
	w.told(a.answer(first, command.OutcomeFailed, because("once more", true)))
	if j := w.jobs()[0]; j.Status != "Pending" || j.Attempts != 2 || j.Error != "no luck" {
		t.Errorf("job: %+v", j)
	}
}

func TestReport_CSRIsHandedOnOnce(t *testing.T) {
	w := newWorld(t)
	a := w.host("agent-a")
	w.hear(message(keyRequested("job-i-1", 1, "agent-a"), 1))
	o := w.orders()[0].command
	csr := a.answer(o, command.OutcomeCSR, func(r *command.AgentReport) { r.CSRPEM = "a request" })
	w.told(csr, a.answer(o, command.OutcomeCSR, func(r *command.AgentReport) { r.CSRPEM = "another" }))
	w.told(csr)
	if diff := cmp.Diff([]string{"csr.job-i-1.submitted"}, w.events()); diff != "" {
		t.Error(diff)
	}
	want := event.CSRSubmitted{CertificateID: "mc-1", JobID: "job-i-1", Attempt: 1, AgentID: "agent-a", CSRPEM: "a request"}
	if diff := cmp.Diff(want, last[event.CSRSubmitted](w)); diff != "" {
		t.Error(diff)
	}
}

func TestReport_CSRFailureIsHandedOn(t *testing.T) {
	w := newWorld(t)
	a := w.host("agent-a")
	w.hear(message(keyRequested("job-i-1", 1, "agent-a"), 1), message(keyRequested("job-i-2", 1, "agent-a"), 1))
	for _, o := range w.orders() {
		if o.command.JobID == "job-i-1" {
			w.told(a.answer(o.command, command.OutcomeFailed, because("disk full", false)))
		} else {
			w.told(a.answer(o.command, command.OutcomeCSR))
		}
	}
	if diff := cmp.Diff([]string{"csr.job-i-1.failed", "csr.job-i-2.failed"}, w.events()); diff != "" {
		t.Error(diff)
	}
}

// What is forged has no effect, and never takes what is honest down with it: the bus
// delivers a refused batch one by one.
func TestReport_ForgedOrForeignIsRefused(t *testing.T) {
	w, a, o := deploying(t)
	b := w.host("agent-b")
	retired := w.host("agent-r")
	w.exec(`UPDATE agents SET status = 'Retired', retired_at = now() WHERE id = 'agent-r'`)
	completed := command.AgentReport{JobID: o.JobID, Attempt: 1, AgentID: a.id, Verb: o.Verb, Outcome: command.OutcomeCompleted}
	byB, noJob, wrongVerb, wrongOutcome := completed, completed, completed, completed
	byB.AgentID, noJob.JobID, wrongVerb.Verb, wrongOutcome.Outcome = b.id, "job-d-none", command.VerbKeyRequest, command.OutcomeCSR
	secondAttempt := completed
	secondAttempt.Attempt = 2
	on := func(site, agent, job string) string { return subject.AgentReport(site, agent, subject.KindDeploy, job) }
	own := on("site-local", a.id, o.JobID)
	altered := a.signed(own, completed)
	altered.Body = slices.Replace(altered.Body, 20, 21, altered.Body[21])
	for name, m := range map[string]bus.Message{
		"signed by another agent":         b.signed(own, completed),
		"another agent's job":             b.signed(on("site-local", b.id, o.JobID), byB),
		"another agent's subject":         a.signed(on("site-local", b.id, o.JobID), completed),
		"another site's subject":          a.signed(on("site-other", a.id, o.JobID), completed),
		"another job's subject":           a.signed(on("site-local", a.id, "job-d-other"), completed),
		"a job that does not exist":       a.signed(on("site-local", a.id, "job-d-none"), noJob),
		"an attempt that was never made":  a.signed(own, secondAttempt),
		"an agent that does not exist":    a.signed(on("site-local", "agent-x", o.JobID), completed),
		"an agent that is retired":        retired.signed(on("site-local", retired.id, o.JobID), completed),
		"another verb":                    a.signed(own, wrongVerb),
		"an outcome that makes no sense":  a.signed(own, wrongOutcome),
		"altered on the way":              altered,
		"not signed":                      {ID: "rep-1", Subject: own, Body: []byte(`{"payload":"e30=","signature":"AAAA"}`)},
		"no JSON":                         {ID: "rep-2", Subject: own, Body: []byte("completed")},
		"a subject that names no agent":   {ID: "rep-3", Subject: "certctl.agent.evt.site-local", Body: []byte("{}")},
		"the signature of another domain": commandSigned(t, w, own, completed),
	} {
		err := w.in(w.desk.Reports, m)
		if fault.VerdictOf(err) != fault.Term {
			t.Errorf("%s: got %v, want a refusal for good", name, err)
		}
	}
	if j := w.jobs()[0]; j.Status != "Pending" || len(w.events()) != 0 {
		t.Errorf("a forged report had an effect: %+v, %v", j, w.events())
	}
	w.told(a.signed(own, completed))
	if j := w.jobs()[0]; j.Status != "Completed" {
		t.Errorf("job is %s", j.Status)
	}
}

// commandSigned bears the platform's signature over a report.
func commandSigned(t *testing.T, w *world, on string, r command.AgentReport) bus.Message {
	t.Helper()
	body, err := w.key.Sign(command.AgentCommand{JobID: r.JobID, Attempt: r.Attempt, AgentID: r.AgentID, Verb: r.Verb}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return bus.Message{ID: "rep-4", Subject: on, Body: body}
}

func TestReport_EffectAndEventsCommitTogether(t *testing.T) {
	w, a, o := deploying(t)
	crash := errors.New("crash before the commit")
	err := pg.InTx(w.Context(), w.db, func(tx pgx.Tx) error {
		if err := w.desk.Reports(w.Context(), tx, []bus.Message{a.answer(o, command.OutcomeCompleted)}); err != nil {
			return err
		}
		return crash
	})
	if !errors.Is(err, crash) {
		t.Fatal(err)
	}
	if j := w.jobs()[0]; j.Status != "Pending" || len(w.events()) != 0 {
		t.Fatalf("half of it stayed: %+v, %v", j, w.events())
	}
	w.told(a.answer(o, command.OutcomeCompleted))
	if j := w.jobs()[0]; j.Status != "Completed" || len(w.events()) != 1 {
		t.Errorf("%+v, %v", j, w.events())
	}
}

func TestReport_OfAnOlderVersionInstalledLastBringsTheNewestBack(t *testing.T) {
	w, a, old := deploying(t)
	w.hear(message(event.CertificateRenewed{CertificateIssued: issued("mc-1", "cv-2", 1, "tgt-1")}, 2))
	renewed := w.orders()[1].command
	w.told(a.answer(renewed, command.OutcomeStarted), a.answer(renewed, command.OutcomeCompleted))
	late := a.answer(old, command.OutcomeCompleted)
	w.told(late)
	w.told(late, a.answer(old, command.OutcomeCompleted))
	orders := w.orders()
	if len(orders) != 3 {
		t.Fatalf("%d orders, want the newest version ordered once more", len(orders))
	}
	var again command.Deploy
	if err := json.Unmarshal(orders[2].command.Body, &again); err != nil || again.VersionID != "cv-2" || orders[2].command.JobID == renewed.JobID {
		t.Errorf("%v, %+v", err, orders[2].command)
	}
	w.told(a.answer(orders[2].command, command.OutcomeCompleted))
	if n := one[int](w, `SELECT count(*) FROM jobs WHERE status = 'Completed' AND version_id = 'cv-2'`); n != 2 {
		t.Errorf("%d jobs of the newest version are done, want 2", n)
	}
}

func TestCancel_EndsJobAndOrder(t *testing.T) {
	w, a, o := deploying(t)
	cancel := func() error {
		return pg.InTx(w.Context(), w.db, func(tx pgx.Tx) error { return w.desk.Cancel(w.Context(), tx, o.JobID, "cancelled by alice") })
	}
	if err := cancel(); err != nil {
		t.Fatal(err)
	}
	w.told(a.answer(o, command.OutcomeCompleted))
	w.clock.Advance(time.Hour)
	w.sweep()
	if j := w.jobs()[0]; j.Status != "Cancelled" || j.Error != "cancelled by alice" || len(w.orders()) != 1 {
		t.Errorf("job: %+v", j)
	}
	if err := cancel(); fault.CodeOf(err) != fault.Conflict {
		t.Errorf("cancelling again: %v, want a conflict", err)
	}
}

func TestWithdraw_FailsAllThatAnAgentOwes(t *testing.T) {
	w, _, _ := deploying(t)
	w.hear(message(keyRequested("job-i-1", 1, "agent-a"), 1))
	err := pg.InTx(w.Context(), w.db, func(tx pgx.Tx) error {
		return w.desk.Withdraw(w.Context(), tx, "agent-a", "agent agent-a was retired", outgoing.Cause{})
	})
	if err != nil {
		t.Fatal(err)
	}
	if j := w.jobs()[0]; j.Status != "Failed" || j.Error != "agent agent-a was retired" {
		t.Errorf("job: %+v", j)
	}
	kinds := w.kinds()
	slices.Sort(kinds)
	if diff := cmp.Diff([]string{"csr.failed", "deployment.failed"}, kinds); diff != "" {
		t.Error(diff)
	}
}
