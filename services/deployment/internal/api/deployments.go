package api

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/contracts/httpapi/deploymentapi"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/id"
	"github.com/certctl/certctl/services/deployment/internal/outgoing"
	"github.com/certctl/certctl/services/deployment/internal/postgres"
)

// Issuer is asked for what is not known here.
type Issuer interface {
	// Check returns nil if there is a certificate that the caller of ctx may see.
	Check(ctx context.Context, id string) error
	// UsesOfGroup names some policies that are limited to a group, and says how many are.
	UsesOfGroup(ctx context.Context, groupID string) (ids []string, total int64, err error)
}

// ListCertificateDeployments implements the operation.
func (a *Answers) ListCertificateDeployments(ctx context.Context, r deploymentapi.ListCertificateDeploymentsRequestObject) (deploymentapi.ListCertificateDeploymentsResponseObject, error) {
	if err := known("certificate", r.ID); err != nil {
		return nil, err
	}
	list := deploymentapi.ListCertificateDeployments200JSONResponse{Data: []deploymentapi.CertificateDeployment{}}
	here, err := postgres.KnowsCertificate(ctx, a.DB, r.ID, authn.FromContext(ctx).Scope)
	if err != nil {
		return nil, err
	}
	if !here {
		return list, a.Issuer.Check(ctx, r.ID)
	}
	installations, err := postgres.Installations(ctx, a.DB, r.ID)
	if err != nil {
		return nil, err
	}
	list.Data, list.Total = shownAll(installations, shownInstallation), int64(len(installations))
	return list, nil
}

func shownInstallation(i postgres.Installation) deploymentapi.CertificateDeployment {
	t := i.Target
	shown := deploymentapi.CertificateDeployment{
		ID: t.ID, Name: t.Name, Type: t.Type, AgentID: t.AgentID, Config: t.Config, Enabled: t.Enabled,
		CreatedAt: t.CreatedAt, UpdatedAt: t.UpdatedAt,
		VersionID: given(i.VersionID), FingerprintSha256: given(i.Fingerprint), DeployedAt: givenTime(i.DeployedAt),
		JobID: given(i.JobID), JobError: given(i.JobError),
	}
	if i.JobStatus != "" {
		status := deploymentapi.JobStatus(i.JobStatus)
		shown.JobStatus = &status
	}
	return shown
}

// ValidateCertificate implements the operation.
func (a *Answers) ValidateCertificate(ctx context.Context, r deploymentapi.ValidateCertificateRequestObject) (deploymentapi.ValidateCertificateResponseObject, error) {
	if err := known("certificate", r.ID); err != nil {
		return nil, err
	}
	target := ""
	if r.Body != nil && r.Body.TargetID != nil {
		target = *r.Body.TargetID
	}
	if target != "" && !id.Valid(target) {
		return nil, fault.InvalidFields(fault.Field{Name: "target_id", Reason: "is no id"})
	}
	switch here, err := postgres.KnowsCertificate(ctx, a.DB, r.ID, authn.FromContext(ctx).Scope); {
	case err != nil:
		return nil, err
	case !here:
		if err := a.Issuer.Check(ctx, r.ID); err != nil {
			return nil, err
		}
		return nil, fault.New(fault.Conflict, "certificate %s has no targets", r.ID)
	}
	var jobs []string
	err := a.change(ctx, func(tx pgx.Tx) (err error) {
		jobs, err = a.Desk.Validate(ctx, tx, r.ID, target, outgoing.CauseOf(ctx))
		return err
	})
	if err != nil {
		return nil, err
	}
	return deploymentapi.ValidateCertificate202JSONResponse{Status: "validation_triggered", JobIds: jobs}, nil
}

// RetryJob implements the operation, for the jobs of this service.
func (a *Answers) RetryJob(ctx context.Context, r deploymentapi.RetryJobRequestObject) (deploymentapi.RetryJobResponseObject, error) {
	if err := known("job", r.ID); err != nil {
		return nil, err
	}
	var again string
	err := a.change(ctx, func(tx pgx.Tx) error {
		j, err := postgres.ReadJob(ctx, tx, r.ID, authn.FromContext(ctx).Scope)
		if err != nil {
			return err
		}
		again, err = a.Desk.Again(ctx, tx, &j.Job, outgoing.CauseOf(ctx))
		return err
	})
	if err != nil {
		return nil, err
	}
	return deploymentapi.RetryJob202JSONResponse{Status: "job_retried", JobID: again}, nil
}
