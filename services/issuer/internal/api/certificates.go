package api

import (
	"context"

	"github.com/certctl/certctl/contracts/httpapi/issuerapi"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/httpx"
	"github.com/certctl/certctl/libs/id"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
)

// Statuses of accepted requests, as clients of the older API know them.
const (
	renewalTriggered = "renewal_triggered"
	csrSigned        = "csr_signed"
	csrAccepted      = "csr_accepted"
	jobCancelled     = "job_cancelled"
	jobApproved      = "job_approved"
	jobRejected      = "job_rejected"
)

// known refuses an id that nothing can have, before it reaches the database.
func known(what, s string) error {
	if !id.Valid(s) {
		return fault.New(fault.NotFound, "there is no %s of this id", what)
	}
	return nil
}

// CreateCertificate implements the operation of that name.
func (s *server) CreateCertificate(ctx context.Context, r issuerapi.CreateCertificateRequestObject) (issuerapi.CreateCertificateResponseObject, error) {
	p, origin := asking(ctx)
	b := r.Body
	request := issuance.Request{
		ID: value(b.ID), Name: value(b.Name), CommonName: b.CommonName, Environment: value(b.Environment),
		OwnerID: value(b.OwnerID), TeamID: value(b.TeamID), IssuerID: value(b.IssuerID),
		RenewalPolicyID: value(b.RenewalPolicyID), ProfileID: value(b.CertificateProfileID), CSRPEM: value(b.CsrPem),
	}
	if b.Sans != nil {
		request.SANs = *b.Sans
	}
	if b.TargetIds != nil {
		request.TargetIDs = *b.TargetIds
	}
	if b.Tags != nil {
		request.Tags = *b.Tags
	}
	created, err := s.service.Create(ctx, p, origin, request)
	if err != nil {
		return nil, err
	}
	out := certificate(&created.Certificate)
	out.JobID = &created.Job.ID
	out.Version, out.Warning = version(created.Version), text(created.Warning)
	return issuerapi.CreateCertificate201JSONResponse(out), nil
}

// GetCertificate implements the operation of that name.
func (s *server) GetCertificate(ctx context.Context, r issuerapi.GetCertificateRequestObject) (issuerapi.GetCertificateResponseObject, error) {
	if err := known("certificate", r.ID); err != nil {
		return nil, err
	}
	p, _ := asking(ctx)
	c, err := s.store.Certificate(ctx, p.Scope, r.ID)
	if err != nil {
		return nil, err
	}
	body := certificate(&c)
	if body.RenewalAdvice, err = s.renewalAdvice(ctx, &c); err != nil {
		return nil, err
	}
	return issuerapi.GetCertificate200JSONResponse{
		Body: body, Headers: issuerapi.GetCertificate200ResponseHeaders{ETag: httpx.ETag(c.Revision)},
	}, nil
}

// renewalAdvice is what the CA says about the renewal of a certificate, nil if it has said nothing.
func (s *server) renewalAdvice(ctx context.Context, c *issuance.Certificate) (*issuerapi.RenewalAdvice, error) {
	if c.VersionID == "" {
		return nil, nil //nolint:nilnil // it is left out then
	}
	k, err := s.store.Advice(ctx, c.ID, c.VersionID)
	if err != nil || k == nil {
		return nil, err
	}
	return &issuerapi.RenewalAdvice{
		WindowStart: k.Start.UTC(), WindowEnd: k.End.UTC(), RenewAt: k.At.UTC(), ExplanationURL: text(k.Explanation), ToldAt: k.ToldAt.UTC(),
		LastError: text(k.Error),
	}, nil
}

// UpdateCertificate implements the operation of that name.
func (s *server) UpdateCertificate(ctx context.Context, r issuerapi.UpdateCertificateRequestObject) (issuerapi.UpdateCertificateResponseObject, error) {
	if err := known("certificate", r.ID); err != nil {
		return nil, err
	}
	p, origin := asking(ctx)
	b := r.Body
	c, err := s.service.Update(ctx, p, origin, r.ID, issuance.Update{
		Name: b.Name, CommonName: b.CommonName, SANs: b.Sans, Environment: b.Environment, OwnerID: b.OwnerID, TeamID: b.TeamID,
		IssuerID: b.IssuerID, RenewalPolicyID: b.RenewalPolicyID, TargetIDs: b.TargetIds, Tags: b.Tags, ProfileID: b.CertificateProfileID,
	}, seen(r.Params.IfMatch))
	if err != nil {
		return nil, err
	}
	return issuerapi.UpdateCertificate200JSONResponse{
		Body: certificate(&c), Headers: issuerapi.UpdateCertificate200ResponseHeaders{ETag: httpx.ETag(c.Revision)},
	}, nil
}

// ArchiveCertificate implements the operation of that name.
func (s *server) ArchiveCertificate(ctx context.Context, r issuerapi.ArchiveCertificateRequestObject) (issuerapi.ArchiveCertificateResponseObject, error) {
	if err := known("certificate", r.ID); err != nil {
		return nil, err
	}
	p, origin := asking(ctx)
	if err := s.service.Archive(ctx, p, origin, r.ID); err != nil {
		return nil, err
	}
	return issuerapi.ArchiveCertificate204Response{}, nil
}

// RenewCertificate implements the operation of that name.
func (s *server) RenewCertificate(ctx context.Context, r issuerapi.RenewCertificateRequestObject) (issuerapi.RenewCertificateResponseObject, error) {
	if err := known("certificate", r.ID); err != nil {
		return nil, err
	}
	csr := ""
	if r.Body != nil {
		csr = value(r.Body.CsrPem)
	}
	p, origin := asking(ctx)
	triggered, err := s.service.Renew(ctx, p, origin, r.ID, csr)
	if err != nil {
		return nil, err
	}
	return issuerapi.RenewCertificate202JSONResponse{
		Status: renewalTriggered, JobID: triggered.JobID, Version: version(triggered.Version),
	}, nil
}

// SubmitCertificateCSR implements the operation of that name.
func (s *server) SubmitCertificateCSR(ctx context.Context, r issuerapi.SubmitCertificateCSRRequestObject) (issuerapi.SubmitCertificateCSRResponseObject, error) {
	if err := known("certificate", r.ID); err != nil {
		return nil, err
	}
	p, origin := asking(ctx)
	triggered, err := s.service.Submit(ctx, p, origin, r.ID, r.Body.CsrPem)
	if err != nil {
		return nil, err
	}
	status := csrAccepted
	if triggered.Version != nil {
		status = csrSigned
	}
	return issuerapi.SubmitCertificateCSR202JSONResponse{
		Status: status, JobID: triggered.JobID, Version: version(triggered.Version),
	}, nil
}

// ListCertificateVersions implements the operation of that name.
func (s *server) ListCertificateVersions(ctx context.Context, r issuerapi.ListCertificateVersionsRequestObject) (issuerapi.ListCertificateVersionsResponseObject, error) {
	if err := known("certificate", r.ID); err != nil {
		return nil, err
	}
	p, _ := asking(ctx)
	at, err := pageOf(r.Params.Page, r.Params.PerPage, r.Params.Cursor)
	if err != nil {
		return nil, err
	}
	list, err := s.store.Versions(ctx, p.Scope, r.ID, at)
	if err != nil {
		return nil, err
	}
	out := issuerapi.ListCertificateVersions200JSONResponse{
		Data: make([]issuerapi.CertificateVersion, len(list.Rows)), Total: list.Total, Page: at.Number, PerPage: at.Size,
		NextCursor: next(list.Next),
	}
	for i := range list.Rows {
		out.Data[i] = *version(&list.Rows[i])
	}
	return out, nil
}
