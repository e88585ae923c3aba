package issuance

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/retry"
	"github.com/certctl/certctl/services/issuer/internal/profile"
	"github.com/certctl/certctl/services/issuer/internal/renewal"
	"github.com/certctl/certctl/services/issuer/internal/rulebook"
)

// documented are the tables as people are shown them. A change of the rules is a change there first.
func documented(t *testing.T) (certificates, jobs string) {
	t.Helper()
	text, err := os.ReadFile("../../../../docs/lifecycle.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(text), "```")
	if len(blocks) != 5 {
		t.Fatalf("docs/lifecycle.md has %d blocks, want those of certificates and jobs", len(blocks)/2)
	}
	return strings.TrimRight(blocks[1], "\n"), strings.TrimRight(blocks[3], "\n")
}

func table[S ~string](states []S, moves map[S][]S, width int) string {
	var out string
	for _, s := range states {
		line := "\n" + string(s)
		for len(line) < width+1 {
			line += " "
		}
		line += " ->"
		for _, to := range moves[s] {
			line += " " + string(to)
		}
		out += line
	}
	return out
}

func TestStates_AreThoseOfTheTables(t *testing.T) {
	certificateTable, jobTable := documented(t)
	if diff := cmp.Diff(certificateTable, table(CertificateStatuses, certificateMoves, 17)); diff != "" {
		t.Errorf("certificates (-want +got):\n%s", diff)
	}
	jobs := []JobStatus{JobPending, JobAwaitingCSR, JobAwaitingApproval, JobRunning, JobCompleted, JobFailed, JobCancelled}
	if diff := cmp.Diff(jobs, JobStatuses); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(jobTable, table(JobStatuses, jobMoves, 16)); diff != "" {
		t.Errorf("jobs (-want +got):\n%s", diff)
	}
	if len(CertificateStatuses) != 8 || len(certificateMoves) != 8 || len(JobStatuses) != 7 || len(jobMoves) != 7 {
		t.Error("a state is missing")
	}
}

func TestBefore_ListsWhereAStateMayBeReachedFrom(t *testing.T) {
	if diff := cmp.Diff([]string{"Pending", "RenewalInProgress", "Failed"}, Before(Active)); diff != "" {
		t.Error(diff)
	}
	if slices.Contains(Before(RenewalInProgress), string(Revoked)) || slices.Contains(Before(Active), string(Archived)) {
		t.Error("a revoked or archived certificate comes back")
	}
}

func TestRenewal_IsAllowedByTheTable(t *testing.T) {
	for _, status := range CertificateStatuses {
		for _, version := range []string{"", "cv-1"} {
			c := Certificate{ID: "mc-1", Status: status, VersionID: version}
			next, kind, err := renews(&c)
			switch {
			case err != nil:
				if fault.CodeOf(err) != fault.Conflict {
					t.Errorf("%s: %v", status, err)
				}
				if want := RenewalInProgress; version != "" && status.CanBecome(want) {
					t.Errorf("%s was refused: %v", status, err)
				}
			case !status.CanBecome(next):
				t.Errorf("%s became %s", status, next)
			case (kind == Renewal) != (version != ""):
				t.Errorf("%s with version %q is a %s", status, version, kind)
			}
		}
	}
}

// Every change that the rules make of a job must be a move of the table, from each state in which they make it.
func TestChanges_AreMovesOfTheTables(t *testing.T) {
	now := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
	s := New(nil, nil, nil, clock.At(now), quiet, Settings{})
	targets := []Target{{ID: "tgt-1", AgentID: "agent-1", Enabled: true}}
	work := func(kind JobType, status JobStatus, attempts int) *Work {
		w := &Work{
			Job:     Job{ID: "job-i-1", Type: kind, CertificateID: "mc-1", Status: status, Attempts: attempts, MaxAttempts: 3},
			Targets: targets, IssuerID: "iss-local", CommonName: "a.example.com", SANs: []string{"a.example.com"},
		}
		if kind == Renewal {
			w.CurrentVersionID, w.ExpiresAt = "cv-1", now.Add(time.Hour)
			w.Targets[0].VersionID = "cv-1"
		}
		return w
	}
	for _, kind := range []JobType{Issuance, Renewal} {
		during := Pending
		if kind == Renewal {
			during = RenewalInProgress
		}
		check := func(name string, from JobStatus, c Change) {
			t.Helper()
			if from != c.Status && !from.CanBecome(c.Status) {
				t.Errorf("%s %s: job goes from %s to %s", kind, name, from, c.Status)
			}
			if to := c.CertificateStatus; to != "" && !during.CanBecome(to) {
				t.Errorf("%s %s: certificate goes from %s to %s", kind, name, during, to)
			}
			if c.Status.Final() != c.NextActionAt.IsZero() && c.Status != JobAwaitingCSR {
				t.Errorf("%s %s: %s job is next looked at %s", kind, name, c.Status, c.NextActionAt)
			}
		}
		version := &Version{ID: "cv-2"}
		for _, from := range []JobStatus{JobRunning, JobAwaitingCSR} {
			check("complete", from, complete(work(kind, from, 1), version, now, ""))
			check("retry", from, s.setback(work(kind, from, 1), fault.New(fault.Unavailable, "away"), now, ""))
			check("exhausted", from, s.setback(work(kind, from, 3), fault.New(fault.Unavailable, "away"), now, ""))
			check("refused", from, s.setback(work(kind, from, 1), fault.New(fault.Invalid, "no"), now, ""))
		}
		lapsed := work(kind, JobAwaitingApproval, 0)
		if decide(lapsed) != lapse {
			t.Error("a job that waits for approval is worked on")
		}
		check("lapse", JobAwaitingApproval, cancelled(lapsed, "nobody approved it in time", now))
		approved, err := s.approved(t.Context(), work(kind, JobAwaitingApproval, 0), "key-2", now)
		if err != nil {
			t.Fatal(err)
		}
		check("approve", JobAwaitingApproval, approved)
		check("ask", JobRunning, ask(work(kind, JobRunning, 0), profile.Key{Algorithm: "ECDSA", MinSize: 256}, "", now, now.Add(time.Minute)))
		for _, from := range JobStatuses {
			if from.CanBecome(JobCancelled) {
				check("cancel", from, cancelled(work(kind, from, 1), "cancelled by somebody", now))
			}
		}
	}
}

func TestCancelled_LeavesACertificateAsItsTargetsServeIt(t *testing.T) {
	now := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
	tests := []struct {
		name    string
		current string
		ends    time.Time
		serves  string
		want    CertificateStatus
	}{
		{"never issued", "", time.Time{}, "", Failed},
		{"served and valid", "cv-1", now.Add(time.Hour), "cv-1", Active},
		{"served and over", "cv-1", now, "cv-1", Expired},
		{"not served", "cv-2", now.Add(time.Hour), "cv-1", Failed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := &Work{
				Job: Job{ID: "job-i-1", Type: Renewal}, CurrentVersionID: tt.current, ExpiresAt: tt.ends,
				Targets: []Target{{ID: "tgt-1", VersionID: tt.serves}},
			}
			c := cancelled(w, "cancelled by key-1", now)
			if c.CertificateStatus != tt.want || c.Status != JobCancelled || c.LastError != "cancelled by key-1" || c.Fact == nil {
				t.Errorf("change %+v", c)
			}
		})
	}
}

func TestDecide_DoesTheNextThing(t *testing.T) {
	reachable := []Target{{ID: "tgt-1", AgentID: "agent-1", Enabled: true}}
	tests := []struct {
		name string
		work Work
		want next
	}{
		{"a request is there", Work{Job: Job{CSRPEM: "x"}, Targets: reachable}, signNow},
		{"an agent makes the key", Work{Targets: reachable}, askAgent},
		{"an agent did not answer", Work{Job: Job{Status: JobAwaitingCSR, AgentID: "agent-1", Attempts: 2}, Targets: reachable}, askAgent},
		{"no attempts are left", Work{Job: Job{Status: JobAwaitingCSR, AgentID: "agent-1", Attempts: 3}, Targets: reachable}, giveUp},
		{"the target is gone", Work{Targets: []Target{{ID: "tgt-1"}}}, unreachable},
		{"the target is switched off", Work{Targets: []Target{{ID: "tgt-1", AgentID: "agent-1"}}}, unreachable},
		{"the key is the requester's", Work{}, awaitRequester},
		{"the agent that was asked is none of its any more", Work{Job: Job{Status: JobAwaitingCSR, AgentID: "agent-1"}}, awaitRequester},
		{"the requester handed in nothing before the end", Work{Job: Job{Status: JobAwaitingCSR}}, giveUp},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.work.MaxAttempts = 3
			if got := decide(&tt.work); got != tt.want {
				t.Errorf("next = %d, want %d", got, tt.want)
			}
		})
	}
}

func TestSetback_GoesByTheKindOfError(t *testing.T) {
	now := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
	s := New(nil, nil, nil, clock.At(now), quiet, Settings{Chance: func() float64 { return 0 }})
	plan := retry.Policy{Base: 5 * time.Second, Cap: 10 * time.Minute}
	slow := fault.New(fault.RateLimited, "slowly")
	slow.RetryAfter = time.Hour
	tests := []struct {
		name     string
		err      error
		attempts int
		status   JobStatus
		after    time.Duration
	}{
		{"away, first attempt", fault.New(fault.Unavailable, "away"), 1, JobPending, 5 * time.Second},
		{"away, second attempt", fault.New(fault.Unavailable, "away"), 2, JobPending, 10 * time.Second},
		{"away, last attempt", fault.New(fault.Unavailable, "away"), 3, JobFailed, 0},
		{"our own fault", fault.New(fault.Internal, "oops"), 1, JobPending, 5 * time.Second},
		{"asked to wait", slow, 1, JobPending, time.Hour},
		{"refused for good", fault.New(fault.Invalid, "never"), 1, JobFailed, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := &Work{Job: Job{ID: "job-i-1", Type: Renewal, Attempts: tt.attempts, MaxAttempts: 3}, Retry: plan}
			c := s.setback(w, tt.err, now, "ev-1")
			if c.Status != tt.status || c.LastError != fault.From(tt.err).Message {
				t.Errorf("change %+v", c)
			}
			if tt.after > 0 && !c.NextActionAt.Equal(now.Add(tt.after)) {
				t.Errorf("next at %s, want %s later", c.NextActionAt, tt.after)
			}
			if (c.Fact != nil) != (tt.status == JobFailed) || (c.CertificateStatus == Failed) != (tt.status == JobFailed) {
				t.Errorf("fact %v, certificate %s", c.Fact, c.CertificateStatus)
			}
		})
	}
}

// noRules is a store of which only the rules are asked for, of which there are none.
type noRules struct{ Store }

func (noRules) RulesRevision(context.Context) (int64, error) { return 0, nil }

func (noRules) Rules(context.Context) (*rulebook.Book, error) { return &rulebook.Book{}, nil }

// Whatever state a certificate is in, and however near its end, what the engine makes of it is a move of the table, and
// only what may be renewed is.
func TestSteps_AreMovesOfTheTables(t *testing.T) {
	begun := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
	end := begun.Add(90 * 24 * time.Hour)
	r := Renewals{Service: New(noRules{}, nil, nil, clock.At(begun), quiet, Settings{})}
	for _, approval := range []bool{false, true} {
		p := renewal.Policy{
			ID: "rp-1", AutoRenew: true, WindowDays: 30, ThresholdDays: []int{30, 14, 7, 0},
			ApprovalRequired: approval, ApprovalExpiresAfter: time.Hour,
		}
		for _, status := range CertificateStatuses {
			var told *int
			for left := 91; left >= -5; left-- {
				now := end.Add(-time.Duration(left) * 24 * time.Hour)
				l := &Look{
					Certificate: Certificate{ID: "mc-1", VersionID: "cv-1", Status: status, ExpiresAt: end, IssuerID: "iss-local"},
					Targets:     []Target{{ID: "tgt-1", AgentID: "agent-1", Enabled: true}},
					IssuedAt:    begun, Told: told,
				}
				s, err := r.step(t.Context(), l, &p, now)
				if err != nil {
					t.Fatal(err)
				}
				if s.Status != "" && !status.CanBecome(s.Status) {
					t.Errorf("%s becomes %s %d days before its end", status, s.Status, left)
				}
				if s.Job != nil && (s.Status != RenewalInProgress || s.Job.Status != JobAwaitingCSR && s.Job.Status != JobAwaitingApproval) {
					t.Errorf("%s becomes %s with a job that is %s", status, s.Status, s.Job.Status)
				}
				if s.Job == nil && !s.NextActionAt.IsZero() && s.NextActionAt.Before(now) {
					t.Errorf("%s is looked at again at %s, before %s", status, s.NextActionAt, now)
				}
				told = s.Told
			}
		}
	}
}

func TestDecisions_AreRefusedAboutJobsThatWaitForNone(t *testing.T) {
	for _, status := range JobStatuses {
		for _, d := range []Decision{{Approved: true, By: "key-2"}, {By: "key-2"}} {
			w := &Work{Job: Job{ID: "job-i-1", Status: status, Origin: Origin{Actor: "key-1"}}}
			err := d.allowed(w)
			if waits := status == JobAwaitingApproval; waits != (err == nil) || !waits && fault.CodeOf(err) != fault.Invalid {
				t.Errorf("%+v about a job that is %s: %v", d, status, err)
			}
		}
	}
}
