package api

import (
	"context"
	"encoding/json"

	"github.com/certctl/certctl/contracts/httpapi/issuerapi"
	"github.com/certctl/certctl/services/issuer/internal/bulk"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
)

// BulkRenewCertificates implements the operation of that name.
func (s *server) BulkRenewCertificates(ctx context.Context, r issuerapi.BulkRenewCertificatesRequestObject) (issuerapi.BulkRenewCertificatesResponseObject, error) {
	plan, made, err := s.runBulk(ctx, bulk.Request{Action: bulk.Renew}, r.Body)
	switch {
	case err != nil:
		return nil, err
	case plan != nil:
		return issuerapi.BulkRenewCertificates200JSONResponse(*plan), nil
	default:
		return issuerapi.BulkRenewCertificates202JSONResponse(made), nil
	}
}

// BulkArchiveCertificates implements the operation of that name.
func (s *server) BulkArchiveCertificates(ctx context.Context, r issuerapi.BulkArchiveCertificatesRequestObject) (issuerapi.BulkArchiveCertificatesResponseObject, error) {
	plan, made, err := s.runBulk(ctx, bulk.Request{Action: bulk.Archive}, r.Body)
	switch {
	case err != nil:
		return nil, err
	case plan != nil:
		return issuerapi.BulkArchiveCertificates200JSONResponse(*plan), nil
	default:
		return issuerapi.BulkArchiveCertificates202JSONResponse(made), nil
	}
}

// BulkReassignCertificates implements the operation of that name.
func (s *server) BulkReassignCertificates(ctx context.Context, r issuerapi.BulkReassignCertificatesRequestObject) (issuerapi.BulkReassignCertificatesResponseObject, error) {
	b := r.Body
	request := bulk.Request{Action: bulk.Reassign, To: bulk.Destination{TeamID: b.TeamID, OwnerID: b.OwnerID, Environment: b.Environment}}
	if b.Environment != nil && !issuance.Printable(*b.Environment) {
		return nil, invalid("environment", "holds characters that no value has")
	}
	for _, ref := range []struct {
		name string
		id   *string
	}{{"owner_id", b.OwnerID}, {"team_id", b.TeamID}} {
		if ref.id != nil && known(ref.name, *ref.id) != nil {
			return nil, invalid(ref.name, "is no valid id")
		}
	}
	plan, made, err := s.runBulk(ctx, request, &issuerapi.BulkRequest{Ids: b.Ids, Filter: b.Filter, DryRun: b.DryRun})
	switch {
	case err != nil:
		return nil, err
	case plan != nil:
		return issuerapi.BulkReassignCertificates200JSONResponse(*plan), nil
	default:
		return issuerapi.BulkReassignCertificates202JSONResponse(made), nil
	}
}

// runBulk starts an operation or, on a dry run, says what it would do.
func (s *server) runBulk(ctx context.Context, r bulk.Request, in *issuerapi.BulkRequest) (*issuerapi.BulkPlan, issuerapi.BulkOperation, error) {
	p, origin := asking(ctx)
	var none issuerapi.BulkOperation
	if in.Ids != nil {
		r.Selection.IDs = *in.Ids
	}
	if f := in.Filter; f != nil {
		for name := range f.AdditionalProperties {
			return nil, none, invalid("filter."+name, "is no filter of certificates")
		}
		given := filterInput{
			Q: f.Q, Status: f.Status, Environment: f.Environment, OwnerID: f.OwnerID, TeamID: f.TeamID, IssuerID: f.IssuerID,
			ProfileID: f.ProfileID, AgentID: f.AgentID, ExpiresBefore: f.ExpiresBefore, ExpiresAfter: f.ExpiresAfter,
			CreatedAfter: f.CreatedAfter, UpdatedAfter: f.UpdatedAfter,
		}
		read, err := given.filter("filter.", s.clock.Now())
		if err != nil {
			return nil, none, err
		}
		shown, err := json.Marshal(f)
		if err != nil {
			return nil, none, err
		}
		if string(shown) == "{}" {
			return nil, none, invalid("filter", "asks for nothing, which would be every certificate; if you mean that, q: true says so")
		}
		r.Selection.Filter, r.Selection.Shown = &read, shown
	}
	if in.DryRun != nil && *in.DryRun {
		plan, err := s.bulk.Plan(ctx, p, r)
		if err != nil {
			return nil, none, err
		}
		return bulkPlan(plan), none, nil
	}
	made, err := s.bulk.Start(ctx, p, origin, r)
	if err != nil {
		return nil, none, err
	}
	shown, err := bulkOperation(&made)
	return nil, shown, err
}

// ListBulkOperations implements the operation of that name.
func (s *server) ListBulkOperations(ctx context.Context, r issuerapi.ListBulkOperationsRequestObject) (issuerapi.ListBulkOperationsResponseObject, error) {
	p, _ := asking(ctx)
	at, err := pageOf(r.Params.Page, r.Params.PerPage, r.Params.Cursor)
	if err != nil {
		return nil, err
	}
	var status *string
	if v := r.Params.Status; v != nil && *v != "" {
		if !v.Valid() {
			return nil, invalid("status", "is none of the states of a bulk operation")
		}
		text := string(*v)
		status = &text
	}
	list, err := s.store.BulkOperations(ctx, bulk.ViewerOf(p), status, at)
	if err != nil {
		return nil, err
	}
	out := issuerapi.ListBulkOperations200JSONResponse{
		Data: make([]issuerapi.BulkOperation, len(list.Rows)), Total: list.Total,
		Page: at.Number, PerPage: at.Size, NextCursor: next(list.Next),
	}
	for i := range list.Rows {
		if out.Data[i], err = bulkOperation(&list.Rows[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// GetBulkOperation implements the operation of that name.
func (s *server) GetBulkOperation(ctx context.Context, r issuerapi.GetBulkOperationRequestObject) (issuerapi.GetBulkOperationResponseObject, error) {
	if err := known("bulk operation", r.ID); err != nil {
		return nil, err
	}
	p, _ := asking(ctx)
	o, err := s.store.BulkOperation(ctx, bulk.ViewerOf(p), r.ID)
	if err != nil {
		return nil, err
	}
	shown, err := bulkOperation(&o)
	return issuerapi.GetBulkOperation200JSONResponse(shown), err
}

// ListBulkItems implements the operation of that name.
func (s *server) ListBulkItems(ctx context.Context, r issuerapi.ListBulkItemsRequestObject) (issuerapi.ListBulkItemsResponseObject, error) {
	if err := known("bulk operation", r.ID); err != nil {
		return nil, err
	}
	at, err := pageOf(r.Params.Page, r.Params.PerPage, r.Params.Cursor)
	if err != nil {
		return nil, err
	}
	var status *string
	if v := r.Params.Status; v != nil && *v != "" {
		if !v.Valid() {
			return nil, invalid("status", "is none of the states of an item")
		}
		text := string(*v)
		status = &text
	}
	p, _ := asking(ctx)
	if _, err := s.store.BulkOperation(ctx, bulk.ViewerOf(p), r.ID); err != nil {
		return nil, err
	}
	list, err := s.store.BulkItems(ctx, r.ID, status, at)
	if err != nil {
		return nil, err
	}
	out := issuerapi.ListBulkItems200JSONResponse{
		Data: make([]issuerapi.BulkItem, len(list.Rows)), Total: list.Total,
		Page: at.Number, PerPage: at.Size, NextCursor: next(list.Next),
	}
	for i, item := range list.Rows {
		out.Data[i] = issuerapi.BulkItem{
			CertificateID: item.CertificateID, Status: issuerapi.BulkItemStatus(item.Status),
			Reason: text(item.Reason), JobID: text(item.JobID),
		}
	}
	return out, nil
}

// CancelBulkOperation implements the operation of that name.
func (s *server) CancelBulkOperation(ctx context.Context, r issuerapi.CancelBulkOperationRequestObject) (issuerapi.CancelBulkOperationResponseObject, error) {
	if err := known("bulk operation", r.ID); err != nil {
		return nil, err
	}
	p, _ := asking(ctx)
	o, err := s.bulk.Cancel(ctx, p, r.ID)
	if err != nil {
		return nil, err
	}
	shown, err := bulkOperation(&o)
	return issuerapi.CancelBulkOperation200JSONResponse(shown), err
}

func bulkPlan(p *bulk.Plan) *issuerapi.BulkPlan {
	out := &issuerapi.BulkPlan{
		DryRun: true, Action: issuerapi.BulkAction(p.Action), Total: p.Total, WouldChange: p.WouldChange, WouldRefuse: p.WouldRefuse,
		ByStatus: p.ByStatus, ByOwner: p.ByOwner, ByIssuer: p.ByIssuer, Ids: list(p.IDs),
		Refusals: make([]issuerapi.BulkRefusal, len(p.Refusals)),
	}
	for i, r := range p.Refusals {
		out.Refusals[i] = issuerapi.BulkRefusal{CertificateID: r.CertificateID, Reason: r.Reason}
	}
	return out
}

func bulkOperation(o *bulk.Operation) (issuerapi.BulkOperation, error) {
	out := issuerapi.BulkOperation{
		ID: o.ID, Action: issuerapi.BulkAction(o.Action), Status: issuerapi.BulkStatus(o.Status),
		Total: o.Total, Pending: o.Pending, Succeeded: o.Succeeded, Refused: o.Refused, Cancelled: o.Cancelled,
		OwnerID: o.To.OwnerID, TeamID: o.To.TeamID, Environment: o.To.Environment,
		RequestedBy: o.Origin.Actor, Error: text(o.Error), CreatedAt: o.CreatedAt.UTC(),
		StartedAt: moment(o.StartedAt), CompletedAt: moment(o.CompletedAt),
	}
	if len(o.Filter) == 0 {
		return out, nil
	}
	return out, json.Unmarshal(o.Filter, &out.Filter)
}
