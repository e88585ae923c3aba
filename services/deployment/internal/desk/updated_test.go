package desk_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/bus"
)

// updated is a change of a certificate's record, which has these targets now.
func updated(targets ...string) event.CertificateUpdated {
	return event.CertificateUpdated{
		CertificateID: "mc-1", CommonName: "www.example.org", IssuerID: "iss-local", OwnerID: "o-default", TeamID: "t-default",
		TargetIDs: targets, Changes: event.Changes{"target_ids": {}},
	}
}

func (w *world) statuses() map[string]string {
	w.Helper()
	out := map[string]string{}
	for _, j := range w.jobs() {
		out[j.Target+" "+j.Version] = j.Status
	}
	return out
}

func TestUpdated_DeploysTheNewestVersionToATargetThatIsAdded(t *testing.T) {
	w := newWorld(t)
	a := w.host("agent-a")
	w.target("tgt-1", a)
	w.target("tgt-2", a)
	w.hear(message(issued("mc-1", "cv-1", 0, "tgt-1"), 2))
	w.told(a.answer(w.orders()[0].command, command.OutcomeCompleted, served("f-cv-1")))
	e := updated("tgt-1", "tgt-2")
	e.Newest = issued("mc-1", "cv-1", 0).Version
	change := message(e, 5)
	again := change
	again.ID = "ev-again"
	w.hear(change)
	w.hear(again)
	want := map[string]string{"tgt-1 cv-1": "Completed", "tgt-2 cv-1": "Pending"}
	if d := cmp.Diff(want, w.statuses()); d != "" || len(w.orders()) != 2 {
		t.Errorf("%d orders\n%s", len(w.orders()), d)
	}
}

func TestUpdated_DeploysToTheFirstTargetOfACertificateThatHadNone(t *testing.T) {
	w := newWorld(t)
	w.target("tgt-1", w.host("agent-a"))
	w.hear(message(issued("mc-1", "cv-1", 0), 2))
	e := updated("tgt-1")
	e.Newest, e.KeyAgentID = issued("mc-1", "cv-1", 0).Version, "agent-a"
	w.hear(message(e, 3))
	want := map[string]string{"tgt-1 cv-1": "Pending"}
	if d := cmp.Diff(want, w.statuses()); d != "" {
		t.Error(d)
	}
	if got := one[string](w, `SELECT team_id FROM certificates`); got != "t-default" {
		t.Errorf("team %q", got)
	}
}

func TestUpdated_CallsOffWhatIsOnItsWayToATargetThatIsDropped(t *testing.T) {
	w := newWorld(t)
	a := w.host("agent-a")
	w.target("tgt-1", a)
	w.target("tgt-2", a)
	w.hear(message(issued("mc-1", "cv-1", 0, "tgt-1", "tgt-2"), 2))
	w.hear(message(updated("tgt-1"), 3))
	want := map[string]string{"tgt-1 cv-1": "Pending", "tgt-2 cv-1": "Cancelled"}
	if d := cmp.Diff(want, w.statuses()); d != "" {
		t.Error(d)
	}
	if open := one[int](w, `SELECT count(*) FROM agent_work WHERE closed_at IS NULL`); open != 1 {
		t.Errorf("%d orders are open", open)
	}
	w.hear(message(updated(), 4))
	if n := one[int](w, `SELECT count(*) FROM certificates WHERE target_ids <> '{}'`); n != 0 {
		t.Error("a target is still in use")
	}
}

// Whatever the order in which the news come, the same is known in the end.
func TestUpdated_InAnyOrderLeadsToTheSame(t *testing.T) {
	requested := message(event.CertificateRequested{
		CertificateID: "mc-1", CommonName: "www.example.org", IssuerID: "iss-local", TeamID: "t-old", Environment: "test", TargetIDs: []string{"tgt-1"},
	}, 1)
	e := updated("tgt-1", "tgt-2")
	e.TeamID, e.Environment = "t-new", "prod"
	e.Newest = issued("mc-1", "cv-1", 0).Version
	e.Changes = event.Changes{"team_id": {Before: "t-old", After: "t-new"}, "environment": {Before: "test", After: "prod"}, "target_ids": {}}
	change := message(e, 3)
	first := message(issued("mc-1", "cv-1", 0, "tgt-1"), 2)
	renewed := message(event.CertificateRenewed{CertificateIssued: issued("mc-1", "cv-2", 1, "tgt-1", "tgt-2")}, 4)
	for name, batches := range map[string][][]bus.Message{
		"in order":           {{requested}, {first}, {change}, {renewed}},
		"together":           {{renewed, change, first, requested}},
		"backwards":          {{renewed}, {change}, {first}, {requested}},
		"the change last":    {{requested}, {first}, {renewed}, {change}},
		"the change first":   {{change}, {requested}, {first}, {renewed}},
		"the request behind": {{first}, {change}, {requested}, {renewed}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			a := w.host("agent-a")
			w.target("tgt-1", a)
			w.target("tgt-2", a)
			for _, b := range batches {
				w.hear(b...)
			}
			got := one[string](w, `SELECT concat_ws(' ', team_id, environment, target_ids, version_id, revision) FROM certificates`)
			if want := "t-new prod {tgt-1,tgt-2} cv-2 4"; got != want {
				t.Errorf("known: %s, want %s", got, want)
			}
			open := one[string](w, `SELECT string_agg(target_id || ' ' || version_id, ', ' ORDER BY target_id) FROM jobs WHERE status = 'Pending'`)
			if want := "tgt-1 cv-2, tgt-2 cv-2"; open != want {
				t.Errorf("on their way: %s, want %s", open, want)
			}
		})
	}
}
