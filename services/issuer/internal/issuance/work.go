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
	batch = 128
	lease = time.Minute
)

// Work takes due jobs and does what is next about each. It returns whether more may be due. What is signed in this
// process is signed and stored before it returns; CAs elsewhere are asked in the background (see Hold), so that one that
// takes its time holds up nobody. A worker that dies leaves its jobs to whoever works after their lease has ended; what
// it had signed by then was not stored, and is as if it had never been.
func (s *Service) Work(ctx context.Context) (more bool, err error) {
	now := s.clock.Now()
	jobs, err := s.store.Claim(ctx, now, now.Add(lease), batch)
	if err != nil || len(jobs) == 0 {
		return false, err
	}
	var changes []Change
	var toSign []*Work
	byID := make(map[string]*Work, len(jobs))
	for i := range jobs {
		w := &jobs[i]
		byID[w.ID] = w
		if c := s.step(ctx, w, now); c != nil {
			changes = append(changes, *c)
		} else {
			toSign = append(toSign, w)
		}
	}
	here, away := s.divide(ctx, toSign)
	changes = append(changes, s.signHere(ctx, here)...)
	waiting, err := s.begin(ctx, away, now)
	changes = append(changes, waiting...)
	applied, applyErr := s.store.Apply(ctx, changes)
	if applyErr != nil {
		return false, applyErr
	}
	for i := range changes {
		s.report(ctx, byID[changes[i].JobID], &changes[i], applied[changes[i].JobID])
	}
	return len(jobs) == batch, err
}

// step is what becomes of a due job at once; nil if its request is to be signed.
func (s *Service) step(ctx context.Context, w *Work, now time.Time) *Change {
	if w.Status == JobAwaitingCSR {
		w.LastError = unanswered(w)
	}
	step := decide(w)
	if step == signNow || step == askAgent || step == awaitRequester {
		warnings, stopped := s.gate(ctx, w, now)
		if stopped != nil {
			return stopped
		}
		w.breaches = warnings
		if c := s.keyed(ctx, w, step, now); c != nil {
			return c
		}
	}
	var c Change
	switch step {
	case signNow:
		return nil
	case askAgent:
		c = s.askFor(ctx, w, now)
	case awaitRequester:
		c = awaitRequest(w, now)
	case unreachable:
		w.Attempts++
		c = s.setback(w, fault.New(fault.Unavailable, "target %s is gone or switched off", w.Targets[0].ID), now, "")
	case lapse:
		w.Origin.Actor = System
		c = cancelled(w, "nobody approved it in time", now)
	case giveUp:
		c = failure(w, orDefault(w.LastError, "no attempts are left"), now, "")
	}
	c.Breaches = w.breaches
	return &c
}

// signHere has the requests of jobs signed whose CAs are in this process.
func (s *Service) signHere(ctx context.Context, works []*Work) []Change {
	toSign := make([]signing, len(works))
	for i, w := range works {
		w.Attempts++
		toSign[i] = w.signing(w.CSRPEM)
	}
	changes := make([]Change, len(works))
	for i, result := range s.signAll(ctx, toSign) {
		changes[i] = s.outcome(works[i], result, s.clock.Now(), "")
		changes[i].Breaches = works[i].breaches
	}
	return changes
}

// askFor has the agent of the first target asked for a key that the certificate's profile allows.
func (s *Service) askFor(ctx context.Context, w *Work, now time.Time) Change {
	p, err := s.profile(ctx, w.ProfileID)
	var kept string
	if err == nil {
		kept, err = s.kept(ctx, w, p)
	}
	if err != nil {
		w.Attempts++
		return s.setback(w, err, now, "")
	}
	return ask(w, p.AgentKey(), kept, now, now.Add(s.settings.CSRDeadline))
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
	if c.Version != nil && w.fallbackFor != "" {
		s.settings.FellBack(w.fallbackFor, w.IssuerID)
	}
	s.log.DebugContext(ctx, "job went on", args...)
}
