package api

import (
	"time"

	"github.com/certctl/certctl/contracts/httpapi/issuerapi"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
	"github.com/certctl/certctl/services/issuer/internal/lint"
)

func certificate(c *issuance.Certificate) issuerapi.Certificate {
	return issuerapi.Certificate{
		ID: c.ID, Name: c.Name, CommonName: c.CommonName, Sans: list(c.SANs), Environment: c.Environment,
		OwnerID: c.OwnerID, TeamID: c.TeamID, IssuerID: c.IssuerID, RenewalPolicyID: c.RenewalPolicyID,
		CertificateProfileID: text(c.ProfileID),
		TargetIds:            list(c.TargetIDs), Tags: tags(c.Tags),
		Status: issuerapi.CertificateStatus(c.Status), StatusReason: text(c.StatusReason),
		ExpiresAt: c.ExpiresAt.UTC(), SerialNumber: text(c.SerialNumber), FingerprintSha256: text(c.Fingerprint),
		LastRenewalAt: moment(c.LastRenewalAt), LastDeploymentAt: moment(c.LastDeploymentAt),
		CreatedAt: c.CreatedAt.UTC(), UpdatedAt: c.UpdatedAt.UTC(),
	}
}

func version(v *issuance.Version) *issuerapi.CertificateVersion {
	if v == nil {
		return nil
	}
	return &issuerapi.CertificateVersion{
		ID: v.ID, CertificateID: v.CertificateID, SerialNumber: v.SerialNumber, FingerprintSha256: v.Fingerprint,
		NotBefore: v.NotBefore.UTC(), NotAfter: v.NotAfter.UTC(), PemChain: v.PEMChain, CsrPem: v.CSRPEM,
		KeyAlgorithm: text(v.KeyAlgorithm), KeySize: &v.KeySize, CreatedAt: v.CreatedAt.UTC(),
		IssuerID: text(v.IssuerID), IssuerName: text(v.IssuerName),
		KeyState: keyState(v.KeyState), Imported: imported(v.Imported), LintFindings: findings(v.Findings),
	}
}

// keyState leaves out that a key never was here.
func keyState(s issuance.KeyState) *issuerapi.CertificateVersionKeyState {
	if s == "" {
		return nil
	}
	state := issuerapi.CertificateVersionKeyState(s)
	return &state
}

// imported is left out of versions that were issued here.
func imported(is bool) *bool {
	if !is {
		return nil
	}
	return &is
}

// findings leaves out the list if it is empty.
func findings(found []lint.Finding) *[]issuerapi.LintFinding {
	if len(found) == 0 {
		return nil
	}
	out := make([]issuerapi.LintFinding, len(found))
	for i, f := range found {
		out[i] = issuerapi.LintFinding{
			Lint: f.Lint, Level: issuerapi.LintFindingLevel(f.Level), Text: f.Text, Detail: text(f.Detail), Source: f.Source, Citation: text(f.Citation),
		}
	}
	return &out
}

func job(j *issuance.Job) issuerapi.Job {
	return issuerapi.Job{
		ID: j.ID, Type: issuerapi.JobType(j.Type), CertificateID: j.CertificateID, Status: issuerapi.JobStatus(j.Status),
		Attempts: j.Attempts, MaxAttempts: j.MaxAttempts, AgentID: text(j.AgentID), VersionID: text(j.VersionID),
		LastError: text(j.LastError), ScheduledAt: j.NextActionAt.UTC(), CreatedAt: j.CreatedAt.UTC(),
		StartedAt: moment(j.StartedAt), CompletedAt: moment(j.CompletedAt), RequestedBy: text(j.Origin.Actor),
		ApprovedBy: text(j.ApprovedBy), ApprovedAt: moment(j.ApprovedAt), RejectedBy: text(j.RejectedBy), ApprovalReason: text(j.ApprovalReason),
	}
}

func list(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

func tags(t map[string]string) map[string]string {
	if t == nil {
		return map[string]string{}
	}
	return t
}

// text leaves out what is empty.
func text(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// moment leaves out what has not been.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	u := t.UTC()
	return &u
}
