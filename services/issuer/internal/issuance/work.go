package issuance

import (
	"context"
	"time"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/obs"
)

const (
	// batch is how many jobs are claimed at once: enough to spread a commit's cost, few enough to sign in a fraction of
	// their lease.
	batch = 64
	lease = time.Minute
)

// Work takes due jobs and does what is next about each. It returns how many it took; less than a full batch means that
// nothing else is due. A worker that dies leaves its jobs to whoever works after their lease has ended; what it had
// signed by then was not stored, and is as if it had never been.
func (s *Service) Work(ctx context.Context) (more bool, err error) {
	now := s.clock.Now()
	jobs, err := s.store.Claim(ctx, now, now.Add(lease), batch)
	if err != nil || len(jobs) == 0 {
		return false, err
	}
	changes := make([]Change, len(jobs))
	var toSign []signing
	var signers []int
	for i := range jobs {
		w := &jobs[i]
		if w.Status == JobAwaitingCSR {
			w.LastError = unanswered(w)
		}
		step := decide(w)
		var warnings []Breach
		if step == signNow || step == askAgent || step == awaitRequester {
			var stopped *Change
			if warnings, stopped = s.gate(ctx, w, now); stopped != nil {
				changes[i] = *stopped
				continue
			}
		}
		if step, changes[i] = s.keyed(ctx, w, step, now); step == settled {
			changes[i].Breaches = warnings
			continue
		}
		switch step {
		case settled:
		case signNow:
			w.Attempts++
			toSign, signers = append(toSign, w.signing(w.CSRPEM)), append(signers, i)
		case askAgent:
			changes[i] = s.askFor(ctx, w, now)
		case awaitRequester:
			changes[i] = awaitRequest(w, now)
		case unreachable:
			w.Attempts++
			changes[i] = s.setback(w, fault.New(fault.Unavailable, "target %s is gone or switched off", w.Targets[0].ID), now, "")
		case lapse:
			w.Origin.Actor = System
			changes[i] = cancelled(w, "nobody approved it in time", now)
		case giveUp:
			changes[i] = failure(w, orDefault(w.LastError, "no attempts are left"), now, "")
		}
		changes[i].Breaches = warnings
	}
	for k, result := range s.signAll(ctx, toSign) {
		w := &jobs[signers[k]]
		warnings := changes[signers[k]].Breaches
		changes[signers[k]] = s.outcome(w, result, s.clock.Now(), "")
		changes[signers[k]].Breaches = warnings
	}
	applied, err := s.store.Apply(ctx, changes)
	if err != nil {
		return false, err
	}
	for i := range jobs {
		s.report(ctx, &jobs[i], &changes[i], applied[jobs[i].ID])
	}
	return len(jobs) == batch, nil
}

// askFor has the agent of the first target asked for a key that the certificate's profile allows.
func (s *Service) askFor(ctx context.Context, w *Work, now time.Time) Change {
	p, err := s.profile(ctx, w.ProfileID)
	if err != nil {
		w.Attempts++
		return s.setback(w, err, now, "")
	}
	return ask(w, p.AgentKey(), now, now.Add(s.settings.CSRDeadline))
}

// outcome is what becomes of a job whose request was signed, or was not.
func (s *Service) outcome(w *Work, r signed, now time.Time, causation string) Change {
	if r.err != nil {
		return s.setback(w, r.err, now, causation)
	}
	return complete(w, r.version, now, causation)
}

// report writes the one line about a step of a job; setbacks have had theirs.
func (s *Service) report(ctx context.Context, w *Work, c *Change, applied bool) {
	args := []any{obs.KeyJob, w.ID, obs.KeyCertificate, w.CertificateID, "status", string(c.Status), obs.KeyAttempt, c.Attempts}
	if !applied {
		s.log.InfoContext(ctx, "job changed while it was worked on; nothing was done", args...)
		return
	}
	s.log.DebugContext(ctx, "job went on", args...)
}
