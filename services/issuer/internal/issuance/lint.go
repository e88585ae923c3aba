package issuance

import (
	"context"
	"time"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca"
	"github.com/certctl/certctl/services/issuer/internal/lint"
	"github.com/certctl/certctl/services/issuer/internal/profile"
)

// candidate is a certificate that is about to be issued.
type candidate struct {
	// issue has the CA issue it.
	issue func(context.Context) (ca.Issued, error)
	// findings are those about its draft; they are not known yet unless it is drafted.
	findings []lint.Finding
	drafted  bool
}

// propose has a certificate linted before the CA's key signs it, if the CA can show it before and the profile may block
// it. Where nothing is blocked a draft would tell no more than the certificate does, and cost another signature. Its
// error is Invalid if the profile blocks what was found.
func (s *Service) propose(ctx context.Context, issuerID string, issuer ca.Issuer, r ca.Request, rules *profile.Profile) (candidate, error) {
	drafter, can := issuer.(ca.Drafter)
	if !can || !rules.Blocks() {
		return candidate{issue: func(ctx context.Context) (ca.Issued, error) { return issuer.Issue(ctx, r) }}, nil
	}
	began := time.Now()
	draft, err := drafter.Draft(ctx, r)
	if err != nil {
		s.settings.Asked(issuerID, time.Since(began), err)
		return candidate{}, err
	}
	findings := s.lint(draft.DER, rules)
	return candidate{issue: draft.Sign, findings: findings, drafted: true}, rules.CheckFindings(findings)
}

// accept returns what was found about a certificate that was issued, linting it unless its draft was. Its error is a
// Conflict if the profile blocks what was found: then the CA has a certificate on its books that nobody is going to use.
func (s *Service) accept(c *candidate, issued ca.Issued, rules *profile.Profile) ([]lint.Finding, error) {
	if c.drafted {
		return c.findings, nil
	}
	findings := s.lint(issued.DER, rules)
	if err := rules.CheckFindings(findings); err != nil {
		return nil, fault.New(fault.Conflict, "the CA has issued a certificate, with the serial number %s, that is refused: %s",
			x509x.SerialHex(issued.Serial), fault.From(err).Message)
	}
	return findings, nil
}

func (s *Service) lint(der []byte, rules *profile.Profile) []lint.Finding {
	findings := rules.Lint(der)
	for _, f := range findings {
		s.settings.Found(f)
	}
	return findings
}
