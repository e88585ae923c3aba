package api

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/contracts/httpapi/deploymentapi"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/id"
	"github.com/certctl/certctl/libs/page"
	"github.com/certctl/certctl/services/deployment/internal/postgres"
)

// ListJobs implements the operation, for the jobs of this service.
func (a *Answers) ListJobs(ctx context.Context, r deploymentapi.ListJobsRequestObject) (deploymentapi.ListJobsResponseObject, error) {
	w, err := ask(r.Params.Page, r.Params.PerPage)
	if err != nil {
		return nil, err
	}
	filter, err := jobFilter(ctx, r.Params)
	if err != nil {
		return nil, err
	}
	if filter.Search, err = postgres.JobSearch.Ask(r.Params.Q, a.Clock.Now()); err != nil {
		return nil, err
	}
	offset := w.offset()
	if filter.BehindID != "" {
		offset = 0
	}
	// One more than is shown tells whether the list goes on.
	jobs, total, err := postgres.ListJobs(ctx, a.DB, &a.totals, filter, w.size+1, offset)
	if err != nil {
		return nil, err
	}
	list := deploymentapi.ListJobs200JSONResponse{Data: []deploymentapi.Job{}, Total: total, Page: w.number, PerPage: w.size}
	if len(jobs) > w.size {
		jobs = jobs[:w.size]
		last := jobs[w.size-1]
		cursor := page.At(last.CreatedAt, last.ID).String()
		list.NextCursor = &cursor
	}
	for _, j := range jobs {
		list.Data = append(list.Data, shownJob(j))
	}
	return list, nil
}

func jobFilter(ctx context.Context, p deploymentapi.ListJobsParams) (postgres.JobFilter, error) {
	f := postgres.JobFilter{
		Scope: authn.FromContext(ctx).Scope, CreatedAfter: p.CreatedAfter, CreatedBefore: p.CreatedBefore,
	}
	var bad []fault.Field
	if p.Status != nil {
		f.Status = string(*p.Status)
		if !p.Status.Valid() {
			bad = append(bad, fault.Field{Name: "status", Reason: "is no state of a job"})
		}
	}
	if p.Type != nil {
		f.Type = string(*p.Type)
		if !p.Type.Valid() {
			bad = append(bad, fault.Field{Name: "type", Reason: "is no type of a job"})
		}
	}
	if p.CertificateID != nil {
		f.CertificateID = *p.CertificateID
		if !id.Valid(f.CertificateID) {
			bad = append(bad, fault.Field{Name: "certificate_id", Reason: "is no id"})
		}
	}
	if len(bad) > 0 {
		return f, fault.InvalidFields(bad...)
	}
	if p.Cursor != nil && *p.Cursor != "" {
		cursor, err := page.Parse(*p.Cursor)
		if err != nil {
			return f, err
		}
		f.BehindID = cursor.ID
		if f.Behind, err = cursor.Time(); err != nil {
			return f, err
		}
		if !id.Valid(f.BehindID) {
			return f, fault.InvalidFields(fault.Field{Name: "cursor", Reason: "is not one that a list has given"})
		}
	}
	return f, nil
}

func shownJob(j postgres.ListedJob) deploymentapi.Job {
	return deploymentapi.Job{
		ID: j.ID, Type: deploymentapi.JobType(j.Type), CertificateID: j.CertificateID, Status: deploymentapi.JobStatus(j.Status),
		TargetID: given(j.TargetID), AgentID: given(j.AgentID), VersionID: given(j.VersionID), LastError: given(j.LastError),
		Attempts: j.Attempts, MaxAttempts: j.MaxAttempts,
		ScheduledAt: j.ScheduledAt, StartedAt: givenTime(j.StartedAt), CompletedAt: givenTime(j.CompletedAt), CreatedAt: j.CreatedAt,
	}
}

func given(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func givenTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// GetJob implements the operation, for the jobs of this service.
func (a *Answers) GetJob(ctx context.Context, r deploymentapi.GetJobRequestObject) (deploymentapi.GetJobResponseObject, error) {
	if err := known("job", r.ID); err != nil {
		return nil, err
	}
	j, err := postgres.ReadJob(ctx, a.DB, r.ID, authn.FromContext(ctx).Scope)
	if err != nil {
		return nil, err
	}
	return deploymentapi.GetJob200JSONResponse(shownJob(j)), nil
}

// ApproveJob implements the operation. No job of this service waits for approval.
func (a *Answers) ApproveJob(ctx context.Context, r deploymentapi.ApproveJobRequestObject) (deploymentapi.ApproveJobResponseObject, error) {
	return nil, a.noDecision(ctx, "approve", r.ID)
}

// RejectJob implements the operation. No job of this service waits for approval.
func (a *Answers) RejectJob(ctx context.Context, r deploymentapi.RejectJobRequestObject) (deploymentapi.RejectJobResponseObject, error) {
	return nil, a.noDecision(ctx, "reject", r.ID)
}

func (a *Answers) noDecision(ctx context.Context, verb, id string) error {
	if err := known("job", id); err != nil {
		return err
	}
	j, err := postgres.ReadJob(ctx, a.DB, id, authn.FromContext(ctx).Scope)
	if err != nil {
		return err
	}
	return fault.New(fault.Invalid, "cannot %s job with status %s (must be AwaitingApproval)", verb, j.Status)
}

// CancelJob implements the operation, for the jobs of this service.
func (a *Answers) CancelJob(ctx context.Context, r deploymentapi.CancelJobRequestObject) (deploymentapi.CancelJobResponseObject, error) {
	if err := known("job", r.ID); err != nil {
		return nil, err
	}
	caller := authn.FromContext(ctx)
	err := a.change(ctx, func(tx pgx.Tx) error {
		if _, err := postgres.ReadJob(ctx, tx, r.ID, caller.Scope); err != nil {
			return err
		}
		return a.Desk.Cancel(ctx, tx, r.ID, "cancelled by "+caller.ID)
	})
	if err != nil {
		return nil, err
	}
	return deploymentapi.CancelJob200JSONResponse{Status: "job_cancelled"}, nil
}
