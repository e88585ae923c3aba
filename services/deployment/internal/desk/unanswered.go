package desk

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/deployment/internal/outgoing"
	"github.com/certctl/certctl/services/deployment/internal/postgres"
	"github.com/certctl/certctl/services/deployment/internal/rollout"
)

// Chase deals with orders that were not answered in time: it sends them again, or, if
// they have expired, gives their jobs another attempt or up. It returns how many.
func (d *Desk) Chase(ctx context.Context) (n int, err error) {
	err = pg.InTx(ctx, d.DB, func(tx pgx.Tx) error {
		now := d.Clock.Now()
		keys, err := postgres.DueOrders(ctx, tx, now, batch)
		n = len(keys)
		if err != nil || n == 0 {
			return err
		}
		contents, err := postgres.Contents(ctx, tx, keys)
		if err != nil {
			return err
		}
		return d.each(ctx, tx, keys, now, func(s *said, o *rollout.Order, j *rollout.Job) error {
			switch {
			case o.Deadline.After(now):
				return nil
			case o.ExpiresAt.After(now):
				o.Resend(now, d.Policy.Resend)
				if err := d.again(o, contents[postgres.Key(o)]); err != nil {
					return err
				}
				return s.order(o)
			default:
				return s.facts(rollout.Expire(o, j, now, d.Policy.Retry), outgoing.Cause{Correlation: o.Correlation, TraceParent: o.TraceParent})
			}
		})
	})
	return n, err
}

// Withdraw fails all that an agent has not answered. The caller holds the agent's row
// for update.
func (d *Desk) Withdraw(ctx context.Context, tx pgx.Tx, agentID, why string, cause outgoing.Cause) error {
	keys, err := postgres.OpenOrders(ctx, tx, agentID)
	if err != nil || len(keys) == 0 {
		return err
	}
	now := d.Clock.Now()
	return d.each(ctx, tx, keys, now, func(s *said, o *rollout.Order, j *rollout.Job) error {
		return s.facts(rollout.Withdraw(o, j, why, now), cause)
	})
}

// each changes open orders and their jobs, and stores the result with what is said.
func (d *Desk) each(ctx context.Context, tx pgx.Tx, keys []postgres.OrderKey, now time.Time,
	change func(*said, *rollout.Order, *rollout.Job) error,
) error {
	ids := make([]string, len(keys))
	for i, k := range keys {
		ids[i] = k.JobID
	}
	jobs, err := postgres.LockJobs(ctx, tx, unique(ids))
	if err != nil {
		return err
	}
	orders, err := postgres.LockOrders(ctx, tx, keys)
	if err != nil {
		return err
	}
	s := &said{now: now}
	for _, k := range keys {
		o := orders[k]
		if o == nil || !o.Open() {
			continue
		}
		if err := change(s, o, jobs[o.JobID]); err != nil {
			return err
		}
	}
	if err := postgres.SaveJobs(ctx, tx, slices.Collect(maps.Values(jobs))); err != nil {
		return err
	}
	if err := postgres.SaveOrders(ctx, tx, slices.Collect(maps.Values(orders))); err != nil {
		return err
	}
	return s.write(ctx, tx)
}

// Cancel calls a job off at somebody's wish. A job that has ended is a Conflict.
func (d *Desk) Cancel(ctx context.Context, tx pgx.Tx, jobID, why string) error {
	jobs, err := postgres.LockJobs(ctx, tx, []string{jobID})
	if err != nil {
		return err
	}
	j := jobs[jobID]
	now := d.Clock.Now()
	switch {
	case j == nil:
		return fault.New(fault.NotFound, "there is no job %s", jobID)
	case !j.Cancel(why, now):
		return fault.New(fault.Conflict, "job %s has ended already: it is %s", jobID, j.Status)
	}
	if err := postgres.SaveJobs(ctx, tx, []*rollout.Job{j}); err != nil || j.Attempts == 0 {
		return err
	}
	orders, err := postgres.LockOrders(ctx, tx, []postgres.OrderKey{{JobID: jobID, Attempt: j.Attempts}})
	if err != nil {
		return err
	}
	for _, o := range orders {
		if o.Open() {
			o.Close(rollout.OrderSuperseded, now)
		}
	}
	return postgres.SaveOrders(ctx, tx, slices.Collect(maps.Values(orders)))
}
