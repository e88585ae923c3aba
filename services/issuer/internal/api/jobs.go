package api

import (
	"context"

	"github.com/certctl/certctl/contracts/httpapi/issuerapi"
	"github.com/certctl/certctl/services/issuer/internal/postgres"
)

// ListJobs implements the operation of that name, for the issuer's own jobs.
func (s *server) ListJobs(ctx context.Context, r issuerapi.ListJobsRequestObject) (issuerapi.ListJobsResponseObject, error) {
	p, _ := asking(ctx)
	q := postgres.JobQuery{Scope: p.Scope}
	var err error
	if q.Page, err = pageOf(r.Params.Page, r.Params.PerPage, r.Params.Cursor); err != nil {
		return nil, err
	}
	if status := r.Params.Status; status != nil && *status != "" {
		if !status.Valid() {
			return nil, invalid("status", "is none of the states of a job")
		}
		text := string(*status)
		q.Status = &text
	}
	if kind := r.Params.Type; kind != nil && *kind != "" {
		if !kind.Valid() {
			return nil, invalid("type", "is none of the types of a job")
		}
		text := string(*kind)
		q.Type = &text
	}
	if q.CertificateID, err = filter("certificate_id", r.Params.CertificateID); err != nil {
		return nil, err
	}
	q.CreatedAfter, q.CreatedBefore = r.Params.CreatedAfter, r.Params.CreatedBefore
	if q.Search, err = postgres.JobSearch.Ask(r.Params.Q, s.clock.Now()); err != nil {
		return nil, err
	}
	list, err := s.store.Jobs(ctx, q)
	if err != nil {
		return nil, err
	}
	out := issuerapi.ListJobs200JSONResponse{
		Data: make([]issuerapi.Job, len(list.Rows)), Total: list.Total,
		Page: q.Page.Number, PerPage: q.Page.Size, NextCursor: next(list.Next),
	}
	for i := range list.Rows {
		out.Data[i] = job(&list.Rows[i])
	}
	return out, nil
}

// GetJob implements the operation of that name.
func (s *server) GetJob(ctx context.Context, r issuerapi.GetJobRequestObject) (issuerapi.GetJobResponseObject, error) {
	if err := known("job", r.ID); err != nil {
		return nil, err
	}
	p, _ := asking(ctx)
	j, err := s.store.JobByID(ctx, p.Scope, r.ID)
	if err != nil {
		return nil, err
	}
	return issuerapi.GetJob200JSONResponse(job(&j)), nil
}

// CancelJob implements the operation of that name.
func (s *server) CancelJob(ctx context.Context, r issuerapi.CancelJobRequestObject) (issuerapi.CancelJobResponseObject, error) {
	if err := known("job", r.ID); err != nil {
		return nil, err
	}
	p, origin := asking(ctx)
	if err := s.service.Cancel(ctx, p, origin, r.ID); err != nil {
		return nil, err
	}
	return issuerapi.CancelJob200JSONResponse{Status: jobCancelled}, nil
}

// ApproveJob implements the operation of that name.
func (s *server) ApproveJob(ctx context.Context, r issuerapi.ApproveJobRequestObject) (issuerapi.ApproveJobResponseObject, error) {
	reason, err := decision(r.ID, r.Body)
	if err != nil {
		return nil, err
	}
	p, origin := asking(ctx)
	if err := s.service.Approve(ctx, p, origin, r.ID, reason); err != nil {
		return nil, err
	}
	return issuerapi.ApproveJob200JSONResponse{Status: jobApproved}, nil
}

// RejectJob implements the operation of that name.
func (s *server) RejectJob(ctx context.Context, r issuerapi.RejectJobRequestObject) (issuerapi.RejectJobResponseObject, error) {
	reason, err := decision(r.ID, r.Body)
	if err != nil {
		return nil, err
	}
	p, origin := asking(ctx)
	if err := s.service.Reject(ctx, p, origin, r.ID, reason); err != nil {
		return nil, err
	}
	return issuerapi.RejectJob200JSONResponse{Status: jobRejected}, nil
}

// maxReason is how long the reason for a decision may be.
const maxReason = 1000

// decision reads what is given with an approval or a rejection, which may be nothing.
func decision(id string, body *issuerapi.JobDecision) (reason string, err error) {
	if err := known("job", id); err != nil {
		return "", err
	}
	if body == nil {
		return "", nil
	}
	reason = value(body.Reason)
	if len(reason) > maxReason {
		return "", invalid("reason", "is longer than 1000 bytes")
	}
	return reason, nil
}
