package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
	"github.com/certctl/certctl/services/issuer/internal/registry"
)

const watchedSQL = `SELECT i.id, i.name, i.type, i.config, i.ca_chain_pem, i.warned_of, i.warned_threshold
FROM issuers i WHERE i.type = $1 AND i.enabled AND i.ca_chain_pem <> '' ORDER BY i.id`

// Watched implements [registry.Warnings].
func (s *Store) Watched(ctx context.Context, kind string) ([]registry.Watched, error) {
	rows, err := s.pool.Query(ctx, watchedSQL, kind)
	if err != nil {
		return nil, pg.Fault(fmt.Errorf("look at the ends of CAs: %w", err))
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (registry.Watched, error) {
		var w registry.Watched
		var of *time.Time
		err := row.Scan(&w.ID, &w.Name, &w.Type, &w.Config, &w.CAChainPEM, &of, &w.Threshold)
		w.WarnedOf = orZero(of)
		return w, err
	})
	if err != nil {
		return nil, pg.Fault(fmt.Errorf("look at the ends of CAs: %w", err))
	}
	return list, nil
}

// Of several replicas that are about to tell the same, one does.
var warnSQL = `WITH issuer AS (
	UPDATE issuers SET warned_of = $2, warned_threshold = $3, version = version + 1
	WHERE id = $1 AND enabled AND (warned_of IS DISTINCT FROM $2 OR warned_threshold IS NULL OR warned_threshold > $3)
	RETURNING id, version
), event AS (
	` + insertEvents("issuer", "id", 4) + `
)
SELECT count(*) FROM issuer`

// Warn implements [registry.Warnings].
func (s *Store) Warn(ctx context.Context, issuerID string, of time.Time, threshold int, f issuance.Fact) (told bool, err error) {
	var e events
	if err := e.add(issuerID, f, 0); err != nil {
		return false, err
	}
	eventArgs := e.args()
	var n int
	if err := s.pool.QueryRow(ctx, warnSQL, append([]any{issuerID, of, threshold}, eventArgs...)...).Scan(&n); err != nil {
		return false, pg.Fault(fmt.Errorf("warn of the end of issuer %s: %w", issuerID, err))
	}
	s.hooks.Told()
	return n == 1, nil
}
