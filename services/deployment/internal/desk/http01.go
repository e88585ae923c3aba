package desk

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/deployment/internal/fleet"
	"github.com/certctl/certctl/services/deployment/internal/outgoing"
	"github.com/certctl/certctl/services/deployment/internal/postgres"
	"github.com/certctl/certctl/services/deployment/internal/rollout"
)

const (
	// http01Jobs begins the ids of jobs that are the issuer's, and that no other order bears.
	http01Jobs = "job-h-"
	// http01Life bounds how long answers to a CA are shown, and how long an agent that is away may still take them back.
	http01Life = time.Hour
	http01Look = 50 * time.Millisecond
	// Answers are shown by the first attempt of their job and taken back by the second, whichever comes first.
	http01Show, http01Hide = 1, 2
)

// ShowHTTP01 has an agent answer a CA over HTTP-01, and returns when it does. Its error is Unavailable, in the agent's
// words if it has any, if the agent does not: what was ordered is to be taken back then. Committed is called when the order is
// stored.
func (d *Desk) ShowHTTP01(ctx context.Context, a command.AnswerHTTP01, committed func()) error {
	if err := d.orderHTTP01(ctx, a, http01Show); err != nil {
		return err
	}
	committed()
	look := time.NewTicker(http01Look)
	defer look.Stop()
	for {
		state, why, err := postgres.OrderState(ctx, d.DB, postgres.OrderKey{JobID: a.ID, Attempt: http01Show})
		switch {
		case ctx.Err() != nil:
			return fault.New(fault.Unavailable, "agent %s did not answer in time whether it shows a CA that names lead to its host; it may be away", a.AgentID)
		case err != nil:
			return pg.Fault(err)
		case state == rollout.OrderDone:
			return nil
		case state == rollout.OrderFailed:
			return fault.New(fault.Unavailable, "agent %s cannot show a CA that names lead to its host: %s", a.AgentID, why)
		case state != rollout.OrderSent && state != rollout.OrderStarted:
			return fault.New(fault.Unavailable, "agent %s was not asked in time", a.AgentID)
		}
		select {
		case <-ctx.Done():
		case <-look.C:
		}
	}
}

// HideHTTP01 has an agent take answers back, and does not wait for it.
func (d *Desk) HideHTTP01(ctx context.Context, a command.AnswerHTTP01) error {
	return d.orderHTTP01(ctx, a, http01Hide)
}

func (d *Desk) orderHTTP01(ctx context.Context, a command.AnswerHTTP01, attempt int) error {
	if !strings.HasPrefix(a.ID, http01Jobs) || !subject.Token(a.ID) || !subject.Token(a.AgentID) || len(a.Answers) == 0 {
		return fault.New(fault.Invalid, "a request to answer HTTP-01 names a job %s…, an agent and the answers", http01Jobs)
	}
	return pg.InTx(ctx, d.DB, func(tx pgx.Tx) error {
		agents, err := postgres.Agents(ctx, tx, []string{a.AgentID})
		if err != nil {
			return err
		}
		agent, known := agents[a.AgentID]
		if !known || agent.Status == fleet.Retired {
			return fault.New(fault.Unavailable, "there is no agent %s that could answer a CA, or it is retired", a.AgentID)
		}
		s := &said{now: d.Clock.Now()}
		cause := outgoing.CauseOf(ctx)
		body := a.HTTP01
		if latest := s.now.Add(http01Life); attempt == http01Hide || body.Until.After(latest) {
			body.Until = latest
		}
		o, err := d.order(rollout.Order{
			JobID: a.ID, Attempt: attempt, Verb: command.VerbHTTP01, AgentID: agent.ID, SiteID: agent.SiteID,
			ExpiresAt: body.Until, Correlation: cause.Correlation, TraceParent: cause.TraceParent,
		}, body, "", s.now)
		if err != nil {
			return err
		}
		if err := s.give(ctx, tx, []*rollout.Order{o}); err != nil {
			return err
		}
		return s.write(ctx, tx)
	})
}
