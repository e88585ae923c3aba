// Package regulation has the use cases by which people lay down rules: certificate profiles and policy rules, and the dry
// run of a rule against the inventory.
//
// What is changed is told of field by field, in the transaction that changes it, and holds for whatever is asked for in
// this process once the change has been answered. A rule that stands above teams is changed only by those whose scope
// does: somebody limited to a team, an environment or an issuer may read the rules and not change them. Profiles can be
// in a scope, and whoever is limited to some may change those.
//
// Nothing here knows SQL or HTTP.
package regulation

import (
	"context"
	"reflect"
	"time"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
	"github.com/certctl/certctl/services/issuer/internal/policy"
	"github.com/certctl/certctl/services/issuer/internal/profile"
	"github.com/certctl/certctl/services/issuer/internal/rulebook"
)

// Store keeps profiles and policy rules. Its errors are faults where a caller must tell them apart.
type Store interface {
	// Profile returns a profile within the scope, else NotFound.
	Profile(ctx context.Context, scope authn.Scope, id string) (*profile.Profile, error)
	// AddProfile stores a new profile and sets its revision. It is a Conflict if its id is taken.
	AddProfile(ctx context.Context, p *profile.Profile, f issuance.Fact) error
	// ChangeProfile stores a profile if its revision is still the one seen, and sets the new one. It reports false if not.
	ChangeProfile(ctx context.Context, p *profile.Profile, seen int64, f issuance.Fact) (bool, error)
	// RemoveProfile removes a profile. It is a Conflict that names the first of them while certificates use it.
	RemoveProfile(ctx context.Context, id string, f issuance.Fact) error

	// PolicyRule, AddRule, ChangeRule and RemoveRule are the same for rules, which are within every scope.
	PolicyRule(ctx context.Context, id string) (*policy.Rule, error)
	AddRule(ctx context.Context, r *policy.Rule, f issuance.Fact) error
	ChangeRule(ctx context.Context, r *policy.Rule, seen int64, f issuance.Fact) (bool, error)
	RemoveRule(ctx context.Context, id string, f issuance.Fact) error

	// Inventory returns the certificates within the scope whose ids follow one, in their order, archived and revoked ones
	// apart.
	Inventory(ctx context.Context, scope authn.Scope, after string, limit int) ([]Subject, error)
}

// Groups knows the agent groups.
type Groups interface {
	// InGroup reports whether an agent is in an agent group. It is Unavailable while that cannot be told.
	InGroup(ctx context.Context, agentID, groupID string) (bool, error)
}

// Match holds an update to the revision that its sender has seen. Its error is Precondition.
type Match func(revision int64) error

// Settings of a Service. Zero values are defaults.
type Settings struct {
	// Batch is how many certificates a dry run reads at once, Budget how long it goes on reading.
	Batch  int
	Budget time.Duration
}

const (
	defaultBatch = 1000
	// The gateway waits for two seconds.
	defaultBudget = time.Second
)

// Service has the use cases. It is safe for concurrent use.
type Service struct {
	store    Store
	rules    *rulebook.Cache
	groups   Groups
	clock    clock.Clock
	settings Settings
}

// New returns a Service. It has the cache forget what it changes.
func New(store Store, rules *rulebook.Cache, groups Groups, c clock.Clock, s Settings) *Service {
	if s.Batch == 0 {
		s.Batch = defaultBatch
	}
	if s.Budget == 0 {
		s.Budget = defaultBudget
	}
	return &Service{store: store, rules: rules, groups: groups, clock: c, settings: s}
}

// updateTries is how often an update without a condition runs after a row that changes under its hands.
const updateTries = 5

// changedMeanwhile is the answer to an update that never caught up, or whose condition held a moment ago.
func changedMeanwhile(id string) error {
	return fault.New(fault.Precondition, "%s was changed by somebody else meanwhile; get it again and apply your change to that", id)
}

// aboveTeams refuses whoever is limited to some teams, environments or issuers.
func aboveTeams(p authn.Principal, what string) error {
	s := p.Scope
	if s.Teams == nil && s.Environments == nil && s.Issuers == nil {
		return nil
	}
	return fault.New(fault.Forbidden, "%s hold for every team; your scope is limited, so you may read and not change them", what)
}

// fields are a record as the API shows it, for telling what has changed.
type fields map[string]any

// diff returns the fields in which two records differ; nil is no record.
func diff(before, after fields) event.Changes {
	changes := event.Changes{}
	for name, now := range after {
		if was, there := before[name]; !there || !reflect.DeepEqual(was, now) {
			changes[name] = event.Change{Before: before[name], After: now}
		}
	}
	for name, was := range before {
		if _, there := after[name]; !there {
			changes[name] = event.Change{Before: was}
		}
	}
	return changes
}

func record(id, name, verb string, changes event.Changes) event.Record {
	return event.Record{ID: id, Name: name, Verb: verb, Changes: changes}
}
