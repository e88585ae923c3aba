package regulation

import (
	"cmp"
	"context"
	"slices"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/services/issuer/internal/policy"
)

// Subject is a certificate that a rule may be held against.
type Subject struct {
	policy.Facts
	// AgentID is the agent that installs it, empty if there is none.
	AgentID string
}

// DryRun is what a rule would object to.
type DryRun struct {
	Evaluated, Violating   int64
	ByEnvironment, ByOwner []Count
	// Violations are the first of them.
	Violations []Objection
	// Next is the certificate behind which to go on, empty at the end of the inventory.
	Next string
}

// Count is how many certificates that break a rule have a value.
type Count struct {
	Value string
	Count int64
}

// Objection is why a certificate breaks a rule.
type Objection struct{ CertificateID, CommonName, Message string }

const (
	// objectionsShown and countsShown bound an answer, whatever the inventory.
	objectionsShown = 100
	countsShown     = 100
)

// DryRun holds a rule against the certificates that somebody may see, from behind one on, whether the rule is enabled or
// not. It reads them in batches until it has seen all or its time is up, and is then to be gone on with.
func (s *Service) DryRun(ctx context.Context, p authn.Principal, rule *policy.Rule, after string) (DryRun, error) {
	run := tally{environments: map[string]int64{}, owners: map[string]int64{}}
	deadline := s.clock.Now().Add(s.settings.Budget)
	for {
		batch, err := s.store.Inventory(ctx, p.Scope, after, s.settings.Batch)
		if err != nil {
			return DryRun{}, err
		}
		for i := range batch {
			// One is looked at in any case, so that going on gets on.
			if run.Evaluated > 0 && !s.clock.Now().Before(deadline) {
				return run.result(after), nil
			}
			if err := s.try(ctx, rule, &batch[i], &run); err != nil {
				return DryRun{}, err
			}
			after = batch[i].CertificateID
		}
		if len(batch) < s.settings.Batch {
			return run.result(""), nil
		}
	}
}

func (s *Service) try(ctx context.Context, rule *policy.Rule, subject *Subject, run *tally) error {
	run.Evaluated++
	if rule.AgentGroupID != "" {
		if subject.AgentID == "" {
			return nil
		}
		in, err := s.groups.InGroup(ctx, subject.AgentID, rule.AgentGroupID)
		if err != nil || !in {
			return err
		}
	}
	run.add(subject, policy.Evaluate(rule, &subject.Facts))
	return nil
}

type tally struct {
	DryRun
	environments, owners map[string]int64
}

func (t *tally) add(subject *Subject, found []policy.Finding) {
	if len(found) == 0 {
		return
	}
	t.Violating++
	t.environments[subject.Environment]++
	t.owners[subject.OwnerID]++
	for _, f := range found {
		if len(t.Violations) < objectionsShown {
			t.Violations = append(t.Violations, Objection{subject.CertificateID, subject.CommonName, f.Message})
		}
	}
}

func (t *tally) result(next string) DryRun {
	t.ByEnvironment, t.ByOwner, t.Next = counts(t.environments), counts(t.owners), next
	return t.DryRun
}

// counts are the largest, the largest first.
func counts(of map[string]int64) []Count {
	out := make([]Count, 0, len(of))
	for value, n := range of {
		out = append(out, Count{value, n})
	}
	slices.SortFunc(out, func(a, b Count) int { return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Value, b.Value)) })
	return out[:min(len(out), countsShown)]
}
