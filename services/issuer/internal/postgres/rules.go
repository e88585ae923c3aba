package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/issuer/internal/policy"
	"github.com/certctl/certctl/services/issuer/internal/profile"
	"github.com/certctl/certctl/services/issuer/internal/renewal"
	"github.com/certctl/certctl/services/issuer/internal/rulebook"
)

// RulesRevision implements [rulebook.Source].
func (s *Store) RulesRevision(ctx context.Context) (revision int64, err error) {
	if err := s.pool.QueryRow(ctx, `SELECT revision FROM rulebook`).Scan(&revision); err != nil {
		return 0, pg.Fault(fmt.Errorf("read the revision of the rules: %w", err))
	}
	return revision, nil
}

// Rules implements [rulebook.Source]. The revision is read first: what changes meanwhile is at worst read twice.
func (s *Store) Rules(ctx context.Context) (*rulebook.Book, error) {
	revision, err := s.RulesRevision(ctx)
	if err != nil {
		return nil, err
	}
	b := &rulebook.Book{Revision: revision, Profiles: map[string]*profile.Profile{}, RenewalPolicies: map[string]renewal.Policy{}}
	profiles, err := readRules(ctx, s, `SELECT `+profileColumns+` FROM certificate_profiles p`, scanProfile)
	if err != nil {
		return nil, err
	}
	for _, p := range profiles {
		b.Profiles[p.ID] = p
	}
	if b.Rules, err = readRules(ctx, s, `SELECT `+ruleColumns+` FROM policy_rules r WHERE r.enabled ORDER BY r.id`, scanRule); err != nil {
		return nil, err
	}
	policies, err := readRules(ctx, s, `SELECT `+renewalPolicyColumns+` FROM renewal_policies p`, scanRenewalPolicy)
	if err != nil {
		return nil, err
	}
	for _, p := range policies {
		b.RenewalPolicies[p.ID] = p
	}
	return b, nil
}

func readRules[T any](ctx context.Context, s *Store, sql string, scan func(pgx.CollectableRow) (T, error), args ...any) ([]T, error) {
	rows, err := s.pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, pg.Fault(fmt.Errorf("read the rules: %w", err))
	}
	out, err := pgx.CollectRows(rows, scan)
	if err != nil {
		return nil, pg.Fault(fmt.Errorf("read the rules: %w", err))
	}
	return out, nil
}

const profileColumns = `p.id, p.name, p.description, p.allowed_key_algorithms, p.max_ttl_seconds, p.allowed_ekus,
	p.required_san_patterns, p.spiffe_uri_pattern, p.allow_short_lived, p.enabled, p.lint_ruleset, p.lint_mode, p.lint_ignore,
	p.reuse_key, p.version, p.created_at, p.updated_at`

func scanProfile(row pgx.CollectableRow) (*profile.Profile, error) {
	var spec profile.Spec
	var keys []byte
	var seconds, revision int64
	var created, updated time.Time
	err := row.Scan(&spec.ID, &spec.Name, &spec.Description, &keys, &seconds, &spec.EKUs, &spec.RequiredSANs, &spec.SPIFFE,
		&spec.AllowShortLived, &spec.Enabled, &spec.LintRuleset, &spec.LintMode, &spec.LintIgnore, &spec.ReuseKey, &revision, &created, &updated)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(keys, &spec.Keys); err != nil {
		return nil, fmt.Errorf("keys of profile %s: %w", spec.ID, err)
	}
	spec.MaxTTL = time.Duration(seconds) * time.Second
	p, err := spec.Profile()
	if err != nil {
		// It was checked when it was written, so it is no fault of whoever asks for a certificate.
		return nil, fmt.Errorf("profile %s is of no use: %s", spec.ID, err.Error())
	}
	p.Revision, p.CreatedAt, p.UpdatedAt = revision, created, updated
	return p, nil
}

const ruleColumns = `r.id, r.name, r.type, r.severity, r.config, r.agent_group_id, r.enabled, r.version, r.created_at, r.updated_at`

func scanRule(row pgx.CollectableRow) (*policy.Rule, error) {
	var spec policy.Spec
	var revision int64
	var created, updated time.Time
	err := row.Scan(&spec.ID, &spec.Name, &spec.Type, &spec.Severity, &spec.Config, &spec.AgentGroupID, &spec.Enabled,
		&revision, &created, &updated)
	if err != nil {
		return nil, err
	}
	r, err := spec.Rule()
	if err != nil {
		return nil, fmt.Errorf("policy rule %s is of no use: %s", spec.ID, err.Error())
	}
	r.Revision, r.CreatedAt, r.UpdatedAt = revision, created, updated
	return r, nil
}
