package rollout

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/retry"
)

const (
	// maxCSR is several times the largest request that a CA takes.
	maxCSR = 16 << 10
	// maxReason keeps what agents say readable.
	maxReason = 2000
)

// Fact is an event and the revision of what it is about.
type Fact struct {
	Event    event.Event
	Revision int64
}

// Hear applies a report to the order that it answers, and to the order's job, which is
// nil for a request for a key or for answers to a CA: those jobs are the issuer's. The report's author and
// attempt have been checked. A report on an order that is closed changes nothing. The
// error says that the report makes no sense.
func Hear(o *Order, j *Job, r command.AgentReport, now time.Time, waits retry.Policy) ([]Fact, error) {
	if r.Verb != o.Verb {
		return nil, fault.New(fault.Invalid, "report of job %s speaks of verb %q, its order of %q", r.JobID, r.Verb, o.Verb)
	}
	if o.Verb == command.VerbKeyRequest {
		return hearKey(o, r, now)
	}
	if o.Verb == command.VerbHTTP01 {
		return nil, hearHTTP01(o, r, now)
	}
	if j == nil {
		return nil, fmt.Errorf("order %s/%d has no job", o.JobID, o.Attempt)
	}
	if o.Verb == command.VerbVerify {
		return hearVerify(o, j, r, now)
	}
	return hearDeploy(o, j, r, now, waits)
}

// Overtaken reports, once, that an agent carried an order out although a newer version
// had taken its place: the agent got the two in the wrong order, as it may after a
// crash, and the target now serves the older one.
func Overtaken(o *Order, r command.AgentReport) bool {
	if o.Verb != command.VerbDeploy || o.State != OrderSuperseded || r.Outcome != command.OutcomeCompleted {
		return false
	}
	o.State = OrderDone
	return true
}

func hearKey(o *Order, r command.AgentReport, now time.Time) ([]Fact, error) {
	switch r.Outcome {
	case command.OutcomeStarted:
		if o.State == OrderSent {
			o.start(now)
		}
		return nil, nil
	case command.OutcomeCSR:
		if !o.Open() {
			return nil, nil
		}
		if r.CSRPEM == "" || len(r.CSRPEM) > maxCSR {
			return o.refuseKey(fmt.Sprintf("the agent sent a request of %d bytes", len(r.CSRPEM)), now), nil
		}
		o.Close(OrderDone, now)
		return []Fact{{Revision: int64(o.Attempt), Event: event.CSRSubmitted{
			CertificateID: o.CertificateID, JobID: o.JobID, Attempt: o.Attempt, AgentID: o.AgentID, CSRPEM: r.CSRPEM,
		}}}, nil
	case command.OutcomeFailed:
		if !o.Open() {
			return nil, nil
		}
		return o.refuseKey(reason(r.Error), now), nil
	default:
		return nil, fault.New(fault.Invalid, "outcome %q does not answer a request for a key", r.Outcome)
	}
}

func (o *Order) refuseKey(why string, now time.Time) []Fact {
	o.Close(OrderFailed, now)
	return []Fact{o.keyFailed(why)}
}

func (o *Order) keyFailed(why string) Fact {
	return Fact{Revision: int64(o.Attempt), Event: event.CSRFailed{
		CertificateID: o.CertificateID, JobID: o.JobID, Attempt: o.Attempt, AgentID: o.AgentID, Reason: why,
	}}
}

// hearHTTP01 notes what became of answers to a CA, for whoever waits for it; nobody else is told.
func hearHTTP01(o *Order, r command.AgentReport, now time.Time) error {
	switch r.Outcome {
	case command.OutcomeStarted:
		if o.State == OrderSent {
			o.start(now)
		}
	case command.OutcomeCompleted:
		if o.Open() {
			o.Close(OrderDone, now)
		}
	case command.OutcomeFailed:
		if o.Open() {
			o.Close(OrderFailed, now)
			o.Reason = reason(r.Error)
		}
	default:
		return fault.New(fault.Invalid, "outcome %q does not answer an order to answer a CA", r.Outcome)
	}
	return nil
}

func hearDeploy(o *Order, j *Job, r command.AgentReport, now time.Time, waits retry.Policy) ([]Fact, error) {
	switch r.Outcome {
	case command.OutcomeStarted:
		if o.State != OrderSent {
			return nil, nil
		}
		o.start(now)
		if !j.Start(now) {
			return nil, nil
		}
		return []Fact{{Revision: j.Revision, Event: event.DeploymentStarted{Deployment: j.deployment()}}}, nil
	case command.OutcomeCompleted:
		if !o.Open() {
			return nil, nil
		}
		if r.ServedFingerprintSHA256 != "" && r.ServedFingerprintSHA256 != j.Fingerprint {
			why := fmt.Sprintf("the target serves %s, not %s", reason(r.ServedFingerprintSHA256), j.Fingerprint)
			return again(o, j, why, false, now, waits), nil
		}
		o.Close(OrderDone, now)
		if !j.Complete(now) {
			return nil, nil
		}
		return []Fact{{Revision: j.Revision, Event: event.DeploymentCompleted{
			Deployment: j.deployment(), ServedFingerprintSHA256: r.ServedFingerprintSHA256, DurationMillis: max(r.DurationMillis, 0),
		}}}, nil
	case command.OutcomeFailed, command.OutcomeRolledBack:
		if !o.Open() {
			return nil, nil
		}
		var facts []Fact
		if r.Outcome == command.OutcomeRolledBack && j.Status.Open() {
			j.Revision++
			facts = append(facts, Fact{Revision: j.Revision, Event: event.DeploymentRolledBack{
				Deployment: j.deployment(), Reason: reason(r.Error),
			}})
		}
		return append(facts, again(o, j, reason(r.Error), r.Permanent, now, waits)...), nil
	default:
		return nil, fault.New(fault.Invalid, "outcome %q does not answer a deployment", r.Outcome)
	}
}

// hearVerify notes what an agent saw. There is no second attempt: that nothing could be
// seen is an answer too.
func hearVerify(o *Order, j *Job, r command.AgentReport, now time.Time) ([]Fact, error) {
	why := ""
	switch r.Outcome {
	case command.OutcomeStarted:
		if o.State == OrderSent {
			o.start(now)
			j.Start(now)
		}
		return nil, nil
	case command.OutcomeCompleted:
		switch r.ServedFingerprintSHA256 {
		case j.Fingerprint:
		case "":
			why = "the agent does not say what the target serves"
		default:
			why = fmt.Sprintf("the target serves %s, not %s", reason(r.ServedFingerprintSHA256), j.Fingerprint)
		}
	case command.OutcomeFailed:
		why = reason(r.Error)
	default:
		return nil, fault.New(fault.Invalid, "outcome %q does not answer a validation", r.Outcome)
	}
	if !o.Open() {
		return nil, nil
	}
	if why == "" {
		o.Close(OrderDone, now)
		if !j.Complete(now) {
			return nil, nil
		}
		return []Fact{{Revision: j.Revision, Event: event.DeploymentVerified{
			Deployment: j.deployment(), ServedFingerprintSHA256: r.ServedFingerprintSHA256, DurationMillis: max(r.DurationMillis, 0),
		}}}, nil
	}
	o.Close(OrderFailed, now)
	if !j.Fail(why, now) {
		return nil, nil
	}
	diverged := event.DeploymentDiverged{Deployment: j.deployment(), Reason: j.LastError}
	if r.ServedFingerprintSHA256 != "" {
		diverged.ServedFingerprintSHA256 = reason(r.ServedFingerprintSHA256)
	}
	return []Fact{{Revision: j.Revision, Event: diverged}}, nil
}

// again closes a failed attempt, and makes the next one due unless that is the end.
func again(o *Order, j *Job, why string, permanent bool, now time.Time, waits retry.Policy) []Fact {
	o.Close(OrderFailed, now)
	return giveUpOrRetry(j, why, permanent, now, waits)
}

func giveUpOrRetry(j *Job, why string, permanent bool, now time.Time, waits retry.Policy) []Fact {
	var ended bool
	if permanent {
		ended = j.Fail(why, now)
	} else {
		ended = j.Retry(why, now, waits.Delay(j.Attempts, nil))
	}
	if !ended {
		return nil
	}
	return []Fact{{Revision: j.Revision, Event: j.Failure()}}
}

// Expire closes an order that no agent will carry out any more: the job gets another
// attempt, or fails.
func Expire(o *Order, j *Job, now time.Time, waits retry.Policy) []Fact {
	o.Close(OrderExpired, now)
	why := fmt.Sprintf("agent %s did not answer before the order expired", o.AgentID)
	if o.Verb == command.VerbKeyRequest {
		return []Fact{o.keyFailed(why)}
	}
	if j == nil {
		return nil
	}
	return giveUpOrRetry(j, why, false, now, waits)
}

// Withdraw closes an order whose agent will never answer it, and fails its job.
func Withdraw(o *Order, j *Job, why string, now time.Time) []Fact {
	o.Close(OrderFailed, now)
	if o.Verb == command.VerbKeyRequest {
		return []Fact{o.keyFailed(why)}
	}
	if j == nil || !j.Fail(why, now) {
		return nil
	}
	return []Fact{{Revision: j.Revision, Event: j.Failure()}}
}

// reason makes what an agent wrote fit to be stored and shown.
func reason(s string) string {
	s = strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r == 0x7f || r == utf8.RuneError {
			return -1
		}
		return r
	}, s))
	if s == "" {
		return "the agent gave no reason"
	}
	if len(s) > maxReason {
		s = strings.ToValidUTF8(s[:maxReason], "")
	}
	return s
}
