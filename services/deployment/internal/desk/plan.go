package desk

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/deployment/internal/outgoing"
	"github.com/certctl/certctl/services/deployment/internal/postgres"
	"github.com/certctl/certctl/services/deployment/internal/rollout"
)

// plan is a set of jobs whose next attempt begins now.
type plan struct {
	desk     *Desk
	said     *said
	places   map[string]*rollout.Place
	versions map[string]rollout.Version

	jobs   []*rollout.Job
	causes []outgoing.Cause
	// orders has, for each job, its order, or nil if the job cannot be begun and has
	// failed.
	orders []*rollout.Order
}

func (p *plan) begin() error {
	p.orders = make([]*rollout.Order, len(p.jobs))
	for i, j := range p.jobs {
		v, place := p.versions[j.VersionID], p.places[j.TargetID]
		if why := rollout.Objection(v, j.TargetID, place, p.said.now); why != "" {
			j.Fail(why, p.said.now)
			continue
		}
		var err error
		if p.orders[i], err = p.desk.attempt(j, v, place, p.said.now); err != nil {
			return err
		}
	}
	return nil
}

// insert stores jobs that are new, with what follows from them. For a version that is on
// its way already there is no second job.
func (p *plan) insert(ctx context.Context, tx pgx.Tx) error {
	added, err := postgres.InsertJobs(ctx, tx, p.jobs, p.said.now)
	if err != nil {
		return err
	}
	return p.give(ctx, tx, func(j *rollout.Job) bool { return added[j.ID] })
}

// save stores jobs that this transaction holds, with what follows from them.
func (p *plan) save(ctx context.Context, tx pgx.Tx) error {
	if err := postgres.SaveJobs(ctx, tx, p.jobs); err != nil {
		return err
	}
	return p.give(ctx, tx, func(*rollout.Job) bool { return true })
}

func (p *plan) give(ctx context.Context, tx pgx.Tx, stored func(*rollout.Job) bool) error {
	var orders []*rollout.Order
	for i, j := range p.jobs {
		switch {
		case !stored(j):
		case p.orders[i] != nil:
			orders = append(orders, p.orders[i])
		default:
			if err := p.said.facts([]rollout.Fact{{Event: j.Failure(), Revision: j.Revision}}, p.causes[i]); err != nil {
				return err
			}
		}
	}
	return p.said.give(ctx, tx, orders)
}

// Dispatch begins attempts that are due, and returns how many.
func (d *Desk) Dispatch(ctx context.Context) (n int, err error) {
	err = pg.InTx(ctx, d.DB, func(tx pgx.Tx) error {
		s := &said{now: d.Clock.Now()}
		jobs, err := postgres.DueJobs(ctx, tx, s.now, batch)
		n = len(jobs)
		if err != nil || n == 0 {
			return err
		}
		p := plan{desk: d, said: s, jobs: jobs}
		var targets, versions []string
		for _, j := range jobs {
			targets, versions = append(targets, j.TargetID), append(versions, j.VersionID)
			p.causes = append(p.causes, outgoing.Cause{Correlation: j.Correlation, TraceParent: j.TraceParent})
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
		if err := p.save(ctx, tx); err != nil {
			return err
		}
		return s.write(ctx, tx)
	})
	return n, err
}
