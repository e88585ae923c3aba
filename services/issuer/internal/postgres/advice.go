package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/issuer/internal/advice"
	"github.com/certctl/certctl/services/issuer/internal/renewal"
)

const adviceColumns = `a.window_start, a.window_end, a.renew_at, a.explanation_url, a.told_at, a.failures, a.last_error`

func scanKnown(k *advice.Known, row pgx.CollectableRow, more ...any) error {
	var start, end, at, told *time.Time
	err := row.Scan(append([]any{&start, &end, &at, &k.Explanation, &told, &k.Failures, &k.Error}, more...)...)
	k.Start, k.End, k.At, k.ToldAt = orZero(start), orZero(end), orZero(at), orZero(told)
	return err
}

const claimAdviceSQL = `WITH due AS (
	SELECT certificate_id, version_id FROM renewal_advice
	WHERE next_ask_at <= $1
	ORDER BY next_ask_at LIMIT $3
	FOR UPDATE SKIP LOCKED
), live AS (
	SELECT c.id, v.id AS version_id, v.issuer_id, v.pem_chain,
		CASE WHEN v.imported THEN v.not_before ELSE GREATEST(v.not_before, v.created_at) END AS issued_at, v.not_after
	FROM due d JOIN certificates c ON c.id = d.certificate_id AND c.version_id = d.version_id
	JOIN certificate_versions v ON v.id = d.version_id
	WHERE c.status NOT IN ('Revoked', 'Archived') AND v.not_after > $1
), a AS (
	UPDATE renewal_advice r SET next_ask_at = CASE WHEN d.certificate_id IN (SELECT id FROM live) THEN $2::timestamptz END
	FROM due d WHERE r.certificate_id = d.certificate_id
	RETURNING r.*
)
SELECT ` + adviceColumns + `, live.id, live.version_id, live.issuer_id, live.pem_chain, live.issued_at, live.not_after
FROM live JOIN a ON a.certificate_id = live.id`

// ClaimAdvice implements [advice.Store].
func (s *Store) ClaimAdvice(ctx context.Context, now, lease time.Time, limit int) ([]advice.Question, error) {
	rows, err := s.pool.Query(ctx, claimAdviceSQL, now, lease, limit)
	if err != nil {
		return nil, pg.Fault(fmt.Errorf("claim questions about renewal: %w", err))
	}
	questions, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (q advice.Question, err error) {
		err = scanKnown(&q.Known, row, &q.CertificateID, &q.VersionID, &q.IssuerID, &q.PEMChain, &q.IssuedAt, &q.NotAfter)
		return q, err
	})
	if err != nil {
		return nil, pg.Fault(fmt.Errorf("claim questions about renewal: %w", err))
	}
	return questions, nil
}

// A certificate is locked while it is looked at, so no look overwrites a moment that it has not seen.
const noteAdviceSQL = `WITH input AS (
	SELECT * FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[], $6::text[], $7::timestamptz[],
		$8::timestamptz[], $9::int[], $10::text[])
		AS i (certificate_id, version_id, window_start, window_end, renew_at, explanation_url, told_at, next_ask_at, failures, last_error)
), noted AS (
	UPDATE renewal_advice a SET window_start = i.window_start, window_end = i.window_end, renew_at = i.renew_at,
		explanation_url = i.explanation_url, told_at = i.told_at, next_ask_at = i.next_ask_at, failures = i.failures, last_error = i.last_error
	FROM input i WHERE a.certificate_id = i.certificate_id AND a.version_id = i.version_id
	RETURNING a.*
)
UPDATE certificates c SET advised_renewal_at = n.renew_at, advised_renewal_until = n.window_end,
	next_action_at = LEAST(c.next_action_at, n.renew_at)
FROM noted n WHERE c.id = n.certificate_id AND c.version_id = n.version_id AND c.status NOT IN ('Revoked', 'Archived')
	AND (c.advised_renewal_at, c.advised_renewal_until) IS DISTINCT FROM (n.renew_at, n.window_end)`

// NoteAdvice implements [advice.Store].
func (s *Store) NoteAdvice(ctx context.Context, answers []advice.Answer) error {
	type row = advice.Answer
	text := func(field func(*row) string) []string { return column(answers, field) }
	moment := func(field func(*row) time.Time) []*time.Time {
		return column(answers, func(a *row) *time.Time { return orNull(field(a)) })
	}
	args := []any{
		text(func(a *row) string { return a.CertificateID }), text(func(a *row) string { return a.VersionID }),
		moment(func(a *row) time.Time { return a.Start }), moment(func(a *row) time.Time { return a.End }),
		moment(func(a *row) time.Time { return a.At }), text(func(a *row) string { return a.Explanation }),
		moment(func(a *row) time.Time { return a.ToldAt }), moment(func(a *row) time.Time { return a.NextAskAt }),
		column(answers, func(a *row) int { return a.Failures }), text(func(a *row) string { return a.Error }),
	}
	var changed int64
	err := pg.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, noteAdviceSQL, args...)
		changed = tag.RowsAffected()
		return err
	})
	if err != nil {
		return fmt.Errorf("note what CAs say about renewal: %w", err)
	}
	if changed > 0 {
		s.hooks.Look()
	}
	return nil
}

// Advice is what the CA says about the renewal of a certificate's newest version, nil if it has said nothing.
func (s *Store) Advice(ctx context.Context, certificateID, versionID string) (*advice.Known, error) {
	rows, err := s.pool.Query(ctx, `SELECT `+adviceColumns+` FROM renewal_advice a
		WHERE a.certificate_id = $1 AND a.version_id = $2 AND a.told_at IS NOT NULL`, certificateID, versionID)
	if err != nil {
		return nil, pg.Fault(fmt.Errorf("read renewal advice: %w", err))
	}
	k, err := pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) (k advice.Known, err error) {
		err = scanKnown(&k, row)
		return k, err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil //nolint:nilnil // the caller leaves it out then
	}
	if err != nil {
		return nil, pg.Fault(fmt.Errorf("read renewal advice: %w", err))
	}
	return &k, nil
}

// Advised implements [issuance.Store].
func (s *Store) Advised(ctx context.Context, certificateID string) (a renewal.Advice, err error) {
	var at, until *time.Time
	err = s.pool.QueryRow(ctx, `SELECT advised_renewal_at, advised_renewal_until FROM certificates WHERE id = $1`, certificateID).Scan(&at, &until)
	if err != nil {
		return a, pg.Fault(fmt.Errorf("read renewal advice: %w", err))
	}
	a.At, a.End = orZero(at), orZero(until)
	return a, nil
}

// Questions is when CAs are to be asked about renewal.
type Questions struct{ *Store }

// NextDue returns when the next CA is to be asked, false if none is.
func (q Questions) NextDue(ctx context.Context) (time.Time, bool, error) {
	var at *time.Time
	err := q.pool.QueryRow(ctx, `SELECT min(next_ask_at) FROM renewal_advice WHERE next_ask_at IS NOT NULL`).Scan(&at)
	if err != nil {
		return time.Time{}, false, pg.Fault(fmt.Errorf("look for the next question about renewal: %w", err))
	}
	return orZero(at), at != nil, nil
}
