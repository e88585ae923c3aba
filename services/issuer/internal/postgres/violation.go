package postgres

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/id"
	"github.com/certctl/certctl/libs/outbox"
	"github.com/certctl/certctl/libs/page"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
)

// Violation is what broke a policy rule.
type Violation struct {
	ID, RuleID, CertificateID, CommonName string
	Message, Severity, Stage              string
	Blocked                               bool
	Count                                 int64
	CreatedAt, LastSeenAt                 time.Time
}

const violationPrefix = "pv-"

// A breach that is on record is counted, unless it is of the same job, and told of again when that was a day ago. The
// event goes with the row whose told_by is its finding. A rule that has been removed meanwhile is broken by nothing.
const recordSQL = `WITH input AS (
	SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
		$9::text[], $10::text[], $11::text[], $12::boolean[], $13::text[], $14::text[], $15::timestamptz[])
	AS i (id, rule_id, certificate_id, common_name, owner_id, team_id, environment, issuer_id,
		certificate_profile_id, stage, severity, blocked, message, job_id, at)
), rule AS (
	SELECT id FROM policy_rules WHERE id IN (SELECT rule_id FROM input) FOR KEY SHARE
), seen AS (
	INSERT INTO policy_violations AS v (id, rule_id, certificate_id, common_name, owner_id, team_id, environment, issuer_id,
		certificate_profile_id, stage, severity, blocked, message, job_id, told_by, told_at, created_at, last_seen_at)
	SELECT i.id, i.rule_id, i.certificate_id, i.common_name, i.owner_id, i.team_id, i.environment, i.issuer_id,
		i.certificate_profile_id, i.stage, i.severity, i.blocked, i.message, i.job_id, i.id, i.at, i.at, i.at
	FROM input i JOIN rule ON rule.id = i.rule_id
	ORDER BY i.rule_id, i.certificate_id, i.common_name, i.stage, i.message
	ON CONFLICT (rule_id, certificate_id, common_name, stage, md5(message)) DO UPDATE SET
		count = v.count + (EXCLUDED.job_id = '' OR EXCLUDED.job_id <> v.job_id)::int,
		owner_id = EXCLUDED.owner_id, team_id = EXCLUDED.team_id, environment = EXCLUDED.environment,
		issuer_id = EXCLUDED.issuer_id, certificate_profile_id = EXCLUDED.certificate_profile_id,
		severity = EXCLUDED.severity, blocked = EXCLUDED.blocked, job_id = EXCLUDED.job_id,
		last_seen_at = GREATEST(v.last_seen_at, EXCLUDED.last_seen_at),
		told_by = CASE WHEN v.told_at < EXCLUDED.told_at - interval '1 day' THEN EXCLUDED.told_by ELSE v.told_by END,
		told_at = CASE WHEN v.told_at < EXCLUDED.told_at - interval '1 day' THEN EXCLUDED.told_at ELSE v.told_at END
	RETURNING v.told_by
)
INSERT INTO outbox (msg_id, stream, subject, headers, body)
SELECT e.id, e.stream, e.subject, e.header::json, e.body
FROM unnest($16::text[], $17::text[], $18::text[], $19::text[], $20::text[], $21::bytea[])
	AS e (key, id, stream, subject, header, body)
JOIN seen ON seen.told_by = e.key`

// Record implements [issuance.Store].
func (s *Store) Record(ctx context.Context, breaches []issuance.Breach) error {
	if err := putOnRecord(ctx, s.pool, breaches); err != nil {
		return pg.Fault(err)
	}
	s.hooks.Told()
	return nil
}

// putOnRecord writes breaches by one statement, which locks their rows in an order that all writers keep.
func putOnRecord(ctx context.Context, q querier, breaches []issuance.Breach) error {
	if len(breaches) == 0 {
		return nil
	}
	breaches = slices.Clone(breaches)
	// One statement cannot touch a row twice.
	slices.SortFunc(breaches, compareBreaches)
	breaches = slices.CompactFunc(breaches, func(a, b issuance.Breach) bool { return compareBreaches(a, b) == 0 })
	type row = issuance.Breach
	text := func(field func(*row) string) []string { return column(breaches, field) }
	ids := column(breaches, func(*row) string { return id.New(violationPrefix) })
	var told events
	for i := range breaches {
		if err := told.add(ids[i], breaches[i].Fact(), 0); err != nil {
			return err
		}
	}
	columns := outbox.ColumnsOf(told.messages)
	args := []any{
		ids,
		text(func(r *row) string { return r.RuleID }),
		text(func(r *row) string { return r.Facts.CertificateID }),
		text(func(r *row) string { return r.Facts.CommonName }),
		text(func(r *row) string { return r.Facts.OwnerID }),
		text(func(r *row) string { return r.Facts.TeamID }),
		text(func(r *row) string { return r.Facts.Environment }),
		text(func(r *row) string { return r.Facts.IssuerID }),
		text(func(r *row) string { return r.Facts.ProfileID }),
		text(func(r *row) string { return string(r.Stage) }),
		text(func(r *row) string { return string(r.Severity) }),
		column(breaches, func(r *row) bool { return r.Severity.Blocks() }),
		text(func(r *row) string { return r.Message }),
		text(func(r *row) string { return r.JobID }),
		column(breaches, func(r *row) time.Time { return r.At }),
	}
	if _, err := q.Exec(ctx, recordSQL, append(append(args, told.keys), columns.Args()...)...); err != nil {
		return fmt.Errorf("put %d violations on record: %w", len(breaches), err)
	}
	return nil
}

func compareBreaches(a, b issuance.Breach) int {
	return cmp.Or(cmp.Compare(a.RuleID, b.RuleID), cmp.Compare(a.Facts.CertificateID, b.Facts.CertificateID),
		cmp.Compare(a.Facts.CommonName, b.Facts.CommonName), cmp.Compare(a.Stage, b.Stage), cmp.Compare(a.Message, b.Message))
}

const violationColumns = `c.id, c.rule_id, c.certificate_id, c.common_name, c.message, c.severity, c.stage, c.blocked, c.count,
	c.created_at, c.last_seen_at`

// ViolationQuery asks for a page of violations, newest first. Nil filters ask for nothing.
type ViolationQuery struct {
	Scope                 authn.Scope
	RuleID, CertificateID *string
	Page                  Page
}

// Violations returns a page of violations. The table goes by the name of c, since what a scope limits are columns of it.
func (s *Store) Violations(ctx context.Context, q ViolationQuery) (List[Violation], error) {
	var c conditions
	c.equal("c.rule_id", q.RuleID)
	c.equal("c.certificate_id", q.CertificateID)
	c.scope(q.Scope)
	return listPage(ctx, s, listing[Violation]{
		columns: violationColumns, from: "policy_violations c", conditions: c, sort: "c.created_at", id: "c.id", descending: true,
		page: q.Page, place: func(row *Violation) page.Cursor { return page.At(row.CreatedAt, row.ID) },
		scan: func(row pgx.CollectableRow) (v Violation, err error) {
			err = row.Scan(&v.ID, &v.RuleID, &v.CertificateID, &v.CommonName, &v.Message, &v.Severity, &v.Stage, &v.Blocked,
				&v.Count, &v.CreatedAt, &v.LastSeenAt)
			return v, err
		},
	})
}

// keepRefused is how long what was refused stays on record without being asked for again.
const keepRefused = 90 * 24 * time.Hour

const forgetRefusedSQL = `DELETE FROM policy_violations WHERE id IN (
	SELECT id FROM policy_violations WHERE certificate_id = '' AND last_seen_at < $1 LIMIT 10000)`

// ForgetRefused removes violations of certificates that never were and that nobody has asked for in a long time: what is
// asked for is the callers' choice, so there is no other end to them. It returns how many it removed.
func (s *Store) ForgetRefused(ctx context.Context, now time.Time) (int64, error) {
	tag, err := s.pool.Exec(ctx, forgetRefusedSQL, now.Add(-keepRefused))
	if err != nil {
		return 0, pg.Fault(fmt.Errorf("forget violations: %w", err))
	}
	return tag.RowsAffected(), nil
}
