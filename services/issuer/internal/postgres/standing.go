package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
	"github.com/certctl/certctl/services/issuer/internal/standing"
)

const standingColumns = `s.failures, s.opened_at, s.retry_at, s.last_error, s.last_failure_at, s.last_success_at, s.window_start, s.used`

// scanStanding returns where a row's standing columns go, and what makes a standing of them.
func scanStanding(s *standing.Standing) (into []any, done func()) {
	var opened, retry, failure, success, window *time.Time
	return []any{&s.Failures, &opened, &retry, &s.LastError, &failure, &success, &window, &s.Used}, func() {
		s.OpenedAt, s.RetryAt, s.LastFailureAt, s.LastSuccessAt, s.WindowStart = orZero(opened), orZero(retry), orZero(failure), orZero(success), orZero(window)
	}
}

// lockStanding holds how an issuer stands for a change. Limits are those of its record.
func lockStanding(ctx context.Context, tx pgx.Tx, issuerID string) (s standing.Standing, l standing.Limits, err error) {
	if _, err = tx.Exec(ctx, `INSERT INTO issuer_standings (issuer_id) SELECT id FROM issuers WHERE id = $1 ON CONFLICT DO NOTHING`, issuerID); err != nil {
		return s, l, fmt.Errorf("begin the standing of %s: %w", issuerID, err)
	}
	into, done := scanStanding(&s)
	var window int
	err = tx.QueryRow(ctx, `SELECT `+standingColumns+`, i.max_concurrent, i.rate_limit, i.rate_window_seconds
		FROM issuer_standings s JOIN issuers i ON i.id = s.issuer_id WHERE s.issuer_id = $1 FOR UPDATE OF s`,
		issuerID).Scan(append(into, &l.MaxConcurrent, &l.Rate, &window)...)
	if errors.Is(err, pgx.ErrNoRows) {
		return s, l, fault.New(fault.NotFound, "there is no issuer %s", issuerID)
	}
	if err != nil {
		return s, l, fmt.Errorf("read the standing of %s: %w", issuerID, err)
	}
	done()
	l.Window = time.Duration(window) * time.Second
	return s, l, nil
}

func storeStanding(ctx context.Context, tx pgx.Tx, issuerID string, s *standing.Standing) error {
	_, err := tx.Exec(ctx, `UPDATE issuer_standings SET failures = $2, opened_at = $3, retry_at = $4, last_error = $5, last_failure_at = $6,
		last_success_at = $7, window_start = $8, used = $9 WHERE issuer_id = $1`,
		issuerID, s.Failures, orNull(s.OpenedAt), orNull(s.RetryAt), s.LastError, orNull(s.LastFailureAt), orNull(s.LastSuccessAt), orNull(s.WindowStart), s.Used)
	if err != nil {
		return fmt.Errorf("note the standing of %s: %w", issuerID, err)
	}
	return nil
}

// Jobs that ask an issuer's CA now, and jobs that wait for a place with it.
const placesSQL = `SELECT count(*) FILTER (WHERE status = 'Running' AND lease_until > $2), count(*) FILTER (WHERE status = 'Pending')
FROM jobs WHERE asks = $1 AND asks <> '' AND status IN ('Pending', 'Running')`

const takePlacesSQL = `UPDATE jobs j SET asks = $1, lease_until = $2, next_action_at = $2
FROM unnest($3::text[], $4::bigint[]) AS i (id, token)
WHERE j.id = i.id AND j.lease_token = i.token AND j.status = 'Running'`

// Ask implements [issuance.Places].
func (s *Store) Ask(ctx context.Context, issuerID string, jobs []*issuance.Work, now, lease time.Time) (a issuance.Admitted, err error) {
	err = pg.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		st, limits, err := lockStanding(ctx, tx, issuerID)
		if err != nil {
			return err
		}
		var underWay int
		if err := tx.QueryRow(ctx, placesSQL, issuerID, now).Scan(&underWay, &a.Waiting); err != nil {
			return fmt.Errorf("count what issuer %s is asked: %w", issuerID, err)
		}
		before := st
		a.MaxConcurrent = limits.MaxConcurrent
		if a.MaxConcurrent == 0 {
			a.MaxConcurrent = standing.DefaultConcurrent
		}
		a.Admission = st.Admit(limits, underWay, len(jobs), now)
		a.State = st.State(now)
		ids, tokens := make([]string, a.Granted), make([]int64, a.Granted)
		for i, w := range jobs[:a.Granted] {
			ids[i], tokens[i] = w.ID, w.Token
		}
		if _, err := tx.Exec(ctx, takePlacesSQL, issuerID, lease, ids, tokens); err != nil {
			return fmt.Errorf("take %d places with issuer %s: %w", a.Granted, issuerID, err)
		}
		if st == before {
			return nil
		}
		return storeStanding(ctx, tx, issuerID, &st)
	})
	return a, pg.Fault(err)
}

// successSpacing is how often a good answer is noted of a CA that answers well.
const successSpacing = time.Minute

// Answered implements [issuance.Places].
func (s *Store) Answered(ctx context.Context, issuerID string, began, now time.Time, failure error) (state standing.State, err error) {
	if failure == nil {
		// Most answers change nothing, and need no lock.
		var known bool
		err := s.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM issuer_standings WHERE issuer_id = $1 AND failures = 0 AND opened_at IS NULL
			AND last_success_at > $2)`, issuerID, now.Add(-successSpacing)).Scan(&known)
		if err != nil || known {
			return standing.Closed, pg.Fault(err)
		}
	}
	freed := false
	err = s.transact(ctx, func(tx pgx.Tx) error {
		st, _, err := lockStanding(ctx, tx, issuerID)
		if err != nil {
			return err
		}
		var changed bool
		if failure == nil {
			changed = st.Succeeded(now)
			freed = changed
		} else {
			f := fault.From(failure)
			changed = st.Failed(issuance.Clean(f.Message), began, now, f.RetryAfter, nil)
		}
		state = st.State(now)
		if err := storeStanding(ctx, tx, issuerID, &st); err != nil || !changed {
			return err
		}
		return circuitChanged(ctx, tx, issuerID, &st, now)
	})
	if err == nil && freed {
		s.hooks.Due()
	}
	return state, err
}

// circuitChanged tells of a circuit that has opened or closed. What waited for it to close is due.
func circuitChanged(ctx context.Context, tx pgx.Tx, issuerID string, st *standing.Standing, now time.Time) error {
	var version int64
	if err := tx.QueryRow(ctx, `UPDATE issuers SET version = version + 1 WHERE id = $1 RETURNING version`, issuerID).Scan(&version); err != nil {
		return fmt.Errorf("number what is told of issuer %s: %w", issuerID, err)
	}
	e := event.IssuerCircuitChanged{IssuerID: issuerID, State: string(standing.Closed), Failures: st.Failures}
	if !st.OpenedAt.IsZero() {
		e.State, e.LastError, e.RetryAt = string(standing.Open), st.LastError, st.RetryAt
	} else if err := goOn(ctx, tx, issuerID, now); err != nil {
		return err
	}
	return tell(ctx, tx, version, issuance.Fact{Event: e, At: now, Origin: issuance.Origin{Actor: "issuer"}})
}

// goOn has the jobs be due that wait for an issuer.
func goOn(ctx context.Context, tx pgx.Tx, issuerID string, now time.Time) error {
	_, err := tx.Exec(ctx, `UPDATE jobs SET next_action_at = $2 WHERE asks = $1 AND asks <> '' AND status = 'Pending' AND next_action_at > $2`, issuerID, now)
	if err != nil {
		return fmt.Errorf("have the jobs go on that wait for issuer %s: %w", issuerID, err)
	}
	return nil
}

// TryAgain implements [registry.Store].
func (s *Store) TryAgain(ctx context.Context, issuerID string, now time.Time) error {
	err := s.transact(ctx, func(tx pgx.Tx) error { return tryAgain(ctx, tx, issuerID, now) })
	if err == nil {
		s.hooks.Due()
	}
	return err
}

// tryAgain has an issuer's CA be tried now, if its circuit is open, by one of the jobs that wait for it.
func tryAgain(ctx context.Context, tx pgx.Tx, issuerID string, now time.Time) error {
	_, err := tx.Exec(ctx, `UPDATE issuer_standings SET retry_at = $2 WHERE issuer_id = $1 AND opened_at IS NOT NULL AND retry_at > $2`, issuerID, now)
	if err != nil {
		return fmt.Errorf("have the CA of %s tried: %w", issuerID, err)
	}
	return goOn(ctx, tx, issuerID, now)
}

const holdSQL = `UPDATE jobs j SET lease_until = $1, next_action_at = $1
FROM unnest($2::text[], $3::bigint[]) AS i (id, token)
WHERE j.id = i.id AND j.lease_token = i.token AND j.status = 'Running'
RETURNING j.id`

// Hold implements [issuance.Places].
func (s *Store) Hold(ctx context.Context, tokens map[string]int64, lease time.Time) (map[string]bool, error) {
	ids, numbers := make([]string, 0, len(tokens)), make([]int64, 0, len(tokens))
	for id, token := range tokens {
		ids, numbers = append(ids, id), append(numbers, token)
	}
	rows, err := s.pool.Query(ctx, holdSQL, lease, ids, numbers)
	if err != nil {
		return nil, pg.Fault(fmt.Errorf("hold %d jobs: %w", len(ids), err))
	}
	held, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, pg.Fault(fmt.Errorf("hold %d jobs: %w", len(ids), err))
	}
	still := make(map[string]bool, len(held))
	for _, id := range held {
		still[id] = true
	}
	return still, nil
}

// KeepOrder implements [issuance.Places].
func (s *Store) KeepOrder(ctx context.Context, jobID string, token int64, issuerID string, order []byte) error {
	tag, err := s.pool.Exec(ctx, `UPDATE jobs SET ca_order = $3, ca_order_issuer = $4 WHERE id = $1 AND lease_token = $2 AND status = 'Running'`,
		jobID, token, order, issuerID)
	if err != nil {
		return pg.Fault(fmt.Errorf("keep the order of job %s: %w", jobID, err))
	}
	if tag.RowsAffected() == 0 {
		return fault.New(fault.Unavailable, "job %s is not held any more", jobID)
	}
	return nil
}

// IssuerStanding is how an issuer's CA stands, with how many jobs ask it now and how many wait for a place.
type IssuerStanding struct {
	standing.Standing
	UnderWay, Waiting int
}

// Standings returns how issuers stand, of those of which anything is known.
func (s *Store) Standings(ctx context.Context, ids []string, now time.Time) (map[string]IssuerStanding, error) {
	rows, err := s.pool.Query(ctx, `SELECT s.issuer_id, `+standingColumns+`, j.under_way, j.waiting
		FROM issuer_standings s CROSS JOIN LATERAL (
			SELECT count(*) FILTER (WHERE status = 'Running' AND lease_until > $2) AS under_way, count(*) FILTER (WHERE status = 'Pending') AS waiting
			FROM jobs WHERE asks = s.issuer_id AND asks <> '' AND status IN ('Pending', 'Running')
		) j WHERE s.issuer_id = ANY($1)`, ids, now)
	if err != nil {
		return nil, pg.Fault(fmt.Errorf("read how issuers stand: %w", err))
	}
	found := map[string]IssuerStanding{}
	for rows.Next() {
		var id string
		var st IssuerStanding
		into, done := scanStanding(&st.Standing)
		if err := rows.Scan(append(append([]any{&id}, into...), &st.UnderWay, &st.Waiting)...); err != nil {
			return nil, pg.Fault(fmt.Errorf("read how issuers stand: %w", err))
		}
		done()
		found[id] = st
	}
	return found, pg.Fault(rows.Err())
}
