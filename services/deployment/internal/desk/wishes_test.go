package desk_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/deployment/internal/outgoing"
	"github.com/certctl/certctl/services/deployment/internal/postgres"
)

// wished is that somebody wants a version on targets.
func wished(of event.CertificateIssued, targets ...string) event.CertificateDeploymentRequested {
	return event.CertificateDeploymentRequested{
		CertificateID: of.CertificateID, IssuerID: of.IssuerID, CommonName: of.CommonName, TargetIDs: targets,
		KeyAgentID: of.KeyAgentID, RequestedBy: "key-ops", Version: of.Version,
	}
}

// finish has an agent report the newest order done.
func (w *world) finish(a host) command.AgentCommand {
	w.Helper()
	orders := w.orders()
	newest := orders[len(orders)-1].command
	w.told(a.answer(newest, command.OutcomeCompleted))
	return newest
}

// states lists the versions of the jobs of a target and what became of them, oldest first.
func (w *world) states(target string) []string {
	w.Helper()
	return one[[]string](w, `SELECT array_agg(version_id || ' ' || status ORDER BY created_at, id) FROM jobs WHERE target_id = $1`, target)
}

var (
	first  = issued("mc-1", "cv-1", 0, "tgt-1", "tgt-2")
	second = event.CertificateRenewed{CertificateIssued: issued("mc-1", "cv-2", 24, "tgt-1", "tgt-2")}
)

// renewed is a world in which the second version is served by two targets.
func renewed(t *testing.T) (*world, host) {
	t.Helper()
	w := newWorld(t)
	a := w.host("agent-a")
	w.target("tgt-1", a)
	w.target("tgt-2", a)
	for i, e := range []event.Event{first, second} {
		w.hear(message(e, int64(i+2)))
		orders := w.orders()
		for _, o := range orders[len(orders)-2:] {
			w.told(a.answer(o.command, command.OutcomeCompleted))
		}
		w.clock.Advance(time.Second)
	}
	return w, a
}

func TestWish_PutsAnOlderVersionInThePlaceOfTheNewest(t *testing.T) {
	w, a := renewed(t)
	w.hear(message(wished(first, "tgt-1"), 5))
	o := w.finish(a)
	if got := w.states("tgt-1"); !cmp.Equal(got, []string{"cv-1 Completed", "cv-2 Completed", "cv-1 Completed"}) {
		t.Errorf("%v", got)
	}
	if got := w.states("tgt-2"); len(got) != 2 {
		t.Errorf("a target that nobody spoke of: %v", got)
	}
	if e := last[event.DeploymentCompleted](w); e.VersionID != "cv-1" || e.TargetID != "tgt-1" || e.JobID != o.JobID {
		t.Errorf("%+v", e)
	}
}

func TestWish_DeploysAgainWhatIsServedAlreadyAndOnceAtATime(t *testing.T) {
	w, _ := renewed(t)
	w.hear(message(wished(second.CertificateIssued, "tgt-1"), 5))
	w.hear(message(wished(second.CertificateIssued, "tgt-1"), 6))
	if got := w.states("tgt-1"); !cmp.Equal(got, []string{"cv-1 Completed", "cv-2 Completed", "cv-2 Pending"}) {
		t.Errorf("%v", got)
	}
}

func TestWish_TakesThePlaceOfWhatIsOnItsWay(t *testing.T) {
	w, a := renewed(t)
	third := event.CertificateRenewed{CertificateIssued: issued("mc-1", "cv-3", 48, "tgt-1", "tgt-2")}
	w.hear(message(third, 4))
	w.clock.Advance(time.Second)
	w.hear(message(wished(second.CertificateIssued, "tgt-1"), 5))
	if got := w.states("tgt-1"); !cmp.Equal(got[2:], []string{"cv-3 Cancelled", "cv-2 Pending"}) {
		t.Errorf("%v", got)
	}
	if got := w.states("tgt-2"); !cmp.Equal(got[2:], []string{"cv-3 Pending"}) {
		t.Errorf("the other target: %v", got)
	}
	if why := one[string](w, `SELECT last_error FROM jobs WHERE status = 'Cancelled'`); !strings.Contains(why, "key-ops") {
		t.Errorf("cancelled because %q", why)
	}
	// The agent has installed the third version all the same, and tells of it last.
	orders := w.orders()
	back := w.finish(a)
	for _, o := range orders {
		var job jobRow
		for _, j := range w.jobs() {
			if j.ID == o.command.JobID {
				job = j
			}
		}
		if job.Version == "cv-3" && job.Target == "tgt-1" {
			w.told(a.answer(o.command, command.OutcomeCompleted))
		}
	}
	if got := w.states("tgt-1"); got[len(got)-1] != "cv-2 Pending" || len(got) != 5 {
		t.Errorf("what was asked for is not brought back after %s: %v", back.JobID, got)
	}
}

func TestWish_OfWhatWasNeverHeardOfBringsTheVersionAlong(t *testing.T) {
	w := newWorld(t)
	a := w.host("agent-a")
	w.target("tgt-1", a)
	w.hear(message(wished(first, "tgt-1"), 7))
	if w.finish(a); !cmp.Equal(w.states("tgt-1"), []string{"cv-1 Completed"}) {
		t.Errorf("%v", w.states("tgt-1"))
	}
}

func TestWish_CountsAsTheIssuerNumberedItInWhateverOrderItIsHeard(t *testing.T) {
	newest := message(second, 3)
	back := message(wished(first, "tgt-1", "tgt-2"), 4)
	forward := message(wished(second.CertificateIssued, "tgt-2"), 5)
	for name, order := range map[string][]bus.Message{
		"in order":          {newest, back, forward},
		"backwards":         {forward, back, newest},
		"wishes first":      {back, forward, newest},
		"version in middle": {forward, newest, back},
		"each twice":        {back, newest, back, forward, newest, forward},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			a := w.host("agent-a")
			w.target("tgt-1", a)
			w.target("tgt-2", a)
			w.hear(message(first, 2))
			for _, m := range order {
				w.clock.Advance(time.Second)
				w.hear(m)
			}
			for target, want := range map[string]string{"tgt-1": "cv-1", "tgt-2": "cv-2"} {
				open := one[[]string](w, `SELECT array_agg(version_id) FROM jobs WHERE target_id = $1 AND status = 'Pending'`, target)
				if !cmp.Equal(open, []string{want}) {
					t.Errorf("%s is to get %v, want %s", target, open, want)
				}
			}
		})
	}
}

func TestWish_OfAnArchivedCertificateIsNotGranted(t *testing.T) {
	w, _ := renewed(t)
	before := len(w.jobs())
	w.hear(message(event.CertificateArchived{CertificateID: "mc-1"}, 5))
	w.hear(message(wished(first, "tgt-1"), 6))
	if n := len(w.jobs()); n != before {
		t.Errorf("%d jobs more", n-before)
	}
}

func TestUpdated_GivesATargetThatWasAddedWhatWasWishedForItSince(t *testing.T) {
	w, _ := renewed(t)
	w.target("tgt-3", host{id: "agent-a"})
	w.hear(message(wished(first, "tgt-3"), 6))
	w.hear(message(event.CertificateUpdated{CertificateID: "mc-1", TargetIDs: []string{"tgt-1", "tgt-2", "tgt-3"}}, 5))
	if got := w.states("tgt-3"); !cmp.Equal(got, []string{"cv-1 Pending"}) {
		t.Errorf("%v", got)
	}
}

// again has a job done again, as a person would.
func (w *world) again(jobID string) (id string, err error) {
	err = pg.InTx(w.Context(), w.db, func(tx pgx.Tx) error {
		j, err := postgres.ReadJob(w.Context(), tx, jobID, authn.Scope{})
		if err != nil {
			return err
		}
		id, err = w.desk.Again(w.Context(), tx, &j.Job, outgoing.Cause{Actor: "key-ops"})
		return err
	})
	return id, err
}

func TestRetry_MakesANewJobAndLeavesTheFailedOneAsItEnded(t *testing.T) {
	w, a, o := deploying(t)
	if _, err := w.again(o.JobID); fault.CodeOf(err) != fault.Conflict {
		t.Errorf("a job on its way: %v", err)
	}
	w.told(a.answer(o, command.OutcomeFailed, because("no such folder", true)))
	w.clock.Advance(time.Second)
	again, err := w.again(o.JobID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.again(o.JobID); fault.CodeOf(err) != fault.Conflict || !strings.Contains(err.Error(), again) {
		t.Errorf("done again twice: %v", err)
	}
	if done := w.finish(a); done.JobID != again || done.Attempt != 1 {
		t.Errorf("order %+v", done)
	}
	want := []jobRow{
		{ID: o.JobID, Version: "cv-1", Target: "tgt-1", Agent: "agent-a", Status: "Failed", Attempts: 1, Error: "no such folder"},
		{ID: again, Version: "cv-1", Target: "tgt-1", Agent: "agent-a", Status: "Completed", Attempts: 1},
	}
	if diff := cmp.Diff(want, w.jobs()); diff != "" {
		t.Error(diff)
	}
	if n := one[int](w, `SELECT count(*) FROM jobs WHERE completed_at IS NOT NULL AND started_at IS NOT NULL AND id = $1`, again); n != 1 {
		t.Error("the new job has no times")
	}
	if _, err := w.again(again); fault.CodeOf(err) != fault.Conflict {
		t.Errorf("a job that is done: %v", err)
	}
}

func TestRetry_IsRefusedWhereItMakesNoSense(t *testing.T) {
	for name, tt := range map[string]struct {
		happens func(*world)
		says    string
	}{
		"newer version": {func(w *world) { w.hear(message(second, 3)) }, "has taken the place"},
		"archived":      {func(w *world) { w.hear(message(event.CertificateArchived{CertificateID: "mc-1"}, 3)) }, "archived"},
		"moved away": {func(w *world) {
			w.hear(message(event.CertificateUpdated{CertificateID: "mc-1", TargetIDs: []string{"tgt-2"}}, 3))
		}, "not installed on target tgt-1 any more"},
		"switched off": {func(w *world) { w.exec(`UPDATE targets SET enabled = false`) }, "disabled"},
		"expired":      {func(w *world) { w.clock.Set(first.NotAfter) }, "expired"},
	} {
		t.Run(name, func(t *testing.T) {
			w, a, o := deploying(t)
			w.told(a.answer(o, command.OutcomeFailed, because("no", true)))
			w.clock.Advance(time.Second)
			tt.happens(w)
			if _, err := w.again(o.JobID); fault.CodeOf(err) != fault.Conflict || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v, want %q", err, tt.says)
			}
		})
	}
}

func TestReport_OnAJobThatHasEndedOverwritesNothing(t *testing.T) {
	w, a, o := deploying(t)
	w.told(a.answer(o, command.OutcomeFailed, because("no", true)))
	told := len(w.events())
	for _, outcome := range []string{command.OutcomeStarted, command.OutcomeCompleted, command.OutcomeFailed, command.OutcomeRolledBack} {
		w.told(a.answer(o, outcome))
	}
	if j := w.jobs()[0]; j.Status != "Failed" || j.Error != "no" || len(w.events()) != told {
		t.Errorf("%+v, %v", j, w.events())
	}
	if err := w.in(w.desk.Reports, a.answer(o, "Banana")); fault.CodeOf(err) != fault.Invalid {
		t.Errorf("an outcome that does not exist: %v", err)
	}
}
