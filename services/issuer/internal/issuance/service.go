package issuance

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/secret"
	"github.com/certctl/certctl/services/issuer/internal/blockedkey"
	"github.com/certctl/certctl/services/issuer/internal/ca"
	"github.com/certctl/certctl/services/issuer/internal/lint"
	"github.com/certctl/certctl/services/issuer/internal/renewal"
	"github.com/certctl/certctl/services/issuer/internal/rulebook"
	"github.com/certctl/certctl/services/issuer/internal/standing"
)

// Issuers finds the CA behind an issuer's id.
type Issuers interface {
	// Issuer is NotFound for an id that is unknown, a Conflict for one that is switched off, and Unavailable if its CA
	// cannot be opened.
	Issuer(ctx context.Context, id string) (ca.Issuer, error)
}

// Targets asks the owner of targets and agents what is not known here.
type Targets interface {
	// Find returns a target that may have been made a moment ago, with no agent if there is none of that id.
	Find(ctx context.Context, id string) (Target, error)
	// InGroup reports whether an agent is in an agent group. It is Unavailable while that cannot be told.
	InGroup(ctx context.Context, agentID, groupID string) (bool, error)
}

// Jobs is what can be done with jobs, on the pool or within a transaction.
type Jobs interface {
	// Load returns the jobs of these ids that exist.
	Load(ctx context.Context, ids []string) (map[string]Work, error)
	// Apply makes the changes whose tokens are the newest, and returns the ids of their jobs.
	Apply(ctx context.Context, changes []Change) (applied map[string]bool, err error)
}

// Store keeps certificates and their jobs. Its errors are faults where a caller must tell them apart.
type Store interface {
	Jobs
	Places
	rulebook.Source
	blockedkey.Source
	// Record puts breaches on record, in a transaction of its own.
	Record(ctx context.Context, breaches []Breach) error
	// Targets returns what is known of targets, in the order of the ids; one that is not known has no agent.
	Targets(ctx context.Context, ids []string) ([]Target, error)
	// LearnTarget notes a target of which no event has told yet.
	LearnTarget(ctx context.Context, t Target, now time.Time) error
	// Create stores a new certificate. It is Invalid if it refers to what does not exist, a Conflict if its id is taken.
	Create(ctx context.Context, c Creation) error
	// Certificate returns a certificate within the scope, else NotFound.
	Certificate(ctx context.Context, scope authn.Scope, id string) (Certificate, error)
	// OpenJob returns a certificate's job that is not over, false if there is none, NotFound if there is no such
	// certificate within the scope.
	OpenJob(ctx context.Context, scope authn.Scope, certificateID string) (Work, bool, error)
	// Job returns a job within the scope, else NotFound.
	Job(ctx context.Context, scope authn.Scope, id string) (Work, error)
	// Begin stores a renewal. It is a Conflict if the certificate is no longer in the state that was seen.
	Begin(ctx context.Context, s Start) error
	// Version returns a version of a certificate, and which agent holds its key, if one does; else NotFound.
	Version(ctx context.Context, certificateID, id string) (Version, string, error)
	// Advised is when the CA of a certificate's newest version wants it to be renewed, without the window's start.
	Advised(ctx context.Context, certificateID string) (renewal.Advice, error)
	// Deploy notes which version is wanted on which targets, and tells of it. It is a Conflict if the newest version is
	// no longer the one that was seen, or the certificate is Archived or Revoked.
	Deploy(ctx context.Context, d Deployment) error
	// Revise changes the record of a certificate as is decided while it is held, and returns it as it is then. It is
	// NotFound if there is no such certificate within the scope, Invalid if it is to refer to what does not exist.
	Revise(ctx context.Context, scope authn.Scope, id string, decide func(Held) (Revised, error)) (Certificate, error)
	// Archive ends a certificate and its open job. It is NotFound if there is no such certificate within the scope.
	Archive(ctx context.Context, scope authn.Scope, id string, f Fact) error
	// CheckReferences is Invalid if a certificate that is to be refers to what does not exist.
	CheckReferences(ctx context.Context, c *Certificate) error
	// ByFingerprint returns the certificate that has a version of a fingerprint, without any of its fields if it is outside
	// of the scope, and nil if there is none.
	ByFingerprint(ctx context.Context, scope authn.Scope, fingerprint string) (*Certificate, error)
	// Import stores a certificate as it came, and reports false if its version is here already.
	Import(ctx context.Context, im Import) (stored bool, err error)
	// Key returns the stored key of a certificate and a public key, nil if there never was one.
	Key(ctx context.Context, certificateID, spki string) (*StoredKey, error)
	// Release hands out a stored key, else NotFound.
	Release(ctx context.Context, r Release) error
	// Claim takes due jobs, as they were before, and holds them until the lease ends.
	Claim(ctx context.Context, now, lease time.Time, limit int) ([]Work, error)
	// Decide makes the change of a job that a person has decided about, unless its token is not the newest.
	Decide(ctx context.Context, c Change, d Decision) (applied bool, err error)
	// Reschedule has certificates looked at again whose policy has changed, so many at most, and returns how many it went
	// through.
	Reschedule(ctx context.Context, limit int) (int, error)
	// Look locks certificates that are due, lets decide say what becomes of them, and stores it, all at once. It returns
	// how many there were.
	Look(ctx context.Context, now time.Time, limit int, decide func(context.Context, Looks) ([]Step, error)) (int, error)
}

// Settings of a Service. Zero values are defaults.
type Settings struct {
	// CSRDeadline is how long an agent may take to answer a request for a key. The default is ten minutes.
	CSRDeadline time.Duration
	// AnswerTimeout is how long a CA elsewhere may take to answer before it counts as away. The default is five minutes.
	AnswerTimeout time.Duration
	// MaxRenewals bounds the renewals of one issuer that are under way of their own accord. The default is 500.
	MaxRenewals int
	// ServerKeys has the server make the keys that nobody else will: of certificates without targets and without a request. It
	// is for demonstrations.
	ServerKeys bool
	// Sealer seals private keys that lie here. Without one none can.
	Sealer *secret.Sealer
	// Chance spreads retries; nil is the process's own source.
	Chance func() float64
	// Asked is called each time a CA has been asked for a certificate. Nil is nobody.
	Asked func(issuerID string, took time.Duration, err error)
	// Found is called for each finding of a linter, also about what is refused for it. Nil is nobody.
	Found func(lint.Finding)
	// Circuit is called when the state of an issuer's circuit has been seen, FellBack when a fallback has issued for an
	// issuer. Nil is nobody.
	Circuit  func(issuerID string, state standing.State)
	FellBack func(issuerID, fallbackID string)
}

const (
	defaultCSRDeadline = 10 * time.Minute
	defaultMaxRenewals = 500

	defaultAnswerTimeout = 5 * time.Minute
)

// Service has the use cases. It is safe for concurrent use.
type Service struct {
	store    Store
	issuers  Issuers
	targets  Targets
	rules    *rulebook.Cache
	blocked  *blockedkey.Set
	clock    clock.Clock
	log      *slog.Logger
	settings Settings
	asking   asking
}

// New returns a Service.
func New(store Store, issuers Issuers, targets Targets, c clock.Clock, log *slog.Logger, s Settings) *Service {
	if s.CSRDeadline == 0 {
		s.CSRDeadline = defaultCSRDeadline
	}
	if s.MaxRenewals == 0 {
		s.MaxRenewals = defaultMaxRenewals
	}
	if s.AnswerTimeout == 0 {
		s.AnswerTimeout = defaultAnswerTimeout
	}
	if s.Chance == nil {
		s.Chance = rand.Float64
	}
	if s.Asked == nil {
		s.Asked = func(string, time.Duration, error) {}
	}
	if s.Found == nil {
		s.Found = func(lint.Finding) {}
	}
	if s.Circuit == nil {
		s.Circuit = func(string, standing.State) {}
	}
	if s.FellBack == nil {
		s.FellBack = func(string, string) {}
	}
	return &Service{
		store: store, issuers: issuers, targets: targets, rules: rulebook.New(store, c), blocked: blockedkey.NewSet(store, c),
		clock: c, log: log, settings: s,
	}
}
