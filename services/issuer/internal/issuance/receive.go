package issuance

import (
	"context"
	"time"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/obs"
)

// Answer is what an agent has to say to a request for a key: a signing request, or why there is none.
type Answer struct {
	MessageID            string
	CertificateID, JobID string
	Attempt              int
	AgentID              string
	CSRPEM               string
	Reason               string
}

// fits reports whether the answer is to the question that is open.
func (a *Answer) fits(w *Work) bool {
	return w.Status == JobAwaitingCSR && w.CertificateID == a.CertificateID && w.Attempts == a.Attempt && w.AgentID == a.AgentID
}

// Receive has the effect of agents' answers: what they hand in is signed side by side and stored in one statement. An
// answer to a question that is no longer open, or was never put to that agent, has none. It reports whether a worker has
// to look at a job because of it.
func (s *Service) Receive(ctx context.Context, jobs Jobs, answers []Answer) (due bool, err error) {
	ids := make([]string, len(answers))
	for i, a := range answers {
		ids[i] = a.JobID
	}
	found, err := jobs.Load(ctx, ids)
	if err != nil {
		return false, err
	}
	var works []*Work
	var changes []Change
	open := map[string]*Answer{}
	now := s.clock.Now()
	for i := range answers {
		a := &answers[i]
		w, ok := found[a.JobID]
		if !ok || !a.fits(&w) {
			s.log.WarnContext(ctx, "an answer to no open question is dropped",
				obs.KeyEvent, a.MessageID, obs.KeyJob, a.JobID, obs.KeyAgent, a.AgentID, obs.KeyAttempt, a.Attempt)
			continue
		}
		delete(found, a.JobID)
		if a.CSRPEM == "" {
			changes = append(changes, s.setback(&w, fault.New(fault.Unavailable, "agent %s could not make a key: %s", a.AgentID, a.Reason), now, a.MessageID))
			continue
		}
		works = append(works, &w)
		open[w.ID] = a
	}
	changes = append(changes, s.answered(ctx, works, open, now)...)
	if len(changes) == 0 {
		return false, nil
	}
	applied, err := jobs.Apply(ctx, changes)
	if err != nil {
		return false, err
	}
	for i := range changes {
		due = due || !changes[i].NextActionAt.IsZero()
		if !applied[changes[i].JobID] {
			s.log.InfoContext(ctx, "job changed while its request was being signed; the answer is dropped", obs.KeyJob, changes[i].JobID)
		}
	}
	return due, nil
}

// answered is what becomes of jobs for which a request was handed in. What a CA elsewhere is to sign is left to a worker,
// once it is known to be worth asking for.
func (s *Service) answered(ctx context.Context, works []*Work, open map[string]*Answer, now time.Time) []Change {
	here, away := s.divide(ctx, works)
	changes := make([]Change, 0, len(works))
	toSign := make([]signing, len(here))
	for i, w := range here {
		toSign[i] = w.signing(open[w.ID].CSRPEM)
	}
	for i, result := range s.signAll(ctx, toSign) {
		w := here[i]
		if result.err != nil && fault.CodeOf(result.err) != fault.Invalid {
			w.CSRPEM = canonical(open[w.ID].CSRPEM)
		}
		changes = append(changes, s.outcome(w, result, now, open[w.ID].MessageID))
	}
	for _, w := range away {
		a := open[w.ID]
		if _, _, _, err := s.examine(ctx, w.signing(a.CSRPEM)); err != nil {
			changes = append(changes, s.setback(w, err, now, a.MessageID))
			continue
		}
		changes = append(changes, queue(w, a.CSRPEM, now))
	}
	return changes
}

// Deployed is what became of the installation of a version on a target.
type Deployed struct {
	CertificateID, VersionID, TargetID string
	At                                 time.Time
	// Reason says why it failed, or was rolled back.
	Reason string
	// Fact is told if the certificate's state changes by it.
	Fact Fact
}

// Because completes a reason with what an agent has to say, made fit to be stored.
func Because(what, agentSays string) string { return Clean(what + ": " + agentSays) }

// Activation is the fact to be told when the last target serves a version.
func Activation(certificateID, versionID string, o Origin, causation string, at time.Time) Fact {
	return Fact{
		Event:  event.CertificateActivated{CertificateID: certificateID, VersionID: versionID},
		Origin: o, CausationID: causation, At: at,
	}
}

// DeploymentFailure is the fact to be told when a target was given up.
func DeploymentFailure(certificateID, jobID, reason string, o Origin, causation string, at time.Time) Fact {
	return Fact{
		Event:  event.CertificateFailed{CertificateID: certificateID, JobID: jobID, Stage: "deployment", Reason: reason},
		Origin: o, CausationID: causation, At: at,
	}
}
