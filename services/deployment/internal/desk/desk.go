// Package desk is where the two accounts meet: events come in and become signed orders
// to agents, signed reports come in and become events.
//
// Everything is done in batches, each in one transaction with what it has to say in
// the outbox. The rules are those of package rollout. Nothing here waits for anything
// but Postgres, so the row locks of a transaction are all the lease that claimed work
// needs.
package desk

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/id"
	"github.com/certctl/certctl/libs/outbox"
	"github.com/certctl/certctl/libs/retry"
	"github.com/certctl/certctl/services/deployment/internal/outgoing"
	"github.com/certctl/certctl/services/deployment/internal/platform"
	"github.com/certctl/certctl/services/deployment/internal/postgres"
	"github.com/certctl/certctl/services/deployment/internal/rollout"
)

// Policy is how patient the service is.
type Policy struct {
	MaxAttempts int
	// Retry spaces the attempts of a job, Resend the repeats of an unanswered order.
	Retry, Resend retry.Policy
	// OrderLife is how long an agent that is away may still carry out an order.
	OrderLife time.Duration
}

// Desk is safe for concurrent use.
type Desk struct {
	DB     *pgxpool.Pool
	Key    *platform.Key
	Clock  clock.Clock
	Log    *slog.Logger
	Policy Policy

	planned atomic.Bool
}

// Planned reports whether, since it was last asked, a report made another attempt due
// at a time.
func (d *Desk) Planned() bool { return d.planned.Swap(false) }

// validationLife is how long an agent that is away may be asked what is served: later the
// answer is to a question of yesterday.
const validationLife = 10 * time.Minute

// batch is how many rows a sweep takes at once.
const batch = 200

// order makes and signs an order. The chain is that of a deployment, whose body is without it.
func (d *Desk) order(o rollout.Order, body any, chain string, now time.Time) (*rollout.Order, error) {
	o.State, o.Sends, o.CreatedAt = rollout.OrderSent, 1, now
	o.Deadline = now.Add(d.Policy.Resend.Delay(1, nil))
	if o.Deadline.After(o.ExpiresAt) {
		o.Deadline = o.ExpiresAt
	}
	var err error
	if o.Body, err = json.Marshal(body); err != nil {
		return nil, fmt.Errorf("encode order of job %s: %w", o.JobID, err)
	}
	return &o, d.sign(&o, body, chain)
}

// again signs an order that is sent once more: the same one.
func (d *Desk) again(o *rollout.Order, c postgres.Content) error {
	var body any = json.RawMessage(c.Body)
	if o.Verb == command.VerbDeploy || o.Verb == command.VerbVerify {
		var deploy command.Deploy
		if err := json.Unmarshal(c.Body, &deploy); err != nil {
			return fmt.Errorf("read order of job %s: %w", o.JobID, err)
		}
		body = deploy
	}
	return d.sign(o, body, c.PEMChain)
}

func (d *Desk) sign(o *rollout.Order, body any, chain string) (err error) {
	if deploy, ok := body.(command.Deploy); ok {
		deploy.PEMChain = chain
		body = deploy
	}
	o.Signed, err = d.Key.Sign(command.AgentCommand{
		JobID: o.JobID, Attempt: o.Attempt, SiteID: o.SiteID, AgentID: o.AgentID, Verb: o.Verb,
		IssuedAt: o.CreatedAt, ExpiresAt: o.ExpiresAt,
	}, body)
	return err
}

// attempt begins the next attempt at a job.
func (d *Desk) attempt(j *rollout.Job, v rollout.Version, p *rollout.Place, now time.Time) (*rollout.Order, error) {
	j.Attempt(p.AgentID)
	verb, life := command.VerbDeploy, d.Policy.OrderLife
	if j.Type == rollout.TypeValidation {
		verb, life = command.VerbVerify, min(life, validationLife)
	}
	expires := now.Add(life)
	if v.NotAfter.Before(expires) {
		expires = v.NotAfter
	}
	return d.order(rollout.Order{
		JobID: j.ID, Attempt: j.Attempts, Verb: verb, AgentID: p.AgentID, SiteID: p.SiteID,
		CertificateID: j.CertificateID, ExpiresAt: expires, Correlation: j.Correlation, TraceParent: j.TraceParent,
	}, command.Deploy{
		CertificateID: j.CertificateID, VersionID: v.ID, FingerprintSHA256: v.Fingerprint,
		TargetID: j.TargetID, TargetType: p.Type, TargetConfig: p.Config,
	}, v.PEMChain, now)
}

func newJob(v rollout.Version, targetID string, maxAttempts int, cause outgoing.Cause) *rollout.Job {
	return &rollout.Job{
		ID: id.New("job-d-"), Type: rollout.TypeDeployment, CertificateID: v.CertificateID, VersionID: v.ID, TargetID: targetID, Fingerprint: v.Fingerprint,
		Status: rollout.Pending, MaxAttempts: maxAttempts, Correlation: cause.Correlation, TraceParent: cause.TraceParent,
	}
}

// said gathers what a transaction has to say.
type said struct {
	now      time.Time
	messages []outbox.Message
}

func (s *said) facts(facts []rollout.Fact, cause outgoing.Cause) error {
	for _, f := range facts {
		m, err := outgoing.Event(f.Event, f.Revision, s.now, cause)
		if err != nil {
			return err
		}
		s.messages = append(s.messages, m)
	}
	return nil
}

func (s *said) order(o *rollout.Order) error {
	m, err := outgoing.Order(*o, s.now)
	if err != nil {
		return err
	}
	s.messages = append(s.messages, m)
	return nil
}

// give stores orders and sends those that are new.
func (s *said) give(ctx context.Context, tx pgx.Tx, orders []*rollout.Order) error {
	added, err := postgres.InsertOrders(ctx, tx, orders, s.now)
	if err != nil {
		return err
	}
	for _, o := range orders {
		if added[postgres.Key(o)] {
			if err := s.order(o); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *said) write(ctx context.Context, tx pgx.Tx) error {
	return outbox.Insert(ctx, tx, s.messages...)
}
