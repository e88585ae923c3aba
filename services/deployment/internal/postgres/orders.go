package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/deployment/internal/rollout"
)

// OrderKey names an order.
type OrderKey struct {
	JobID   string
	Attempt int
}

// Key is the key of an order.
func Key(o *rollout.Order) OrderKey { return OrderKey{o.JobID, o.Attempt} }

// One look finds the latest attempt before; where there is none, as almost always, nothing is to be closed.
const insertOrders = `WITH n AS MATERIALIZED (
	SELECT n.*, (SELECT max(w.attempt) FROM agent_work w WHERE w.job_id = n.job_id) AS latest
	FROM unnest($1::text[], $2::int[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bytea[],
		$8::timestamptz[], $9::timestamptz[], $10::text[], $11::text[])
		AS n (job_id, attempt, verb, agent_id, site_id, certificate_id, body, deadline, expires_at, correlation_id, trace_parent)
), earlier AS (
	UPDATE agent_work w SET state = 'Superseded', body = NULL, deadline = NULL, closed_at = $12
	FROM n WHERE n.latest < n.attempt AND w.job_id = n.job_id AND w.attempt < n.attempt AND w.closed_at IS NULL
)
INSERT INTO agent_work (job_id, attempt, verb, agent_id, site_id, certificate_id, state, body, deadline,
	expires_at, correlation_id, trace_parent, created_at)
SELECT job_id, attempt, verb, agent_id, site_id, certificate_id, 'Sent', body, deadline, expires_at,
	correlation_id, trace_parent, $12
FROM n WHERE latest IS NULL OR latest < attempt
RETURNING job_id, attempt`

// InsertOrders adds orders and returns the keys of those that were added. An order
// that is there already, or whose job has come to a later attempt, is not; an open
// order of an earlier attempt is closed.
func InsertOrders(ctx context.Context, tx pgx.Tx, orders []*rollout.Order, now time.Time) (map[OrderKey]bool, error) {
	if len(orders) == 0 {
		return nil, nil
	}
	keys, err := collect(
		ctx, tx, pgx.RowToStructByPos[OrderKey], insertOrders, kept,
		column(orders, func(o *rollout.Order) string { return o.JobID }),
		column(orders, func(o *rollout.Order) int { return o.Attempt }),
		column(orders, func(o *rollout.Order) string { return o.Verb }),
		column(orders, func(o *rollout.Order) string { return o.AgentID }),
		column(orders, func(o *rollout.Order) string { return o.SiteID }),
		column(orders, func(o *rollout.Order) string { return o.CertificateID }),
		column(orders, func(o *rollout.Order) []byte { return o.Body }),
		column(orders, func(o *rollout.Order) time.Time { return o.Deadline }),
		column(orders, func(o *rollout.Order) time.Time { return o.ExpiresAt }),
		column(orders, func(o *rollout.Order) string { return o.Correlation }),
		column(orders, func(o *rollout.Order) string { return o.TraceParent }),
		now,
	)
	if err != nil {
		return nil, fmt.Errorf("insert %d orders: %w", len(orders), err)
	}
	added := make(map[OrderKey]bool, len(keys))
	for _, k := range keys {
		added[k] = true
	}
	return added, nil
}

const lockOrders = `SELECT w.job_id, w.attempt, w.verb, w.agent_id, w.site_id, w.certificate_id, w.state, w.sends,
	w.deadline, w.expires_at, w.created_at, w.closed_at, w.correlation_id, w.trace_parent, w.reason
FROM agent_work w JOIN unnest($1::text[], $2::int[]) AS n (job_id, attempt)
	ON w.job_id = n.job_id AND w.attempt = n.attempt
ORDER BY w.job_id, w.attempt FOR UPDATE OF w`

// LockOrders reads orders for a change, by key.
func LockOrders(ctx context.Context, tx pgx.Tx, keys []OrderKey) (map[OrderKey]*rollout.Order, error) {
	found, err := collect(
		ctx, tx, scanOrder, lockOrders, kept,
		column(keys, func(k OrderKey) string { return k.JobID }),
		column(keys, func(k OrderKey) int { return k.Attempt }),
	)
	if err != nil {
		return nil, fmt.Errorf("lock %d orders: %w", len(keys), err)
	}
	orders := make(map[OrderKey]*rollout.Order, len(found))
	for _, o := range found {
		orders[Key(o)] = o
	}
	return orders, nil
}

func scanOrder(row pgx.CollectableRow) (*rollout.Order, error) {
	var o rollout.Order
	var deadline, closed *time.Time
	err := row.Scan(&o.JobID, &o.Attempt, &o.Verb, &o.AgentID, &o.SiteID, &o.CertificateID, &o.State,
		&o.Sends, &deadline, &o.ExpiresAt, &o.CreatedAt, &closed, &o.Correlation, &o.TraceParent, &o.Reason)
	o.Deadline, o.ClosedAt = orZero(deadline), orZero(closed)
	return &o, err
}

// Content is what an order says, in parts: its body, and the chain that a deployment brings.
type Content struct {
	Body     []byte
	PEMChain string
}

const contents = `SELECT w.job_id, w.attempt, w.body, coalesce(v.pem_chain, '')
FROM agent_work w JOIN unnest($1::text[], $2::int[]) AS n (job_id, attempt)
	ON w.job_id = n.job_id AND w.attempt = n.attempt
LEFT JOIN jobs j ON j.id = w.job_id
LEFT JOIN versions v ON v.id = j.version_id`

// Contents reads what orders say that are open. It stays the same as long as they are.
func Contents(ctx context.Context, tx pgx.Tx, keys []OrderKey) (map[OrderKey]Content, error) {
	found := make(map[OrderKey]Content, len(keys))
	_, err := collect(
		ctx, tx, func(row pgx.CollectableRow) (k OrderKey, err error) {
			var c Content
			err = row.Scan(&k.JobID, &k.Attempt, &c.Body, &c.PEMChain)
			found[k] = c
			return k, err
		}, contents,
		column(keys, func(k OrderKey) string { return k.JobID }),
		column(keys, func(k OrderKey) int { return k.Attempt }),
	)
	if err != nil {
		return nil, fmt.Errorf("read %d orders: %w", len(keys), err)
	}
	return found, nil
}

const (
	dueOrders  = `SELECT job_id, attempt FROM agent_work WHERE deadline <= $1 ORDER BY deadline LIMIT $2`
	openOrders = `SELECT job_id, attempt FROM agent_work WHERE agent_id = $1 AND deadline IS NOT NULL`
)

// DueOrders lists orders whose deadline has passed. They are not claimed yet: their
// jobs are to be locked first.
func DueOrders(ctx context.Context, tx pgx.Tx, now time.Time, limit int) ([]OrderKey, error) {
	keys, err := collect(ctx, tx, pgx.RowToStructByPos[OrderKey], dueOrders, now, limit)
	if err != nil {
		return nil, fmt.Errorf("find due orders: %w", err)
	}
	return keys, nil
}

// OpenOrders lists what an agent has not answered.
func OpenOrders(ctx context.Context, tx pgx.Tx, agentID string) ([]OrderKey, error) {
	keys, err := collect(ctx, tx, pgx.RowToStructByPos[OrderKey], openOrders, agentID)
	if err != nil {
		return nil, fmt.Errorf("find open orders of %s: %w", agentID, err)
	}
	return keys, nil
}

const orderState = `SELECT state, reason FROM agent_work WHERE job_id = $1 AND attempt = $2`

// OrderState is how far an order has come, and what the agent said of it if it failed.
func OrderState(ctx context.Context, db Querier, k OrderKey) (state rollout.OrderState, reason string, err error) {
	if err := db.QueryRow(ctx, orderState, k.JobID, k.Attempt).Scan(&state, &reason); err != nil {
		return "", "", fmt.Errorf("read order %s/%d: %w", k.JobID, k.Attempt, err)
	}
	return state, reason, nil
}

// NextOrder is when the next deadline of any order is.
func NextOrder(ctx context.Context, db Querier) (time.Time, error) {
	return next(ctx, db, "an order", `SELECT min(deadline) FROM agent_work WHERE deadline IS NOT NULL`)
}

const saveOrders = `UPDATE agent_work w SET state = n.state, sends = n.sends, deadline = n.deadline, closed_at = n.closed_at,
	body = CASE WHEN n.closed_at IS NULL THEN w.body END, reason = n.reason
FROM unnest($1::text[], $2::int[], $3::text[], $4::int[], $5::timestamptz[], $6::timestamptz[], $7::text[])
	AS n (job_id, attempt, state, sends, deadline, closed_at, reason)
WHERE w.job_id = n.job_id AND w.attempt = n.attempt`

// SaveOrders writes back orders that this transaction holds.
func SaveOrders(ctx context.Context, tx pgx.Tx, orders []*rollout.Order) error {
	if len(orders) == 0 {
		return nil
	}
	err := apply(
		ctx, tx, saveOrders, kept,
		column(orders, func(o *rollout.Order) string { return o.JobID }),
		column(orders, func(o *rollout.Order) int { return o.Attempt }),
		column(orders, func(o *rollout.Order) string { return string(o.State) }),
		column(orders, func(o *rollout.Order) int { return o.Sends }),
		column(orders, func(o *rollout.Order) *time.Time { return orNull(o.Deadline) }),
		column(orders, func(o *rollout.Order) *time.Time { return orNull(o.ClosedAt) }),
		column(orders, func(o *rollout.Order) string { return o.Reason }),
	)
	if err != nil {
		return fmt.Errorf("save %d orders: %w", len(orders), err)
	}
	return nil
}

const hurryOrders = `UPDATE agent_work SET deadline = least(deadline, $2)
WHERE agent_id = ANY($1) AND state = 'Sent' AND deadline > $2`

// HurryOrders brings the deadlines of agents that came back forward: what was on its
// way to them may have been lost.
func HurryOrders(ctx context.Context, tx pgx.Tx, agentIDs []string, deadline time.Time) error {
	if err := apply(ctx, tx, hurryOrders, agentIDs, deadline); err != nil {
		return fmt.Errorf("hurry the orders of %d agents: %w", len(agentIDs), err)
	}
	return nil
}

// PruneOrders forgets orders that were closed before a time. A report on one of them would
// be refused, so the time lies further back than any report can come from.
func PruneOrders(ctx context.Context, db pg.Sweeper, before time.Time) error {
	if _, err := pg.Sweep(ctx, db, "agent_work", "closed_at < $1", before); err != nil {
		return fmt.Errorf("prune orders: %w", err)
	}
	return nil
}
