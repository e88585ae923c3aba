package postgres

import (
	"github.com/certctl/certctl/libs/search"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
)

// certificates asks for those that a filter admits.
func (c *conditions) certificates(f *issuance.Filter) {
	switch len(f.Statuses) {
	case 0:
	case 1:
		// An order behind the status is served by its index for one, not for any of several.
		c.equal("c.status", &f.Statuses[0])
	default:
		c.parts = append(c.parts, "c.status = ANY("+c.arg(f.Statuses)+")")
	}
	c.equal("c.environment", f.Environment)
	c.equal("c.owner_id", f.OwnerID)
	c.equal("c.team_id", f.TeamID)
	c.equal("c.issuer_id", f.IssuerID)
	c.equal("c.certificate_profile_id", f.ProfileID)
	if f.AgentID != nil {
		c.parts = append(c.parts, `c.id IN (SELECT ct.certificate_id FROM target_agents ta JOIN certificate_targets ct USING (target_id)
			WHERE ta.agent_id = `+c.arg(*f.AgentID)+` AND NOT ta.deleted)`)
	}
	c.moment("c.expires_at <", f.ExpiresBefore)
	c.moment("c.expires_at >", f.ExpiresAfter)
	c.moment("c.created_at >", f.CreatedAfter)
	c.moment("c.updated_at >", f.UpdatedAfter)
	c.search(f.Search)
}

// CertificateSearch is what search expressions can ask of certificates.
var CertificateSearch = search.New(
	search.Field{Name: "id", Column: "c.id", Type: search.Text},
	search.Field{Name: "name", Column: "c.name", Type: search.Text, Bytewise: true},
	search.Field{Name: "common_name", Column: "c.common_name", Type: search.Text, Bytewise: true},
	search.Field{Name: "sans", Column: "c.sans", Type: search.Texts},
	search.Field{Name: "tags", Column: "c.tags", Type: search.Map},
	search.Field{Name: "status", Column: "c.status", Type: search.Text, Values: texts(issuance.CertificateStatuses)},
	search.Field{Name: "environment", Column: "c.environment", Type: search.Text},
	search.Field{Name: "owner_id", Column: "c.owner_id", Type: search.Text},
	search.Field{Name: "team_id", Column: "c.team_id", Type: search.Text},
	search.Field{Name: "issuer_id", Column: "c.issuer_id", Type: search.Text},
	search.Field{Name: "renewal_policy_id", Column: "c.renewal_policy_id", Type: search.Text},
	search.Field{Name: "certificate_profile_id", Column: "c.certificate_profile_id", Type: search.Text},
	search.Field{Name: "serial_number", Column: "c.serial_number", Type: search.Text},
	search.Field{Name: "fingerprint_sha256", Column: "c.fingerprint_sha256", Type: search.Text},
	search.Field{Name: "expires_at", Column: "c.expires_at", Type: search.Time},
	search.Field{Name: "last_renewal_at", Column: "c.last_renewal_at", Type: search.Time},
	search.Field{Name: "last_deployment_at", Column: "c.last_deployment_at", Type: search.Time},
	search.Field{Name: "created_at", Column: "c.created_at", Type: search.Time},
	search.Field{Name: "updated_at", Column: "c.updated_at", Type: search.Time},
)

// JobSearch is what search expressions can ask of jobs. The deployment service has the same fields for its own.
var JobSearch = search.New(
	search.Field{Name: "id", Column: "j.id", Type: search.Text},
	search.Field{Name: "type", Column: "j.type", Type: search.Text, Values: []string{"Issuance", "Renewal", "Deployment", "Validation"}},
	search.Field{Name: "status", Column: "j.status", Type: search.Text, Values: texts(issuance.JobStatuses)},
	search.Field{Name: "certificate_id", Column: "j.certificate_id", Type: search.Text},
	search.Field{Name: "target_id", Column: "''::text", Type: search.Text},
	search.Field{Name: "agent_id", Column: "j.agent_id", Type: search.Text},
	search.Field{Name: "version_id", Column: "j.version_id", Type: search.Text},
	search.Field{Name: "attempts", Column: "j.attempts", Type: search.Int},
	search.Field{Name: "last_error", Column: "j.last_error", Type: search.Text},
	search.Field{Name: "created_at", Column: "j.created_at", Type: search.Time},
	search.Field{Name: "started_at", Column: "j.started_at", Type: search.Time},
	search.Field{Name: "completed_at", Column: "j.completed_at", Type: search.Time},
)

func texts[T ~string](of []T) []string { return column(of, func(v *T) string { return string(*v) }) }
