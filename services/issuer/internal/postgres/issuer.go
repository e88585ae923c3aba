package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/page"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/issuer/internal/ca"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
)

// Issuer is a configured CA.
type Issuer struct {
	ID, Name, Type       string
	Config               map[string]any
	Enabled              bool
	CAChainPEM           string
	SignsCRL             bool
	CreatedAt, UpdatedAt time.Time
}

const issuerColumns = `i.id, i.name, i.type, i.config, i.enabled, i.ca_chain_pem, i.signs_crl, i.created_at, i.updated_at`

func scanIssuer(row pgx.CollectableRow) (Issuer, error) {
	var i Issuer
	err := row.Scan(&i.ID, &i.Name, &i.Type, &i.Config, &i.Enabled, &i.CAChainPEM, &i.SignsCRL, &i.CreatedAt, &i.UpdatedAt)
	return i, err
}

// Issuers returns a page of the issuers within a scope, in the order of their creation.
func (s *Store) Issuers(ctx context.Context, scope authn.Scope, p Page) (List[Issuer], error) {
	var c conditions
	if scope.Issuers != nil {
		c.parts = append(c.parts, "i.id = ANY("+c.arg(scope.Issuers)+")")
	}
	return listPage(ctx, s, listing[Issuer]{
		columns: issuerColumns, from: "issuers i", conditions: c, sort: "i.created_at", id: "i.id", page: p, scan: scanIssuer,
		place: func(row *Issuer) page.Cursor { return page.At(row.CreatedAt, row.ID) },
	})
}

// Issuer returns an issuer, NotFound if there is none within the scope.
func (s *Store) Issuer(ctx context.Context, scope authn.Scope, id string) (Issuer, error) {
	c := conditions{args: []any{id}}
	if scope.Issuers != nil {
		c.parts = append(c.parts, "i.id = ANY("+c.arg(scope.Issuers)+")")
	}
	rows, err := s.pool.Query(ctx, `SELECT `+issuerColumns+` FROM issuers i WHERE i.id = $1`+c.and(), c.args...)
	if err != nil {
		return Issuer{}, pg.Fault(fmt.Errorf("read issuer %s: %w", id, err))
	}
	found, err := pgx.CollectExactlyOneRow(rows, scanIssuer)
	if errors.Is(err, pgx.ErrNoRows) {
		return found, fault.New(fault.NotFound, "there is no issuer %s", id)
	}
	return found, pg.Fault(err)
}

var announceSQL = `WITH issuer AS (
	UPDATE issuers SET ca_chain_pem = $2, signs_crl = $3, config = $4::jsonb, version = version + 1, updated_at = $5
	WHERE id = $1 AND (version = 0 OR ca_chain_pem <> $2 OR signs_crl <> $3 OR config <> $4::jsonb)
	RETURNING id, version
)
` + insertEvents("issuer", "id", 6)

// Announce notes what an issuer's connector says of itself and, if that is new, tells of it.
func (s *Store) Announce(ctx context.Context, i Issuer, now time.Time) error {
	config, err := json.Marshal(i.Config)
	if err != nil {
		return fmt.Errorf("encode the configuration of %s: %w", i.ID, err)
	}
	var told events
	err = told.add(i.ID, issuance.Fact{
		Event: event.IssuerConfigured{IssuerID: i.ID, Name: i.Name, Type: i.Type, CAChainPEM: i.CAChainPEM, SignsCRL: i.SignsCRL},
		At:    now, Origin: issuance.Origin{Actor: "issuer"},
	}, 0)
	if err != nil {
		return err
	}
	eventArgs, err := told.args()
	if err != nil {
		return err
	}
	if _, err := s.pool.Exec(ctx, announceSQL, append([]any{i.ID, i.CAChainPEM, i.SignsCRL, string(config), now}, eventArgs...)...); err != nil {
		return pg.Fault(fmt.Errorf("note how issuer %s is configured: %w", i.ID, err))
	}
	s.hooks.Told()
	return nil
}

const activeKeySQL = `SELECT id, issuer_id, chain_pem, sealed_key, created_at FROM ca_keys WHERE issuer_id = $1 AND active`

// ActiveKey implements [ca.KeyStore].
func (s *Store) ActiveKey(ctx context.Context, issuerID string) (*ca.Key, error) {
	var k ca.Key
	err := s.pool.QueryRow(ctx, activeKeySQL, issuerID).Scan(&k.ID, &k.IssuerID, &k.ChainPEM, &k.Sealed, &k.CreatedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil //nolint:nilnil // the interface says so
	}
	if err != nil {
		return nil, pg.Fault(err)
	}
	return &k, nil
}

const addKeySQL = `INSERT INTO ca_keys (id, issuer_id, chain_pem, sealed_key, created_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (issuer_id) WHERE active DO NOTHING`

// AddKey implements [ca.KeyStore].
func (s *Store) AddKey(ctx context.Context, k ca.Key) (*ca.Key, error) {
	if _, err := s.pool.Exec(ctx, addKeySQL, k.ID, k.IssuerID, k.ChainPEM, k.Sealed, k.CreatedAt); err != nil {
		return nil, pg.Fault(err)
	}
	return s.ActiveKey(ctx, k.IssuerID)
}
