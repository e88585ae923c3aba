package rollout

import (
	"slices"
	"strings"
	"testing"
	"time"
)

var states = []Status{Pending, AwaitingCSR, AwaitingApproval, Running, Completed, Failed, Cancelled}

// The table of the package comment, and nothing else.
func TestJob_GoesOnlyWhereTheTableAllows(t *testing.T) {
	allowed := map[Status]string{
		Pending:          "Pending Running Completed Failed Cancelled",
		AwaitingCSR:      "",
		AwaitingApproval: "Pending Failed Cancelled",
		Running:          "Pending Completed Failed Cancelled",
		Completed:        "",
		Failed:           "",
		Cancelled:        "",
	}
	for _, from := range states {
		for _, to := range states {
			want := slices.Contains(strings.Fields(allowed[from]), string(to))
			if got := from.May(to); got != want {
				t.Errorf("%s -> %s: got %v, want %v", from, to, got, want)
			}
		}
		if got, want := from.Open(), allowed[from] != ""; got != want {
			t.Errorf("%s is open: got %v, want %v", from, got, want)
		}
	}
}

func TestJob_NeverLeavesATerminalState(t *testing.T) {
	now := time.Unix(1000, 0)
	verbs := map[string]func(*Job) bool{
		"start":    func(j *Job) bool { return j.Start(now) },
		"complete": func(j *Job) bool { return j.Complete(now) },
		"cancel":   func(j *Job) bool { return j.Cancel("late", now) },
		"fail":     func(j *Job) bool { return j.Fail("late", now) },
		"retry":    func(j *Job) bool { return j.Retry("late", now, time.Second) },
	}
	for _, s := range []Status{Completed, Failed, Cancelled} {
		for name, verb := range verbs {
			before := Job{Status: s, MaxAttempts: 3, Attempts: 1, LastError: "kept", CompletedAt: now.Add(-time.Hour), Revision: 7}
			j := before
			if verb(&j) {
				t.Errorf("%s of a job that is %s says that it did something", name, s)
			}
			if j != before {
				t.Errorf("%s changed a job that is %s: %+v", name, s, j)
			}
		}
	}
}

func TestJob_IsGivenUpAfterItsLastAttempt(t *testing.T) {
	now := time.Unix(1000, 0)
	j := Job{Status: Pending, MaxAttempts: 3}
	for attempt := 1; attempt <= 3; attempt++ {
		j.Attempt("agent-a")
		j.Start(now)
		ended := j.Retry("no luck", now, time.Minute)
		if want := attempt == 3; ended != want {
			t.Fatalf("attempt %d: ended %v, want %v", attempt, ended, want)
		}
	}
	if j.Status != Failed || j.Attempts != 3 || !j.NextActionAt.IsZero() || j.LastError != "no luck" {
		t.Errorf("job after its last attempt: %+v", j)
	}
}
