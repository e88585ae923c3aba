package issuance

import (
	"context"
	"strings"
	"time"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/obs"
	"github.com/certctl/certctl/services/issuer/internal/blockedkey"
	"github.com/certctl/certctl/services/issuer/internal/policy"
	"github.com/certctl/certctl/services/issuer/internal/profile"
	"github.com/certctl/certctl/services/issuer/internal/rulebook"
)

// Rules are the profiles and policy rules that the service judges by, for whoever changes them.
func (s *Service) Rules() *rulebook.Cache { return s.rules }

// Blocked are the keys that no certificate is made for, for whoever changes them.
func (s *Service) Blocked() *blockedkey.Set { return s.blocked }

// profile returns the profile of an id, nil for none. One that does not exist is Invalid.
func (s *Service) profile(ctx context.Context, id string) (*profile.Profile, error) {
	if id == "" {
		return nil, nil //nolint:nilnil // no profile
	}
	for _, read := range [...]func(context.Context) (*rulebook.Book, error){s.rules.Book, s.rules.Newest} {
		book, err := read(ctx)
		if err != nil {
			return nil, err
		}
		if p, ok := book.Profiles[id]; ok {
			return p, nil
		}
	}
	return nil, fault.InvalidFields(fault.Field{Name: "certificate_profile_id", Reason: "unknown profile " + id})
}

// Breach is a finding about a certificate as it is stored and told.
type Breach struct {
	policy.Finding
	Stage policy.Stage
	// Facts are those of the certificate. Its id is empty if it was refused, and therefore never was.
	Facts policy.Facts
	JobID string
	Origin
	At time.Time
}

// Fact is what is told of a breach.
func (b *Breach) Fact() Fact {
	return Fact{
		Event: event.PolicyViolated{
			RuleID: b.RuleID, RuleName: b.RuleName, Severity: string(b.Severity), CertificateID: b.Facts.CertificateID,
			CommonName: b.Facts.CommonName, Message: b.Message, Blocked: b.Severity.Blocks(), Stage: string(b.Stage),
		},
		Origin: b.Origin, At: b.At,
	}
}

// judge holds the enabled rules that concern a certificate against it, and returns what breaks them. Its error is
// Unavailable while that cannot be told.
func (s *Service) judge(ctx context.Context, w *Work, stage policy.Stage, now time.Time) ([]Breach, error) {
	book, err := s.rules.Book(ctx)
	if err != nil || len(book.Rules) == 0 {
		return nil, err
	}
	renewal, known := book.RenewalPolicies[w.RenewalPolicyID]
	if !known {
		// It may have been made a moment ago.
		if book, err = s.rules.Newest(ctx); err != nil {
			return nil, err
		}
		renewal = book.RenewalPolicies[w.RenewalPolicyID]
	}
	facts := w.facts(renewal.LeadDays())
	var out []Breach
	for _, rule := range book.Rules {
		concerned, err := s.concerns(ctx, rule, w)
		if err != nil {
			return nil, err
		}
		if !concerned {
			continue
		}
		for _, f := range policy.Evaluate(rule, &facts) {
			out = append(out, Breach{Finding: f, Stage: stage, Facts: facts, JobID: w.ID, Origin: w.Origin, At: now})
		}
	}
	return out, nil
}

// concerns reports whether a rule is for a certificate: that of an agent group is for those that its agents install.
func (s *Service) concerns(ctx context.Context, rule *policy.Rule, w *Work) (bool, error) {
	if rule.AgentGroupID == "" {
		return true, nil
	}
	agentID := w.AgentID
	if agentID == "" && len(w.Targets) > 0 {
		agentID = w.Targets[0].AgentID
	}
	if agentID == "" {
		return false, nil
	}
	return s.targets.InGroup(ctx, agentID, rule.AgentGroupID)
}

func (w *Work) facts(renewalWindow int) policy.Facts {
	return policy.Facts{
		CertificateID: w.CertificateID, Name: w.Name, CommonName: w.CommonName, SANs: w.SANs, Environment: w.Environment,
		OwnerID: w.OwnerID, TeamID: w.TeamID, IssuerID: w.IssuerID, ProfileID: w.ProfileID,
		RenewalPolicyID: w.RenewalPolicyID, Tags: w.Tags, RenewalWindowDays: renewalWindow,
	}
}

// forbids is the refusal that follows from breaches, nil if all of them are warnings. It lists each rule and value.
func forbids(breaches []Breach) error {
	var fields []fault.Field
	var reasons []string
	for i := range breaches {
		if b := &breaches[i]; b.Severity.Blocks() {
			fields = append(fields, fault.Field{Name: b.Field, Reason: b.Message})
			reasons = append(reasons, b.Message)
		}
	}
	if len(fields) == 0 {
		return nil
	}
	f := fault.New(fault.Conflict, "%s", Clean("refused: "+strings.Join(reasons, "; ")))
	f.Fields = fields
	return f
}

// permit judges a request. What is refused is put on record in a transaction of its own; the warnings are for the caller
// to store with what it does.
func (s *Service) permit(ctx context.Context, w *Work, stage policy.Stage, now time.Time) ([]Breach, error) {
	breaches, err := s.judge(ctx, w, stage, now)
	if err != nil {
		return nil, err
	}
	refusal := forbids(breaches)
	if refusal == nil {
		return breaches, nil
	}
	if err := s.store.Record(ctx, breaches); err != nil {
		return nil, err
	}
	return nil, refusal
}

// policyStage is the stage at which a job of the type is judged.
func (t JobType) policyStage() policy.Stage {
	if t == Renewal {
		return policy.Renew
	}
	return policy.Issue
}

// gate judges a job before it goes on. Unless it may, the change is what becomes of it.
func (s *Service) gate(ctx context.Context, w *Work, now time.Time) ([]Breach, *Change) {
	breaches, err := s.judge(ctx, w, w.Type.policyStage(), now)
	if err != nil {
		w.Attempts++
		c := s.setback(w, err, now, "")
		return nil, &c
	}
	if refusal := forbids(breaches); refusal != nil {
		c := failure(w, fault.From(refusal).Message, now, "")
		c.Breaches = breaches
		return nil, &c
	}
	return breaches, nil
}

// Verdict says whether the policy rules allow something to be done with a certificate within the caller's scope. It is a
// Conflict that names each rule and value if they do not, and Unavailable while that cannot be told. What breaks a rule
// is put on record, whether it is refused or not.
func (s *Service) Verdict(ctx context.Context, certificateID string, stage policy.Stage) error {
	p := authn.FromContext(ctx)
	c, err := s.store.Certificate(ctx, p.Scope, certificateID)
	if err != nil {
		return err
	}
	targets, err := s.store.Targets(ctx, c.TargetIDs)
	if err != nil {
		return err
	}
	o := Origin{Actor: p.ID, CorrelationID: obs.RequestID(ctx), TraceParent: obs.TraceParent(ctx)}
	w := c.work(Job{CertificateID: c.ID, Origin: o}, targets)
	warnings, err := s.permit(ctx, &w, stage, s.clock.Now())
	if err != nil || len(warnings) == 0 {
		return err
	}
	return s.store.Record(ctx, warnings)
}

// work is what has to be known to work on a job for the certificate.
func (c *Certificate) work(j Job, targets []Target) Work {
	return Work{
		Job: j, Name: c.Name, CommonName: c.CommonName, SANs: c.SANs, Environment: c.Environment, OwnerID: c.OwnerID,
		TeamID: c.TeamID, IssuerID: c.IssuerID, ProfileID: c.ProfileID, RenewalPolicyID: c.RenewalPolicyID, Tags: c.Tags,
		Targets: targets, CurrentVersionID: c.VersionID, ExpiresAt: c.ExpiresAt,
	}
}
