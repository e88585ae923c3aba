package desk_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/deployment/internal/outgoing"
)

func (w *world) validate(target string) (ids []string, err error) {
	err = pg.InTx(w.Context(), w.db, func(tx pgx.Tx) error {
		ids, err = w.desk.Validate(w.Context(), tx, "mc-1", target, outgoing.Cause{Actor: "key-ops"})
		return err
	})
	return ids, err
}

// asked makes one validation of a target and returns the order that its agent gets.
func (w *world) asked(target string) command.AgentCommand {
	w.Helper()
	ids, err := w.validate(target)
	if err != nil || len(ids) != 1 {
		w.Fatalf("%v, %v", ids, err)
	}
	orders := w.orders()
	o := orders[len(orders)-1].command
	if o.Verb != command.VerbVerify || o.JobID != ids[0] {
		w.Fatalf("order %+v", o)
	}
	return o
}

func (w *world) validation(jobID string) (status, why string) {
	w.Helper()
	return one[string](w, `SELECT status FROM jobs WHERE id = $1 AND type = 'Validation'`, jobID),
		one[string](w, `SELECT last_error FROM jobs WHERE id = $1`, jobID)
}

func TestValidation_TellsThatTheTargetServesWhatItShould(t *testing.T) {
	w, a := renewed(t)
	o := w.asked("tgt-1")
	var body command.Deploy
	if err := json.Unmarshal(o.Body, &body); err != nil || body.FingerprintSHA256 != "f-cv-2" || body.TargetType != "NGINX" {
		t.Errorf("order %+v, %v", body, err)
	}
	w.told(a.answer(o, command.OutcomeCompleted, served("f-cv-2")))
	if status, why := w.validation(o.JobID); status != "Completed" || why != "" {
		t.Errorf("%s: %s", status, why)
	}
	if e := last[event.DeploymentVerified](w); e.JobID != o.JobID || e.ServedFingerprintSHA256 != "f-cv-2" || e.VersionID != "cv-2" {
		t.Errorf("%+v", e)
	}
	if n := one[int](w, `SELECT count(*) FROM jobs WHERE id = $1 AND attempts = 1 AND started_at IS NOT NULL AND completed_at IS NOT NULL`, o.JobID); n != 1 {
		t.Error("the job has no times")
	}
}

func TestValidation_TellsWhatTheTargetServesInstead(t *testing.T) {
	w, a := renewed(t)
	for name, answer := range map[string]func(*command.AgentReport){
		"said by the agent": func(r *command.AgentReport) {
			r.Outcome, r.Permanent, r.Error, r.ServedFingerprintSHA256 = command.OutcomeFailed, true, "the target serves f-x, not f-cv-2", "f-x"
		},
		"seen by the hub": served("f-x"),
	} {
		t.Run(name, func(t *testing.T) {
			o := w.asked("tgt-1")
			w.told(a.answer(o, command.OutcomeCompleted, answer))
			if status, why := w.validation(o.JobID); status != "Failed" || !strings.Contains(why, "f-x") {
				t.Errorf("%s: %s", status, why)
			}
			if e := last[event.DeploymentDiverged](w); e.JobID != o.JobID || e.ServedFingerprintSHA256 != "f-x" {
				t.Errorf("%+v", e)
			}
		})
	}
	if slices.Contains(w.kinds(), "deployment.failed") {
		t.Error("a look at a target was told as a failed deployment")
	}
}

func TestValidation_ExpectsWhatWasLastToBeInstalled(t *testing.T) {
	w, a := renewed(t)
	w.hear(message(wished(first, "tgt-1"), 5))
	w.finish(a)
	ids, err := w.validate("")
	if err != nil || len(ids) != 2 {
		t.Fatalf("%v, %v", ids, err)
	}
	if got := one[[]string](w, `SELECT array_agg(target_id || ' ' || version_id ORDER BY target_id) FROM jobs WHERE type = 'Validation'`); !cmp.Equal(got, []string{"tgt-1 cv-1", "tgt-2 cv-2"}) {
		t.Errorf("%v", got)
	}
	// Asked again meanwhile, it is the same jobs.
	again, err := w.validate("")
	if err != nil || !cmp.Equal(again, ids) {
		t.Errorf("%v, %v, want %v", again, err, ids)
	}
}

func TestValidation_ByAnAgentThatIsAwayFailsSoon(t *testing.T) {
	w, _ := renewed(t)
	o := w.asked("tgt-1")
	w.clock.Advance(10 * time.Minute)
	w.sweep()
	if status, why := w.validation(o.JobID); status != "Failed" || !strings.Contains(why, "did not answer") {
		t.Errorf("%s: %s", status, why)
	}
	if e := last[event.DeploymentDiverged](w); e.JobID != o.JobID || e.ServedFingerprintSHA256 != "" {
		t.Errorf("%+v", e)
	}
	w.clock.Advance(time.Second)
	again, err := w.again(o.JobID)
	if err != nil {
		t.Fatal(err)
	}
	if status, _ := w.validation(again); status != "Pending" {
		t.Errorf("done again: %s", status)
	}
}

func TestValidation_IsRefusedWhereThereIsNothingToLookAt(t *testing.T) {
	w := newWorld(t)
	a := w.host("agent-a")
	w.target("tgt-1", a)
	w.hear(message(event.CertificateRequested{CertificateID: "mc-1", TargetIDs: []string{"tgt-1"}}, 1))
	if _, err := w.validate(""); fault.CodeOf(err) != fault.Conflict || !strings.Contains(err.Error(), "no version yet") {
		t.Errorf("before the first version: %v", err)
	}
	if _, err := w.validate("tgt-9"); fault.CodeOf(err) != fault.Invalid {
		t.Errorf("another target: %v", err)
	}
	w.hear(message(event.CertificateArchived{CertificateID: "mc-1"}, 2))
	if _, err := w.validate(""); fault.CodeOf(err) != fault.Conflict || !strings.Contains(err.Error(), "archived") {
		t.Errorf("archived: %v", err)
	}
}
