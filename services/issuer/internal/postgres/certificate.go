package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/page"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
)

const certificateColumns = `c.id, c.name, c.common_name, c.sans, c.environment, c.owner_id, c.team_id, c.issuer_id,
	c.renewal_policy_id, c.tags, c.status, c.status_reason, c.version, c.version_id, c.serial_number, c.fingerprint_sha256,
	c.expires_at, c.last_renewal_at, c.last_deployment_at, c.created_at, c.updated_at, c.certificate_profile_id,
	c.target_ids`

func scanCertificate(row pgx.CollectableRow) (issuance.Certificate, error) {
	return certificateScan()(row)
}

// certificateScan reads certificates one after another. A page of them is read more often than anything, so what can be
// is used again from row to row. It reads the columns of certificateColumns and those that follow them.
func certificateScan(more ...any) func(row pgx.CollectableRow) (issuance.Certificate, error) {
	var c issuance.Certificate
	var tags pgtype.DriverBytes
	var renewed, deployed *time.Time
	into := append([]any{
		&c.ID, &c.Name, &c.CommonName, &c.SANs, (*repeated)(&c.Environment), (*repeated)(&c.OwnerID), (*repeated)(&c.TeamID),
		(*repeated)(&c.IssuerID), (*repeated)(&c.RenewalPolicyID), &tags, (*repeated)(&c.Status), (*repeated)(&c.StatusReason),
		&c.Revision, &c.VersionID, &c.SerialNumber, &c.Fingerprint, &c.ExpiresAt, &renewed, &deployed, &c.CreatedAt, &c.UpdatedAt,
		(*repeated)(&c.ProfileID), &c.TargetIDs,
	}, more...)
	return func(row pgx.CollectableRow) (issuance.Certificate, error) {
		if err := row.Scan(into...); err != nil {
			return issuance.Certificate{}, err
		}
		c.LastRenewalAt, c.LastDeploymentAt = orZero(renewed), orZero(deployed)
		var err error
		if c.Tags, err = decodeTags(tags); err != nil {
			return issuance.Certificate{}, fmt.Errorf("tags of %s: %w", c.ID, err)
		}
		return c, nil
	}
}

// repeated is a text that is often the same as in the row before.
type repeated string

// ScanBytes implements [pgtype.BytesScanner].
func (r *repeated) ScanBytes(v []byte) error {
	if string(v) != string(*r) {
		*r = repeated(v)
	}
	return nil
}

// decodeTags is nil for none.
func decodeTags(encoded []byte) (tags map[string]string, err error) {
	if string(encoded) != "{}" {
		err = json.Unmarshal(encoded, &tags)
	}
	return tags, err
}

// Certificate implements [issuance.Store].
func (s *Store) Certificate(ctx context.Context, scope authn.Scope, id string) (issuance.Certificate, error) {
	c := conditions{args: []any{id}}
	c.scope(scope)
	rows, err := s.pool.Query(ctx, `SELECT `+certificateColumns+` FROM certificates c WHERE c.id = $1`+c.and(), c.args...)
	if err != nil {
		return issuance.Certificate{}, pg.Fault(fmt.Errorf("read certificate %s: %w", id, err))
	}
	found, err := pgx.CollectExactlyOneRow(rows, scanCertificate)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return issuance.Certificate{}, notFound(id)
	case err != nil:
		return issuance.Certificate{}, pg.Fault(fmt.Errorf("read certificate %s: %w", id, err))
	default:
		return found, nil
	}
}

// Page is which part of a list is asked for. With a cursor, Number is not looked at.
type Page struct {
	Number, Size int
	Cursor       *page.Cursor
}

// CertificateQuery asks for a page of certificates.
type CertificateQuery struct {
	Scope      authn.Scope
	Filter     issuance.Filter
	Sort       Sort
	Descending bool
	Page       Page
}

// List is a page of a list. Next is nil at the end.
type List[T any] struct {
	Rows  []T
	Total int64
	Next  *page.Cursor
}

// Certificates returns a page of certificates.
func (s *Store) Certificates(ctx context.Context, q CertificateQuery) (List[issuance.Certificate], error) {
	o, ok := orders[q.Sort]
	if !ok {
		return List[issuance.Certificate]{}, fault.New(fault.Internal, "no order %q", q.Sort)
	}
	var c conditions
	c.scope(q.Scope)
	c.certificates(&q.Filter)
	return listPage(ctx, s, listing[issuance.Certificate]{
		columns: certificateColumns, from: "certificates c", conditions: c, sort: o.column, within: o.within, id: "c.id",
		descending: q.Descending, page: q.Page, scan: certificateScan(),
		key:   func(cur page.Cursor) ([]any, error) { return q.key(o, cur) },
		place: func(row *issuance.Certificate) page.Cursor { return q.place(o, row) },
	})
}

// Versions returns a page of the versions of a certificate, newest first, or NotFound if there is no such certificate
// within the scope.
func (s *Store) Versions(ctx context.Context, scope authn.Scope, certificateID string, p Page) (List[issuance.Version], error) {
	var c conditions
	c.equal("v.certificate_id", &certificateID)
	c.scope(scope)
	list, err := listPage(ctx, s, listing[issuance.Version]{
		columns: versionColumns, from: "certificate_versions v JOIN certificates c ON c.id = v.certificate_id",
		conditions: c, sort: "v.created_at", id: "v.id", descending: true, page: p, scan: collectVersion,
		place: func(row *issuance.Version) page.Cursor { return page.At(row.CreatedAt, row.ID) },
	})
	if err == nil && len(list.Rows) == 0 {
		_, err = s.Certificate(ctx, scope, certificateID)
	}
	return list, err
}
