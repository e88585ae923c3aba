package issuance

import (
	"context"
	"errors"
	"time"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/obs"
	"github.com/certctl/certctl/services/issuer/internal/ca"
	"github.com/certctl/certctl/services/issuer/internal/standing"
)

const (
	// openTimeout is how long a CA may take to be opened, and shutFor how long it is left alone that took longer.
	openTimeout = 5 * time.Second
	shutFor     = 30 * time.Second
	// patience is how long a job waits for CAs that are away before it has failed.
	patience = 7 * 24 * time.Hour
	// orderPause is how long an order rests that its CA has not decided, if the CA does not say.
	orderPause = time.Minute
)

// errStopping is why requests end when the service does. What they have ordered is gone on with later.
var errStopping = errors.New("the issuer service stops")

// Places hands out what may be asked of the CAs elsewhere, and keeps how they stand, for all replicas together.
type Places interface {
	// Ask takes places with an issuer's CA for as many of the jobs as may begin, the first ones, and holds these until the
	// lease ends.
	Ask(ctx context.Context, issuerID string, jobs []*Work, now, lease time.Time) (Admitted, error)
	// Answered notes what came of a request that began at a time; nil is a good answer. If the CA's circuit closes by it, the
	// jobs that wait for it are due.
	Answered(ctx context.Context, issuerID string, began, now time.Time, err error) (standing.State, error)
	// Hold extends the leases of jobs, which are given with their tokens, and returns those that are still held.
	Hold(ctx context.Context, tokens map[string]int64, lease time.Time) (map[string]bool, error)
	// KeepOrder stores what it takes to go on with an order of a job. It is a Conflict if the job is not held any more.
	KeepOrder(ctx context.Context, jobID string, token int64, issuerID string, order []byte) error
}

// Admitted is how many jobs may begin, and what there is to know for the others.
type Admitted struct {
	standing.Admission
	State standing.State
	// Waiting is how many jobs wait for a place besides, MaxConcurrent how many places there are.
	Waiting, MaxConcurrent int
}

// elsewhere reports whether a CA has to be asked in the background: it is not in this process, or not there at all.
func elsewhere(authority ca.Issuer) bool {
	_, here := authority.(ca.InProcess)
	return !here
}

// divide looks up the CAs of jobs, each once, and tells which jobs can be signed for here and now.
func (s *Service) divide(ctx context.Context, works []*Work) (here, away []*Work) {
	found := map[string]lookedUp{}
	for _, w := range works {
		f, ok := found[w.IssuerID]
		if !ok {
			f = s.lookUp(ctx, w.IssuerID)
			found[w.IssuerID] = f
		}
		w.ca, w.whyNot, w.closed = f.ca, f.whyNot, saysAway(f.err)
		if elsewhere(w.ca) {
			away = append(away, w)
		} else {
			here = append(here, w)
		}
	}
	return here, away
}

// lookedUp is the CA of an issuer, or why there is none: the error of asking for it, and as a reason for a job to wait.
type lookedUp struct {
	ca          ca.Issuer
	err, whyNot error
	until       time.Time
}

// lookUp finds the CA of an issuer. To open one that hangs would hold up all who wait behind it, so that is given up soon
// and not tried again at once.
func (s *Service) lookUp(ctx context.Context, issuerID string) lookedUp {
	now := s.clock.Now()
	if f, ok := s.asking.shut(issuerID, now); ok {
		return f
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	authority, err := s.issuers.Issuer(ctx, issuerID)
	if err == nil {
		return lookedUp{ca: authority}
	}
	// Whatever it is, it may be in service again by the next attempt.
	said := fault.From(err)
	whyNot := fault.Wrap(err, fault.Unavailable, "not in service: %s", said.Message)
	whyNot.RetryAfter = said.RetryAfter
	f := lookedUp{err: err, whyNot: whyNot}
	if ctx.Err() != nil {
		f.until = now.Add(shutFor)
		s.asking.shutOut(issuerID, f)
	}
	return f
}

// queue is the change of a job whose request is to be signed by a CA elsewhere: a worker asks it, and it counts as an
// attempt then.
func queue(w *Work, csr string, now time.Time) Change {
	w.CSRPEM = canonical(csr)
	c := w.change(JobPending, now)
	c.Attempts = max(w.Attempts-1, 0)
	c.NextActionAt, c.Reason = now, "waits for issuer "+w.IssuerID+" to sign its request"
	return c
}

// begin asks the CAs elsewhere for as many jobs as may begin, each in the background, and returns what becomes of the
// others.
func (s *Service) begin(ctx context.Context, works []*Work, now time.Time) ([]Change, error) {
	var waiting []Change
	works, err := s.fallenBack(ctx, works, now)
	if err != nil {
		return nil, err
	}
	for len(works) > 0 {
		issuerID := works[0].IssuerID
		var same, others []*Work
		for _, w := range works {
			if w.IssuerID == issuerID {
				same = append(same, w)
			} else {
				others = append(others, w)
			}
		}
		works = others
		changes, err := s.beginWith(ctx, issuerID, same, now)
		waiting = append(waiting, changes...)
		if err != nil {
			return waiting, err
		}
	}
	return waiting, nil
}

// fallenBack asks the fallbacks of jobs whose own CA has failed them for long enough, and returns the others.
func (s *Service) fallenBack(ctx context.Context, works []*Work, now time.Time) (others []*Work, err error) {
	for _, w := range works {
		begun := false
		if w.Setbacks > 0 {
			if begun, err = s.fallBack(ctx, w, w.LastError, now); err != nil {
				return nil, err
			}
		}
		if !begun {
			others = append(others, w)
		}
	}
	return others, nil
}

// beginWith does so for jobs of one issuer.
func (s *Service) beginWith(ctx context.Context, issuerID string, works []*Work, now time.Time) ([]Change, error) {
	authority, whyNot := works[0].ca, works[0].whyNot
	if whyNot != nil {
		if works[0].closed {
			s.noteAnswer(ctx, issuerID, now, now, whyNot)
		}
		a := Admitted{Admission: standing.Admission{Why: fault.From(whyNot).Message}}
		return s.instead(ctx, works, func(w *Work) Change { w.Attempts++; return s.outage(ctx, w, whyNot, now) }, a, now)
	}
	a, err := s.store.Ask(ctx, issuerID, works, now, now.Add(lease))
	if err != nil {
		return nil, err
	}
	s.settings.Circuit(issuerID, a.State)
	var changes []Change
	for _, w := range works[:a.Granted] {
		if !s.ask(ctx, w, authority) {
			changes = append(changes, released(w, now))
		}
	}
	late, err := s.instead(ctx, works[a.Granted:], func(w *Work) Change { return s.putBack(ctx, w, a, now) }, a, now)
	return append(changes, late...), err
}

// instead finds for jobs whose issuer cannot be asked now another that their policy names, or has them wait.
func (s *Service) instead(ctx context.Context, works []*Work, wait func(*Work) Change, a Admitted, now time.Time) ([]Change, error) {
	var changes []Change
	for _, w := range works {
		begun, err := s.fallBack(ctx, w, a.Why, now)
		if err != nil {
			return changes, err
		}
		if !begun {
			changes = append(changes, wait(w))
		}
	}
	return changes, nil
}

// ask has a job's request signed in the background. It is false if the service stops.
func (s *Service) ask(ctx context.Context, w *Work, authority ca.Issuer) bool {
	w.Attempts++
	return s.asking.begin(ctx, w, func(ctx context.Context) { s.askNow(ctx, w, authority) })
}

func (s *Service) askNow(ctx context.Context, w *Work, authority ca.Issuer) {
	began := s.clock.Now()
	limited, cancel := context.WithTimeout(ctx, s.settings.AnswerTimeout)
	defer cancel()
	what := w.signing(w.CSRPEM)
	what.ca, what.keep = authority, func(ctx context.Context, order []byte) error {
		return s.store.KeepOrder(ctx, w.ID, w.Token, w.IssuerID, order)
	}
	if w.OrderIssuerID == w.IssuerID {
		what.order = w.Order
	}
	v, err := s.sign(limited, what)
	now := s.clock.Now()
	// What was signed is to be stored, and places given back, even if the service stops.
	asking := ctx
	ctx, cancelStore := context.WithTimeout(context.WithoutCancel(ctx), lease)
	defer cancelStore()
	var c Change
	switch stopping := errors.Is(context.Cause(limited), errStopping); {
	case err != nil && stopping:
		c = released(w, now)
	case err != nil && limited.Err() != nil:
		err = fault.Wrap(err, fault.Unavailable, "issuer %s did not answer within %s", w.IssuerID, s.settings.AnswerTimeout)
		fallthrough
	default:
		s.noteAnswer(ctx, w.IssuerID, began, now, err)
		if w.failedToo(err) && s.askNextFallback(asking, w, now) {
			return
		}
		c = s.outcomeElsewhere(ctx, w, v, err, now)
	}
	c.Breaches = w.breaches
	if v != nil {
		// Some CAs show their chain only in what they issue, and it is put on record when they are looked up.
		if _, err := s.issuers.Issuer(ctx, w.IssuerID); err != nil {
			s.log.WarnContext(ctx, "what a CA has shown of itself could not be noted", obs.KeyIssuer, w.IssuerID, obs.KeyError, err)
		}
	}
	s.settle(ctx, w, c)
}

// noteAnswer keeps how the CA stands after a request.
func (s *Service) noteAnswer(ctx context.Context, issuerID string, began, now time.Time, err error) {
	if !saysAway(err) {
		err = nil
	}
	state, noteErr := s.store.Answered(ctx, issuerID, began, now, err)
	if noteErr != nil {
		s.log.WarnContext(ctx, "how a CA stands could not be noted", obs.KeyIssuer, issuerID, obs.KeyError, noteErr)
		return
	}
	s.settings.Circuit(issuerID, state)
}

// saysAway reports whether an error says that a CA is away or overloaded, rather than what it thinks of the request.
func saysAway(err error) bool {
	if _, unproven := errors.AsType[*ca.Unproven](err); unproven || err == nil {
		return false
	}
	if _, pending := errors.AsType[*ca.Pending](err); pending {
		return false
	}
	return fault.VerdictOf(err) == fault.Retry
}

// outcomeElsewhere is what becomes of a job whose request a CA elsewhere was asked to sign.
func (s *Service) outcomeElsewhere(ctx context.Context, w *Work, v *Version, err error, now time.Time) Change {
	if err == nil {
		return complete(w, v, now, "")
	}
	if p, ok := errors.AsType[*ca.Pending](err); ok {
		return ordered(w, p, now)
	}
	if w.failedToo(err) {
		return s.fallbackFailed(ctx, w, err, now)
	}
	if saysAway(err) {
		return s.outage(ctx, w, err, now)
	}
	return s.setback(w, err, now, "")
}

// settle makes the change of a job that was asked for in the background. It does not give up while the job is held: what
// a CA has signed is not to be lost to a database that is away for a moment.
func (s *Service) settle(ctx context.Context, w *Work, c Change) {
	for failures := 1; ; failures++ {
		applied, err := s.store.Apply(ctx, []Change{c})
		if err == nil {
			s.report(ctx, w, &c, applied[w.ID])
			return
		}
		s.log.WarnContext(ctx, "what became of a job could not be stored", obs.KeyJob, w.ID, obs.KeyError, err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(storePause.Delay(failures, nil)):
		}
	}
}
