package work_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/contracts/command"
)

// responder remembers what it is told, and fails as a test likes.
type responder struct {
	did  []string
	fail error
}

func (r *responder) Show(_ context.Context, answers []command.HTTP01Answer, _ time.Time) error {
	r.did = append(r.did, "show "+answers[0].Token)
	return r.fail
}

func (r *responder) Hide(answers []command.HTTP01Answer) error {
	r.did = append(r.did, "hide "+answers[0].Token)
	return r.fail
}

func TestHTTP01_IsShownAndTakenBackOnce(t *testing.T) {
	b := newBench(t)
	told := &responder{}
	b.Responder = told
	body := command.HTTP01{Answers: []command.HTTP01Answer{{Token: "a"}}, Until: now.Add(time.Minute)}
	show := b.order(command.VerbHTTP01, "job-h-1", 1, body)
	body.Withdraw = true
	hide := b.order(command.VerbHTTP01, "job-h-1", 2, body)
	for range 2 {
		if r := b.do(show); r.Outcome != command.OutcomeCompleted {
			t.Errorf("report %+v", r)
		}
	}
	if r := b.do(hide); r.Outcome != command.OutcomeCompleted {
		t.Errorf("report %+v", r)
	}
	if did := strings.Join(told.did, ", "); did != "show a, hide a" {
		t.Errorf("it did %s", did)
	}
}

func TestHTTP01_ThatWasTakenBackFirstIsNotShown(t *testing.T) {
	b := newBench(t)
	told := &responder{}
	b.Responder = told
	body := command.HTTP01{Answers: []command.HTTP01Answer{{Token: "a"}}}
	show := b.order(command.VerbHTTP01, "job-h-1", 1, body)
	body.Withdraw = true
	b.do(b.order(command.VerbHTTP01, "job-h-1", 2, body))
	if err := b.Do(t.Context(), show); err != nil {
		t.Fatal(err)
	}
	if did := strings.Join(told.did, ", "); did != "hide a" {
		t.Errorf("it did %s", did)
	}
}

func TestHTTP01_ThatCannotBeShownFailsForGood(t *testing.T) {
	b := newBench(t)
	order := b.order(command.VerbHTTP01, "job-h-1", 1, command.HTTP01{Answers: []command.HTTP01Answer{{Token: "a"}}})
	if r := b.do(order); r.Outcome != command.OutcomeFailed || !strings.Contains(r.Error, "does not know") {
		t.Errorf("without a responder: %+v", r)
	}
	b.Responder = &responder{fail: errors.New("port 80 is taken")}
	order = b.order(command.VerbHTTP01, "job-h-2", 1, command.HTTP01{Answers: []command.HTTP01Answer{{Token: "a"}}})
	if r := b.do(order); r.Outcome != command.OutcomeFailed || !r.Permanent || r.Error != "port 80 is taken" {
		t.Errorf("report %+v", r)
	}
}
