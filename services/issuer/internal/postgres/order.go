package postgres

import (
	"strings"
	"time"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/page"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
)

// Sort is an order of certificates. Rows that are equal in it are in the order of their ids, of those with the same status or
// environment in that of their creation before.
type Sort string

// The orders that are offered, each with an index.
const (
	ByCreation    Sort = "createdAt"
	ByExpiry      Sort = "notAfter"
	ByUpdate      Sort = "updatedAt"
	ByCommonName  Sort = "commonName"
	ByName        Sort = "name"
	ByStatus      Sort = "status"
	ByEnvironment Sort = "environment"
)

// order is what a sort means: its column, and the value of a row in it, which is either a time or a text. Of many rows
// with the same text the order within is that of their creation, as in the list of one text, so that one index serves both.
type order struct {
	column string
	within string
	moment func(*issuance.Certificate) time.Time
	text   func(*issuance.Certificate) string
}

var orders = map[Sort]order{
	ByCreation:    {column: "c.created_at", moment: func(c *issuance.Certificate) time.Time { return c.CreatedAt }},
	ByExpiry:      {column: "c.expires_at", moment: func(c *issuance.Certificate) time.Time { return c.ExpiresAt }},
	ByUpdate:      {column: "c.updated_at", moment: func(c *issuance.Certificate) time.Time { return c.UpdatedAt }},
	ByCommonName:  {column: `c.common_name COLLATE "C"`, text: func(c *issuance.Certificate) string { return c.CommonName }},
	ByName:        {column: `c.name COLLATE "C"`, text: func(c *issuance.Certificate) string { return c.Name }},
	ByStatus:      {column: "c.status", within: "c.created_at", text: func(c *issuance.Certificate) string { return string(c.Status) }},
	ByEnvironment: {column: "c.environment", within: "c.created_at", text: func(c *issuance.Certificate) string { return c.Environment }},
}

// place is where a row is in the list. A cursor of certificates names its order, so that one of another order is refused
// and not misread.
func (q *CertificateQuery) place(o order, row *issuance.Certificate) page.Cursor {
	at := page.Cursor{ID: row.ID}
	switch {
	case o.within != "":
		at = page.At(row.CreatedAt, row.ID)
		at.Key += " " + o.text(row)
	case o.text != nil:
		at.Key = o.text(row)
	default:
		at = page.At(o.moment(row), row.ID)
	}
	at.Key = q.prefix() + at.Key
	return at
}

// key is a cursor's value in the order's columns.
func (q *CertificateQuery) key(o order, cur page.Cursor) ([]any, error) {
	key, ok := strings.CutPrefix(cur.Key, q.prefix())
	if !ok {
		return nil, fault.InvalidFields(fault.Field{Name: "cursor", Reason: "comes from a list in another order"})
	}
	cur.Key = key
	if o.text == nil {
		at, err := cur.Time()
		return []any{at}, err
	}
	var within []any
	if o.within != "" {
		cur.Key, key, _ = strings.Cut(key, " ")
		at, err := cur.Time()
		if err != nil {
			return nil, err
		}
		within = append(within, at)
	}
	if !issuance.Printable(key) {
		return nil, fault.InvalidFields(fault.Field{Name: "cursor", Reason: "is not one that a list has given"})
	}
	return append([]any{key}, within...), nil
}

func (q *CertificateQuery) prefix() string {
	if q.Descending {
		return "-" + string(q.Sort) + ":"
	}
	return string(q.Sort) + ":"
}
