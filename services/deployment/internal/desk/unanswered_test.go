package desk_test

import (
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/contracts/command"
)

func TestOrder_UnansweredIsSentAgainAtGrowingIntervals(t *testing.T) {
	w, a, o := deploying(t)
	for i, wait := range []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute} {
		w.clock.Advance(wait - time.Second)
		w.sweep()
		if n := len(w.orders()); n != i+1 {
			t.Fatalf("%d orders before the deadline, want %d", n, i+1)
		}
		w.clock.Advance(time.Second)
		w.sweep()
		orders := w.orders()
		if len(orders) != i+2 {
			t.Fatalf("%d orders after the deadline, want %d", len(orders), i+2)
		}
		repeat := orders[i+1]
		if diff := cmp.Diff(o, repeat.command); diff != "" || repeat.messageID == orders[0].messageID {
			t.Fatalf("the repeat must be the same order under a new id: %s", diff)
		}
	}
	w.told(a.answer(o, command.OutcomeCompleted))
	w.clock.Advance(24 * time.Hour)
	w.sweep()
	if n := len(w.orders()); n != 5 {
		t.Errorf("an answered order was sent again: %d", n)
	}
}

func TestOrder_BegunIsLeftAloneForAWhile(t *testing.T) {
	w, a, o := deploying(t)
	w.told(a.answer(o, command.OutcomeStarted))
	w.clock.Advance(9 * time.Minute)
	w.sweep()
	if n := len(w.orders()); n != 1 {
		t.Fatalf("%d orders while the agent is at work", n)
	}
	w.clock.Advance(time.Minute)
	w.sweep()
	if n := len(w.orders()); n != 2 {
		t.Errorf("%d orders after the agent fell silent, want 2", n)
	}
}

func TestOrder_ExpiredGivesTheJobAnotherAttempt(t *testing.T) {
	w, _, _ := deploying(t)
	for attempt := 1; attempt <= 3; attempt++ {
		for range 60 {
			w.clock.Advance(3 * time.Hour)
			w.sweep()
		}
	}
	w.clock.Advance(24 * time.Hour)
	w.sweep()
	j := w.jobs()[0]
	if j.Status != "Failed" || j.Attempts != 3 || j.Error != "agent agent-a did not answer before the order expired" {
		t.Errorf("job: %+v", j)
	}
	if diff := cmp.Diff([]string{"deployment.failed"}, w.kinds()); diff != "" {
		t.Error(diff)
	}
	if n := one[int](w, `SELECT count(*) FROM agent_work WHERE closed_at IS NULL`); n != 0 {
		t.Errorf("%d orders are still open", n)
	}
}

func TestOrder_ForAKeyThatExpiredIsToldToTheIssuer(t *testing.T) {
	w := newWorld(t)
	w.host("agent-a")
	w.hear(message(keyRequested("job-i-1", 1, "agent-a"), 1))
	w.clock.Advance(time.Hour)
	w.sweep()
	if diff := cmp.Diff([]string{"csr.job-i-1.failed"}, w.events()); diff != "" {
		t.Error(diff)
	}
}

func TestJob_ThatIsDueFailsIfItsTargetIsGone(t *testing.T) {
	w, a, o := deploying(t)
	w.told(a.answer(o, command.OutcomeFailed, because("no luck", false)))
	w.exec(`DELETE FROM targets`)
	w.clock.Advance(time.Minute)
	w.sweep()
	if j := w.jobs()[0]; j.Status != "Failed" || j.Error != "there is no target tgt-1" {
		t.Errorf("job: %+v", j)
	}
}

func TestSweep_ByManyReplicasSendsEachOrderOnce(t *testing.T) {
	w := newWorld(t)
	a := w.host("agent-a")
	const jobs = 50
	for i := range jobs {
		target := "tgt-" + string(rune('a'+i%26)) + string(rune('a'+i/26))
		w.target(target, a)
		w.hear(message(issued("mc-"+target, "cv-"+target, 0, target), 1))
	}
	for _, o := range w.orders() {
		w.told(a.answer(o.command, command.OutcomeFailed, because("no luck", false)))
	}
	w.clock.Advance(time.Minute)
	var replicas sync.WaitGroup
	for range 4 {
		replicas.Go(func() {
			for {
				n, err := w.desk.Dispatch(w.Context())
				if err != nil {
					w.Errorf("dispatch: %v", err)
				}
				if n == 0 {
					return
				}
			}
		})
	}
	replicas.Wait()
	if n := len(w.orders()); n != 2*jobs {
		t.Errorf("%d orders in all, want %d", n, 2*jobs)
	}
}
