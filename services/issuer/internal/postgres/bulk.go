package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/page"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/issuer/internal/bulk"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
)

const operationColumns = `o.id, o.action, o.status, o.filter, o.owner_id, o.team_id, o.environment, o.requested_by, o.scope,
	o.correlation_id, o.trace_parent, o.total, o.pending, o.succeeded, o.refused, o.cancelled, o.error,
	o.created_at, o.started_at, o.completed_at`

func scanOperation(row pgx.CollectableRow) (bulk.Operation, error) {
	var o bulk.Operation
	var filter, scope []byte
	var started, completed *time.Time
	err := row.Scan(&o.ID, &o.Action, &o.Status, &filter, &o.To.OwnerID, &o.To.TeamID, &o.To.Environment, &o.Origin.Actor, &scope,
		&o.Origin.CorrelationID, &o.Origin.TraceParent, &o.Total, &o.Pending, &o.Succeeded, &o.Refused, &o.Cancelled, &o.Error,
		&o.CreatedAt, &started, &completed)
	if err != nil {
		return o, err
	}
	o.Filter, o.StartedAt, o.CompletedAt = filter, orZero(started), orZero(completed)
	if err := json.Unmarshal(scope, &o.Scope); err != nil {
		return o, fmt.Errorf("scope of %s: %w", o.ID, err)
	}
	return o, nil
}

// chosenColumns are those of a certificate, and the agent of its first target with whether that is enabled.
const chosenColumns = certificateColumns + `,
	(SELECT jsonb_build_object('AgentID', COALESCE(ta.agent_id, ''), 'Enabled', COALESCE(ta.enabled, false))
		FROM certificate_targets ct LEFT JOIN target_agents ta ON ta.target_id = ct.target_id AND NOT ta.deleted
		WHERE ct.certificate_id = c.id ORDER BY ct.position LIMIT 1)`

func chosenScan() func(row pgx.CollectableRow) (bulk.Chosen, error) {
	var first *issuance.Target
	scan := certificateScan(&first)
	return func(row pgx.CollectableRow) (bulk.Chosen, error) {
		first = nil
		c, err := scan(row)
		chosen := bulk.Chosen{Certificate: c}
		if first != nil {
			chosen.First = *first
		}
		return chosen, err
	}
}

// Chosen implements [bulk.Store].
func (s *Store) Chosen(ctx context.Context, scope authn.Scope, sel bulk.Selection, limit int, each func(*bulk.Chosen) error) error {
	var c conditions
	c.scope(scope)
	if sel.Filter != nil {
		c.certificates(sel.Filter)
	} else {
		c.parts = append(c.parts, "c.id = ANY("+c.arg(sel.IDs)+")")
	}
	rows, err := s.pool.Query(ctx, "SELECT "+chosenColumns+" FROM certificates c"+c.where()+
		" ORDER BY c.id LIMIT "+strconv.Itoa(limit), c.planned(c.args)...)
	if err != nil {
		return pg.Fault(fmt.Errorf("choose certificates: %w", err))
	}
	defer rows.Close()
	scan := chosenScan()
	for rows.Next() {
		found, err := scan(rows)
		if err != nil {
			return fmt.Errorf("choose certificates: %w", err)
		}
		if err := each(&found); err != nil {
			return err
		}
	}
	return pg.Fault(rows.Err())
}

// Known implements [bulk.Store].
func (s *Store) Known(ctx context.Context, to bulk.Destination) (owner, team bool, err error) {
	err = s.pool.QueryRow(ctx, `SELECT $1::text IS NULL OR EXISTS (SELECT FROM owners WHERE id = $1),
		$2::text IS NULL OR EXISTS (SELECT FROM teams WHERE id = $2)`, to.OwnerID, to.TeamID).Scan(&owner, &team)
	return owner, team, pg.Fault(err)
}

// chosenSQL is the query for what a selection has: ids with their places, and whether they are there.
func chosenSQL(c *conditions, scope authn.Scope, sel bulk.Selection, limit int) string {
	if sel.Filter == nil {
		ids := c.arg(sel.IDs)
		c.scope(scope)
		return `SELECT t.id, t.position, c.id IS NOT NULL AS found
		FROM unnest(` + ids + `::text[]) WITH ORDINALITY AS t (id, position)
		LEFT JOIN certificates c ON c.id = t.id` + c.and()
	}
	c.scope(scope)
	c.certificates(sel.Filter)
	// Counting stops at one more than can be.
	return `SELECT id, row_number() OVER (ORDER BY id) AS position, true AS found
		FROM (SELECT c.id FROM certificates c` + c.where() + ` LIMIT ` + strconv.Itoa(limit+1) + `) AS admitted`
}

// CreateBulk implements [bulk.Store]. What is chosen is chosen by the statement that stores it.
func (s *Store) CreateBulk(ctx context.Context, o bulk.Operation, sel bulk.Selection, limit int) (bulk.Operation, error) {
	scope, err := json.Marshal(o.Scope)
	if err != nil {
		return o, fmt.Errorf("encode the scope of %s: %w", o.ID, err)
	}
	var filter *string
	if len(o.Filter) > 0 {
		text := string(o.Filter)
		filter = &text
	}
	c := conditions{args: []any{
		o.ID, string(o.Action), filter, o.To.OwnerID, o.To.TeamID, o.To.Environment, o.Origin.Actor, string(scope),
		o.Origin.CorrelationID, o.Origin.TraceParent, o.CreatedAt,
	}}
	sql := `WITH chosen AS MATERIALIZED (
		` + chosenSQL(&c, o.Scope, sel, limit) + `
	), counted AS (
		SELECT count(*) AS total, count(*) FILTER (WHERE found) AS pending FROM chosen
	), o AS (
		INSERT INTO bulk_operations (id, action, status, filter, owner_id, team_id, environment, requested_by, scope,
			correlation_id, trace_parent, total, pending, refused, worked_at, created_at, completed_at)
		SELECT $1, $2, CASE WHEN pending = 0 THEN 'Completed' ELSE 'Pending' END, $3::jsonb, $4, $5, $6, $7, $8::jsonb,
			$9, $10, total, pending, total - pending, $11, $11, CASE WHEN pending = 0 THEN $11::timestamptz END
		FROM counted WHERE total <= ` + strconv.Itoa(limit) + `
		RETURNING *
	), item AS (
		INSERT INTO bulk_items (operation_id, position, certificate_id, status, reason)
		SELECT o.id, chosen.position, chosen.id, CASE WHEN found THEN 'Pending' ELSE 'Refused' END,
			CASE WHEN found THEN '' ELSE 'there is no certificate ' || chosen.id END
		FROM chosen, o
	)
	SELECT ` + operationColumns + ` FROM o`
	rows, err := s.pool.Query(ctx, sql, c.args...)
	if err != nil {
		return o, pg.Fault(fmt.Errorf("make a bulk operation: %w", err))
	}
	made, err := pgx.CollectExactlyOneRow(rows, scanOperation)
	if errors.Is(err, pgx.ErrNoRows) {
		return o, bulk.TooMany()
	}
	if err != nil {
		return o, pg.Fault(fmt.Errorf("make a bulk operation: %w", err))
	}
	return made, nil
}

func (c *conditions) viewer(v bulk.Viewer) {
	if v.Own != "" {
		c.parts = append(c.parts, "o.requested_by = "+c.arg(v.Own))
	}
}

// BulkOperation returns an operation, NotFound if there is none that the viewer may see.
func (s *Store) BulkOperation(ctx context.Context, v bulk.Viewer, id string) (bulk.Operation, error) {
	c := conditions{args: []any{id}}
	c.viewer(v)
	rows, err := s.pool.Query(ctx, `SELECT `+operationColumns+` FROM bulk_operations o WHERE o.id = $1`+c.and(), c.args...)
	if err != nil {
		return bulk.Operation{}, pg.Fault(fmt.Errorf("read bulk operation %s: %w", id, err))
	}
	o, err := pgx.CollectExactlyOneRow(rows, scanOperation)
	if errors.Is(err, pgx.ErrNoRows) {
		return o, fault.New(fault.NotFound, "there is no bulk operation %s", id)
	}
	return o, pg.Fault(err)
}

// BulkOperations returns a page of the operations that the viewer may see, newest first.
func (s *Store) BulkOperations(ctx context.Context, v bulk.Viewer, status *string, p Page) (List[bulk.Operation], error) {
	var c conditions
	c.viewer(v)
	c.equal("o.status", status)
	return listPage(ctx, s, listing[bulk.Operation]{
		columns: operationColumns, from: "bulk_operations o", conditions: c, sort: "o.created_at", id: "o.id", descending: true,
		page: p, scan: scanOperation,
		place: func(row *bulk.Operation) page.Cursor { return page.At(row.CreatedAt, row.ID) },
	})
}

func scanItem(row pgx.CollectableRow) (bulk.Item, error) {
	var i bulk.Item
	err := row.Scan(&i.Position, &i.CertificateID, &i.Status, &i.Reason, &i.JobID)
	return i, err
}

// BulkItems returns a page of an operation's items, in their order.
func (s *Store) BulkItems(ctx context.Context, operationID string, status *string, p Page) (List[bulk.Item], error) {
	var c conditions
	c.equal("i.operation_id", &operationID)
	c.equal("i.status", status)
	return listPage(ctx, s, listing[bulk.Item]{
		columns: "i.position, i.certificate_id, i.status, i.reason, i.job_id", from: "bulk_items i", conditions: c,
		sort: "i.position", id: "i.certificate_id", page: p, scan: scanItem,
		key: func(cur page.Cursor) ([]any, error) {
			at, err := strconv.ParseInt(cur.Key, 10, 32)
			if err != nil {
				return nil, fault.InvalidFields(fault.Field{Name: "cursor", Reason: "is not one that this list has given"})
			}
			return []any{at}, nil
		},
		place: func(row *bulk.Item) page.Cursor {
			return page.Cursor{Key: strconv.Itoa(row.Position), ID: row.CertificateID}
		},
	})
}

// EndBulk implements [bulk.Store].
func (s *Store) EndBulk(ctx context.Context, v bulk.Viewer, id string, as bulk.Status, reason string) (bulk.Operation, error) {
	c := conditions{args: []any{id, string(as), reason}}
	c.viewer(v)
	rows, err := s.pool.Query(ctx, `WITH o AS (
		UPDATE bulk_operations o SET status = $2, error = $3, cancelled = o.cancelled + o.pending, pending = 0, completed_at = clock_timestamp()
		WHERE o.id = $1 AND o.status IN ('Pending', 'Running')`+c.and()+`
		RETURNING *
	), item AS (
		UPDATE bulk_items i SET status = 'Cancelled' FROM o WHERE i.operation_id = o.id AND i.status = 'Pending'
	)
	SELECT `+operationColumns+` FROM o`, c.args...)
	if err != nil {
		return bulk.Operation{}, pg.Fault(fmt.Errorf("end bulk operation %s: %w", id, err))
	}
	o, err := pgx.CollectExactlyOneRow(rows, scanOperation)
	if !errors.Is(err, pgx.ErrNoRows) {
		return o, pg.Fault(err)
	}
	if o, err = s.BulkOperation(ctx, v, id); err != nil {
		return o, err
	}
	return o, fault.New(fault.Conflict, "bulk operation %s is %s already", id, o.Status)
}
