package api

import (
	"context"
	"mime"
	"net/http"
	"strings"

	"github.com/certctl/certctl/contracts/httpapi/issuerapi"
	"github.com/certctl/certctl/libs/id"
)

// Statuses of accepted requests, as clients of the older API know them.
const (
	deploymentTriggered = "deployment_triggered"
	jobRetried          = "job_retried"
)

// DeployCertificate implements the operation of that name.
func (s *server) DeployCertificate(ctx context.Context, r issuerapi.DeployCertificateRequestObject) (issuerapi.DeployCertificateResponseObject, error) {
	if err := known("certificate", r.ID); err != nil {
		return nil, err
	}
	var target, version string
	if b := r.Body; b != nil {
		target, version = value(b.TargetID), value(b.VersionID)
	}
	for field, given := range map[string]string{"target_id": target, "version_id": version} {
		if given != "" && !id.Valid(given) {
			return nil, invalid(field, "is no id")
		}
	}
	p, origin := asking(ctx)
	d, err := s.service.Deploy(ctx, p, origin, r.ID, target, version)
	if err != nil {
		return nil, err
	}
	return issuerapi.DeployCertificate202JSONResponse{Status: deploymentTriggered, VersionID: d.VersionID, TargetIds: d.TargetIDs}, nil
}

// deployBody keeps the body of a deployment from being read unless it says that it is JSON: clients that are out there
// send whatever they like along with a POST that needs no body.
func deployBody(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/deploy") {
			if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
				r.Body = http.NoBody
			}
		}
		next.ServeHTTP(w, r)
	})
}

// RetryJob implements the operation of that name, for the issuer's own jobs.
func (s *server) RetryJob(ctx context.Context, r issuerapi.RetryJobRequestObject) (issuerapi.RetryJobResponseObject, error) {
	if err := known("job", r.ID); err != nil {
		return nil, err
	}
	p, origin := asking(ctx)
	triggered, err := s.service.Retry(ctx, p, origin, r.ID)
	if err != nil {
		return nil, err
	}
	return issuerapi.RetryJob202JSONResponse{Status: jobRetried, JobID: triggered.JobID}, nil
}
