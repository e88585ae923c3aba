package issuance

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/obs"
	"github.com/certctl/certctl/services/issuer/internal/profile"
)

// next is what a worker does about a job.
type next int

const (
	// signNow: there is a request; have it signed.
	signNow next = iota
	// askAgent: the agent of the first target makes the key.
	askAgent
	// awaitRequester: whoever asked for the certificate has the key, and sends the request.
	awaitRequester
	// giveUp: no attempts are left.
	giveUp
	// unreachable: the target is gone or switched off; it may come back.
	unreachable
	// lapse: nobody has approved it in time.
	lapse
)

// decide says what is to be done about a job that is due. A job that was found AwaitingCSR has been waited for too long.
func decide(w *Work) next {
	switch {
	case w.Status == JobAwaitingApproval:
		return lapse
	case w.Attempts >= w.MaxAttempts, w.Status == JobAwaitingCSR && w.AgentID == "":
		return giveUp
	case w.CSRPEM != "":
		return signNow
	case len(w.Targets) == 0:
		return awaitRequester
	case w.Targets[0].AgentID == "" || !w.Targets[0].Enabled:
		return unreachable
	default:
		return askAgent
	}
}

// ask is the change of a job whose key an agent is asked for: a new one, unless kept names the one that it is to keep.
func ask(w *Work, key profile.Key, kept string, now, deadline time.Time) Change {
	w.Attempts++
	w.AgentID = w.Targets[0].AgentID
	c := w.change(JobAwaitingCSR, now)
	c.NextActionAt = deadline
	c.Reason = "waits for agent " + w.AgentID + " to make a key"
	if w.LastError != "" {
		c.Reason += "; before: " + w.LastError
	}
	c.Fact = w.fact(event.CertificateKeyRequested{
		CertificateID: w.CertificateID, JobID: w.ID, CommonName: w.CommonName, SANs: w.SANs, KeyRequest: event.KeyRequest{
			Attempt: w.Attempts, AgentID: w.AgentID, KeyAlgorithm: key.Algorithm, KeySize: key.MinSize, ReuseSPKISHA256: kept, ExpiresAt: deadline,
		},
	}, now, "")
	return c
}

// awaitRequest is the change of a job whose key is the requester's. It is given up when the version ends that it is to
// follow: what has ended is to be seen as that.
func awaitRequest(w *Work, now time.Time) Change {
	c := w.change(JobAwaitingCSR, now)
	c.AgentID, c.Reason = "", "waits for a signing request: POST it to /api/v1/certificates/"+w.CertificateID+"/csr as csr_pem, or certctl-cli renew-cert "+w.CertificateID+" --csr FILE"
	if w.ExpiresAt.After(now) {
		c.NextActionAt = w.ExpiresAt
	}
	return c
}

// unanswered says who has let a job wait too long for a signing request.
func unanswered(w *Work) string {
	if w.AgentID == "" {
		return "no signing request was handed in before the certificate ended"
	}
	return fmt.Sprintf("agent %s did not answer request %d in time", w.AgentID, w.Attempts)
}

// setback is the change of a job whose latest attempt ended in err: it is tried again after a while, unless the kind of
// error says that this cannot help or no attempts are left.
func (s *Service) setback(w *Work, err error, now time.Time, causation string) Change {
	f := fault.From(err)
	s.log.Warn("an attempt failed", obs.KeyJob, w.ID, obs.KeyCertificate, w.CertificateID, obs.KeyAttempt, w.Attempts, obs.KeyError, err)
	w.LastError = Clean(f.Message)
	if fault.VerdictOf(err) == fault.Term {
		return failure(w, w.LastError, now, causation)
	}
	if w.Attempts >= w.MaxAttempts {
		c := failure(w, w.LastError, now, causation)
		c.Reason += fmt.Sprintf("; given up after %d attempts: ", w.Attempts)
		if w.CurrentVersionID == "" {
			c.Reason += "renew it to try again"
		} else {
			c.Reason += "its renewal plan says when it is tried again, or renew it now"
		}
		return c
	}
	c := w.change(JobPending, now)
	c.NextActionAt = now.Add(max(w.Retry.Delay(w.Attempts, s.settings.Chance), f.RetryAfter))
	c.Reason = w.LastError + "; next attempt at " + c.NextActionAt.Format(time.RFC3339)
	return c
}

// failure is the change of a job that is given up.
func failure(w *Work, reason string, now time.Time, causation string) Change {
	w.LastError = reason
	c := w.change(JobFailed, now)
	c.CertificateStatus, c.Reason = Failed, reason
	c.Fact = w.fact(event.CertificateFailed{
		CertificateID: w.CertificateID, JobID: w.ID, Stage: w.Type.stage(), Reason: reason,
	}, now, causation)
	return c
}

// cancelled is the change of a job that is stopped, by a person or for want of one: the certificate is again what it was,
// as far as it was anything.
func cancelled(w *Work, reason string, now time.Time) Change {
	c := failure(w, reason, now, "")
	c.Status = JobCancelled
	if w.CurrentVersionID != "" && w.servedEverywhere() {
		c.CertificateStatus, c.Reason = served(w.ExpiresAt, now), ""
	}
	return c
}

func (w *Work) servedEverywhere() bool {
	for _, t := range w.Targets {
		if t.VersionID != w.CurrentVersionID {
			return false
		}
	}
	return true
}

// maxReason bounds what agents and foreign CAs have to say for themselves.
const maxReason = 1000

// Clean makes a text that comes from elsewhere, in whole or in part, fit to be stored and shown.
func Clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if len(s) > maxReason {
		s = strings.ToValidUTF8(s[:maxReason], "") + "…"
	}
	return s
}
