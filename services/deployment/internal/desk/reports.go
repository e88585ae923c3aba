package desk

import (
	"context"
	"maps"
	"slices"

	"github.com/go-json-experiment/json/v1"
	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/obs"
	"github.com/certctl/certctl/services/deployment/internal/fleet"
	"github.com/certctl/certctl/services/deployment/internal/outgoing"
	"github.com/certctl/certctl/services/deployment/internal/postgres"
	"github.com/certctl/certctl/services/deployment/internal/rollout"
	"github.com/certctl/certctl/services/deployment/internal/signature"
)

// report is what an agent says, once it is certain that the agent says it.
type report struct {
	command.AgentReport
	message bus.Message
}

// Reports takes in what agents say of their orders. It is a bus.Handler. A report
// whose author or order is not as it claims is refused whole, for the dead letters.
func (d *Desk) Reports(ctx context.Context, tx pgx.Tx, msgs []bus.Message) error {
	reports, err := d.authenticate(ctx, tx, msgs)
	if err != nil {
		return err
	}
	keys := make([]postgres.OrderKey, len(reports))
	jobIDs := make([]string, len(reports))
	for i, r := range reports {
		keys[i], jobIDs[i] = postgres.OrderKey{JobID: r.JobID, Attempt: r.Attempt}, r.JobID
	}
	jobs, err := postgres.LockJobs(ctx, tx, unique(jobIDs))
	if err != nil {
		return err
	}
	orders, err := postgres.LockOrders(ctx, tx, uniqueKeys(keys))
	if err != nil {
		return err
	}
	s := &said{now: d.Clock.Now()}
	var overtaken []*rollout.Job
	for i, r := range reports {
		o, j := orders[keys[i]], jobs[r.JobID]
		if err := d.owns(ctx, r, o); err != nil {
			return err
		}
		if j != nil && rollout.Overtaken(o, r.AgentReport) {
			overtaken = append(overtaken, j)
			continue
		}
		facts, err := rollout.Hear(o, j, r.AgentReport, s.now, d.Policy.Retry)
		if err != nil {
			return err
		}
		cause := outgoing.Cause{ID: r.message.ID, Correlation: o.Correlation, TraceParent: o.TraceParent}
		if err := s.facts(facts, cause); err != nil {
			return err
		}
	}
	if err := postgres.SaveJobs(ctx, tx, slices.Collect(maps.Values(jobs))); err != nil {
		return err
	}
	if err := postgres.SaveOrders(ctx, tx, slices.Collect(maps.Values(orders))); err != nil {
		return err
	}
	if err := d.mend(ctx, tx, s, overtaken); err != nil {
		return err
	}
	for _, j := range jobs {
		if !j.NextActionAt.IsZero() {
			d.planned.Store(true)
		}
	}
	return s.write(ctx, tx)
}

// mend deploys the newest version once more where an older one was installed after it.
// Where the newest is still on its way, it will arrive after the older one.
func (d *Desk) mend(ctx context.Context, tx pgx.Tx, s *said, overtaken []*rollout.Job) error {
	if len(overtaken) == 0 {
		return nil
	}
	undone, err := postgres.UndoneDeployments(ctx, tx, overtaken)
	if err != nil || len(undone) == 0 {
		return err
	}
	p := plan{desk: d, said: s}
	var targets, versions []string
	for _, u := range undone {
		d.Log.WarnContext(ctx, "an older version was installed after a newer one, which is deployed again",
			obs.KeyCertificate, u.CertificateID, obs.KeyTarget, u.TargetID, "version_id", u.VersionID)
		cause := outgoing.Cause{Correlation: u.Correlation, TraceParent: u.TraceParent}
		v := rollout.Version{ID: u.VersionID, CertificateID: u.CertificateID, Fingerprint: u.Fingerprint}
		p.jobs = append(p.jobs, newJob(v, u.TargetID, d.Policy.MaxAttempts, cause))
		p.causes = append(p.causes, cause)
		targets, versions = append(targets, u.TargetID), append(versions, u.VersionID)
	}
	if p.places, err = postgres.Places(ctx, tx, unique(targets)); err != nil {
		return err
	}
	if p.versions, err = postgres.Versions(ctx, tx, unique(versions)); err != nil {
		return err
	}
	if err := p.begin(); err != nil {
		return err
	}
	return p.insert(ctx, tx)
}

// authenticate decodes reports and checks each against the key of the agent that the
// subject names: the servers let nobody else publish there, and the signature shows
// that the leaf on the way has not put words into the agent's mouth.
func (d *Desk) authenticate(ctx context.Context, tx pgx.Tx, msgs []bus.Message) ([]report, error) {
	speakers := make([]subject.Agent, len(msgs))
	ids := make([]string, len(msgs))
	for i, m := range msgs {
		speaker, ok := subject.ParseAgent(m.Subject)
		if !ok {
			return nil, fault.New(fault.Invalid, "subject %s names no agent", m.Subject)
		}
		speakers[i], ids[i] = speaker, speaker.Agent
	}
	agents, err := postgres.Agents(ctx, tx, unique(ids))
	if err != nil {
		return nil, err
	}
	refuse := func(i int, err error) error {
		d.Log.ErrorContext(ctx, "refused a report", obs.KeySubject, msgs[i].Subject, obs.KeyAgent, speakers[i].Agent,
			obs.KeySite, speakers[i].Site, obs.KeyJob, speakers[i].Job, obs.KeyError, err)
		return err
	}
	signed := make([]signature.Report, len(msgs))
	for i, m := range msgs {
		if signed[i], err = open(m, speakers[i], agents); err != nil {
			return nil, refuse(i, err)
		}
	}
	if i, err := signature.Verify(signed); err != nil {
		return nil, refuse(i, fault.Wrap(err, fault.Forbidden, "the report is not signed by agent %s", speakers[i].Agent))
	}
	reports := make([]report, len(msgs))
	for i, m := range msgs {
		reports[i].message = m
		if reports[i].AgentReport, err = read(signed[i].Payload, speakers[i]); err != nil {
			return nil, refuse(i, err)
		}
	}
	return reports, nil
}

// open takes a report out of its message, if the agent that the subject names may speak there. Its signature is still to be
// verified.
func open(m bus.Message, speaker subject.Agent, agents map[string]fleet.Agent) (signature.Report, error) {
	var r signature.Report
	agent, known := agents[speaker.Agent]
	switch {
	case !known:
		return r, fault.New(fault.Forbidden, "there is no agent %s", speaker.Agent)
	case agent.SiteID != speaker.Site:
		return r, fault.New(fault.Forbidden, "agent %s is of site %s and spoke through %s", agent.ID, agent.SiteID, speaker.Site)
	case agent.Status == fleet.Retired:
		return r, fault.New(fault.Forbidden, "agent %s is retired", agent.ID)
	}
	var signed command.Signed
	// By the code that encoding/json is made of from Go 1.27 on, which takes half the time and makes the same of it.
	if err := json.Unmarshal(m.Body, &signed); err != nil {
		return r, fault.Wrap(err, fault.Invalid, "the report is not a signed one")
	}
	return signature.Report{AgentKey: agent.PublicKey, Payload: signed.Payload, Signature: signed.Signature}, nil
}

// read decodes a report whose signature was verified.
func read(payload []byte, speaker subject.Agent) (command.AgentReport, error) {
	var r command.AgentReport
	if err := json.Unmarshal(payload, &r); err != nil {
		return r, fault.Wrap(err, fault.Invalid, "the report cannot be read")
	}
	if r.AgentID != speaker.Agent || r.JobID != speaker.Job {
		return r, fault.New(fault.Forbidden, "the report is by %s on job %s and came as by %s on job %s",
			r.AgentID, r.JobID, speaker.Agent, speaker.Job)
	}
	return r, nil
}

// owns checks that the order was given to the agent that reports on it.
func (d *Desk) owns(ctx context.Context, r report, o *rollout.Order) error {
	var err error
	switch {
	case o == nil:
		err = fault.New(fault.NotFound, "job %s has no attempt %d", r.JobID, r.Attempt)
	case o.AgentID != r.AgentID:
		err = fault.New(fault.Forbidden, "attempt %d of job %s was given to agent %s, not to %s", r.Attempt, r.JobID, o.AgentID, r.AgentID)
	default:
		return nil
	}
	d.Log.ErrorContext(ctx, "refused a report", obs.KeyAgent, r.AgentID, obs.KeyJob, r.JobID, obs.KeyAttempt, r.Attempt, obs.KeyError, err)
	return err
}

func uniqueKeys(keys []postgres.OrderKey) []postgres.OrderKey {
	seen := make(map[postgres.OrderKey]bool, len(keys))
	out := keys[:0:0]
	for _, k := range keys {
		if !seen[k] {
			seen[k] = true
			out = append(out, k)
		}
	}
	return out
}
