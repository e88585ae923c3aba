package api

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/certctl/certctl/contracts/httpapi/issuerapi"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
	"github.com/certctl/certctl/services/issuer/internal/postgres"
)

// sorts are the names of the orders of certificates, as the contract and as the fields spell them.
var sorts = map[string]postgres.Sort{
	"notAfter": postgres.ByExpiry, "not_after": postgres.ByExpiry, "expiresAt": postgres.ByExpiry, "expires_at": postgres.ByExpiry,
	"createdAt": postgres.ByCreation, "created_at": postgres.ByCreation, "updatedAt": postgres.ByUpdate, "updated_at": postgres.ByUpdate,
	"commonName": postgres.ByCommonName, "common_name": postgres.ByCommonName, "name": postgres.ByName,
	"status": postgres.ByStatus, "environment": postgres.ByEnvironment,
}

// filterInput is a filter of certificates as it comes, from a query or in a body.
type filterInput struct {
	Q, Status, Environment, OwnerID, TeamID, IssuerID, ProfileID, AgentID *string
	ExpiresBefore, ExpiresAfter, CreatedAfter, UpdatedAfter               *time.Time
}

// filter reads it. Before names what it is part of, for errors.
func (in *filterInput) filter(before string, now time.Time) (f issuance.Filter, err error) {
	f = issuance.Filter{
		ExpiresBefore: in.ExpiresBefore, ExpiresAfter: in.ExpiresAfter,
		CreatedAfter: in.CreatedAfter, UpdatedAfter: in.UpdatedAfter,
	}
	for s := range strings.SplitSeq(value(in.Status), ",") {
		if s = strings.TrimSpace(s); s == "" {
			continue
		}
		if !issuerapi.CertificateStatus(s).Valid() {
			return f, invalid(before+"status", "is none of the states of a certificate: "+strings.Join(statuses, ", "))
		}
		f.Statuses = append(f.Statuses, s)
	}
	for _, p := range [...]struct {
		name string
		in   *string
		out  **string
	}{
		{"environment", in.Environment, &f.Environment},
		{"owner_id", in.OwnerID, &f.OwnerID},
		{"team_id", in.TeamID, &f.TeamID},
		{"issuer_id", in.IssuerID, &f.IssuerID},
		{"profile_id", in.ProfileID, &f.ProfileID},
		{"agent_id", in.AgentID, &f.AgentID},
	} {
		if *p.out, err = filter(before+p.name, p.in); err != nil {
			return f, err
		}
	}
	f.Search, err = postgres.CertificateSearch.Ask(in.Q, now)
	return f, err
}

var statuses = func() []string {
	out := make([]string, len(issuance.CertificateStatuses))
	for i, s := range issuance.CertificateStatuses {
		out[i] = string(s)
	}
	return out
}()

// ListCertificates implements the operation of that name.
func (s *server) ListCertificates(ctx context.Context, r issuerapi.ListCertificatesRequestObject) (issuerapi.ListCertificatesResponseObject, error) {
	p, _ := asking(ctx)
	in := &r.Params
	q := postgres.CertificateQuery{Scope: p.Scope, Sort: postgres.ByCreation}
	var err error
	if q.Page, err = pageOf(in.Page, in.PerPage, in.Cursor); err != nil {
		return nil, err
	}
	perPage := q.Page.Size
	if in.PageSize != nil {
		if q.Page, err = pageOf(in.Page, in.PageSize, in.Cursor); err != nil {
			return nil, invalid("page_size", "must be at least 1, and page numbers reach 10,000 rows deep")
		}
	}
	given := filterInput{
		Q: in.Q, Status: in.Status, Environment: in.Environment, OwnerID: in.OwnerID, TeamID: in.TeamID, IssuerID: in.IssuerID,
		ProfileID: in.ProfileID, AgentID: in.AgentID, ExpiresBefore: in.ExpiresBefore, ExpiresAfter: in.ExpiresAfter,
		CreatedAfter: in.CreatedAfter, UpdatedAfter: in.UpdatedAfter,
	}
	if q.Filter, err = given.filter("", s.clock.Now()); err != nil {
		return nil, err
	}
	if q.Sort, q.Descending, err = sorting(in.Sort, in.SortDesc); err != nil {
		return nil, err
	}
	shown := certificateFields
	if in.Fields != nil && *in.Fields != "" {
		shown = chosenFields(*in.Fields)
	}
	list, err := s.store.Certificates(ctx, q)
	if err != nil {
		return nil, err
	}
	return certificatePage{list: list, fields: shown, at: q.Page, perPage: perPage}, nil
}

// sorting reads an order: a name, a minus before it or sort_desc for the reverse.
func sorting(asked *issuerapi.ListCertificatesParamsSort, descending *bool) (postgres.Sort, bool, error) {
	down := descending != nil && *descending
	if asked == nil || *asked == "" {
		return postgres.ByCreation, down, nil
	}
	name, minus := strings.CutPrefix(string(*asked), "-")
	by, ok := sorts[name]
	if !ok {
		return "", false, invalid("sort", "is none of notAfter, expiresAt, createdAt, updatedAt, commonName, name, status and environment, with or without a leading -")
	}
	return by, minus || down, nil
}

// certificatePage is a page as it is sent. It is written by hand: a page of certificates is asked for more often than
// anything, and the general encoder costs more than reading the rows.
type certificatePage struct {
	list    postgres.List[issuance.Certificate]
	fields  fields
	at      postgres.Page
	perPage int
}

// typicalRow is about what one row takes.
const typicalRow = 700

// VisitListCertificatesResponse implements [issuerapi.ListCertificatesResponseObject].
func (p certificatePage) VisitListCertificatesResponse(w http.ResponseWriter) error {
	b := make([]byte, 0, 256+typicalRow*len(p.list.Rows))
	b = append(b, `{"data":[`...)
	for i := range p.list.Rows {
		if i > 0 {
			b = append(b, ',')
		}
		b = p.fields.append(b, &p.list.Rows[i])
	}
	b = append(b, `],"total":`...)
	b = strconv.AppendInt(b, p.list.Total, 10)
	if p.at.Cursor == nil {
		b = append(b, `,"page":`...)
		b = strconv.AppendInt(b, int64(p.at.Number), 10)
		b = append(b, `,"per_page":`...)
		b = strconv.AppendInt(b, int64(p.perPage), 10)
	}
	if p.list.Next != nil {
		b = append(b, `,"next_cursor":`...)
		b = appendText(b, p.list.Next.String())
	}
	if p.at.Cursor != nil {
		b = append(b, `,"page_size":`...)
		b = strconv.AppendInt(b, int64(p.at.Size), 10)
	}
	b = append(b, "}\n"...)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	_, err := w.Write(b)
	return err
}
