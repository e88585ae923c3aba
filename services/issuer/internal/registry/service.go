package registry

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/id"
	"github.com/certctl/certctl/services/issuer/internal/ca"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
	"github.com/certctl/certctl/services/issuer/internal/record"
	"github.com/certctl/certctl/services/issuer/internal/standing"
)

const (
	issuerPrefix = "iss-"
	// keyPrefix begins the ids of CA keys, which stand where issuers' do in what relying parties ask for.
	keyPrefix = "cak-"
	maxName   = 255

	maxConcurrent = 1000
	maxRate       = 1_000_000
	maxWindow     = 31 * 24 * time.Hour
	// usualWindow is the window of a rate for which none is given.
	usualWindow = time.Hour
)

// Told is what an issuer's change has to say: what was set, and, if that is new to relying parties, how it can be used.
type Told struct {
	Changed issuance.Fact
	// Configured is nil if it is as before.
	Configured *issuance.Fact
}

// Store keeps issuers, and tells what is to be told in the transaction of the change. What is handed an issuer by it
// decides while that is locked, and may be asked again.
type Store interface {
	// AddIssuer stores an issuer and its key, if it has an id. It is a Conflict if the issuer's id is taken.
	AddIssuer(ctx context.Context, i Issuer, key ca.Key, t Told) error
	// IssuerByID is NotFound if there is no such issuer within the scope.
	IssuerByID(ctx context.Context, scope authn.Scope, id string) (Issuer, error)
	// ChangeIssuer is NotFound if there is no such issuer within the scope. Nothing is written if nothing is told. Jobs that
	// wait for the issuer are due afterwards, as after TryAgain.
	ChangeIssuer(ctx context.Context, scope authn.Scope, id string, decide func(Issuer) (Issuer, *Told, error)) (Issuer, error)
	// TryAgain has the jobs be due that wait for an issuer whose CA was away, and the CA be asked even if it was to be left
	// alone for longer.
	TryAgain(ctx context.Context, id string, now time.Time) error
	// RemoveIssuer removes an issuer and its keys. It is NotFound if there is no such issuer within the scope.
	RemoveIssuer(ctx context.Context, scope authn.Scope, id string, decide func(Issuer, []record.Uses) (issuance.Fact, error)) error
	// Keys returns the keys of an issuer's CA, oldest first.
	Keys(ctx context.Context, issuerID string) ([]ca.Key, error)
	// ValidByKey counts the certificates of an issuer that have not ended, by the key that issued them; an issuer's first key
	// is counted without its id.
	ValidByKey(ctx context.Context, issuerID string, now time.Time) (map[string]int64, error)
	// IssuersBelow returns the ids of the issuers whose CAs stand directly below an issuer's.
	IssuersBelow(ctx context.Context, issuerID string) ([]string, error)
	// ChangeKeys changes an issuer's keys and what its record says of them. It is a Conflict if the record is no longer that
	// of the revision before.
	ChangeKeys(ctx context.Context, after Issuer, c KeyChange, t Told) error
}

// Service has the use cases of setting issuers up. It is safe for concurrent use.
type Service struct {
	store    Store
	registry *Registry
	clock    clock.Clock
}

// NewService returns a Service.
func NewService(store Store, r *Registry, c clock.Clock) *Service {
	return &Service{store: store, registry: r, clock: c}
}

// Request asks for a new issuer.
type Request struct {
	ID, Name, Type string
	Config         map[string]any
	Enabled        bool
	Limits         LimitsUpdate
}

// LimitsUpdate is what is to be different about an issuer's limits. Nil leaves a limit as it is.
type LimitsUpdate struct {
	MaxConcurrent, Rate *int
	Window              *time.Duration
}

// merge sets limits. Its error is Invalid and names the fields at fault.
func (u LimitsUpdate) merge(l *standing.Limits) error {
	var bad []fault.Field
	bounded := func(field string, v, least, most int) {
		if v < least || v > most {
			bad = append(bad, fault.Field{Name: "limits." + field, Reason: "must be " + strconv.Itoa(least) + " to " + strconv.Itoa(most)})
		}
	}
	if u.MaxConcurrent != nil {
		l.MaxConcurrent = *u.MaxConcurrent
		bounded("max_concurrent", l.MaxConcurrent, 0, maxConcurrent)
	}
	if u.Rate != nil {
		l.Rate = *u.Rate
		bounded("rate_limit", l.Rate, 0, maxRate)
	}
	if u.Window != nil {
		l.Window = *u.Window
		bounded("rate_window_seconds", int(l.Window/time.Second), 1, int(maxWindow/time.Second))
	}
	if len(bad) > 0 {
		return fault.InvalidFields(bad...)
	}
	return nil
}

// Update is what is to be different about an issuer. Nil leaves a field as it is.
type Update struct {
	Name, Type *string
	Config     map[string]any
	Enabled    *bool
	Limits     LimitsUpdate
}

// mayChange refuses whoever is not to change what others issue with: an issuer serves all teams, environments and
// profiles.
func mayChange(p authn.Principal, id string) error {
	if p.Scope.Teams != nil || p.Scope.Environments != nil || p.Scope.Profiles != nil {
		return fault.New(fault.Forbidden, "an issuer serves all teams, environments and profiles, and your key is limited to some")
	}
	if !p.Can(authn.Scope{Issuers: []string{id}}) {
		return fault.New(fault.Forbidden, "your scope does not hold issuer %s", id)
	}
	return nil
}

func checkName(name string) error {
	var reason string
	switch {
	case name == "":
		reason = "is required"
	case utf8.RuneCountInString(name) > maxName:
		reason = "has more than 255 characters"
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		reason = "holds control characters"
	default:
		return nil
	}
	return fault.InvalidFields(fault.Field{Name: "name", Reason: reason})
}

// kind finds the connector for a type that somebody names.
func (s *Service) kind(name string) (string, Kind, error) {
	refuse := func(reason string) error { return fault.InvalidFields(fault.Field{Name: "type", Reason: reason}) }
	has := strings.Join(slices.Sorted(maps.Keys(s.registry.kinds)), ", ")
	if name == "" {
		return "", nil, refuse("is required; this build has " + has)
	}
	t, known := TypeOf(name)
	if !known {
		return "", nil, refuse("is no type of issuer; this build has " + has)
	}
	k, ok := s.registry.kinds[t]
	if !ok {
		return "", nil, refuse("this build has no connector for " + t + "; it has " + has)
	}
	return t, k, nil
}

// Add sets up an issuer. An empty id is made.
func (s *Service) Add(ctx context.Context, p authn.Principal, o issuance.Origin, r Request) (Issuer, error) {
	now := s.clock.Now()
	i := Issuer{ID: r.ID, Name: strings.TrimSpace(r.Name), Enabled: r.Enabled, CreatedAt: now, UpdatedAt: now, Revision: 1}
	if i.ID == "" {
		i.ID = id.New(issuerPrefix)
	}
	if strings.HasPrefix(i.ID, keyPrefix) {
		return Issuer{}, fault.InvalidFields(fault.Field{Name: "id", Reason: "must not begin with " + keyPrefix + ", as the ids of CA keys do"})
	}
	if !id.Valid(i.ID) {
		return Issuer{}, fault.InvalidFields(fault.Field{Name: "id", Reason: "must be 1 to 64 of a-z, 0-9, - and _, beginning with a letter or a digit"})
	}
	if err := checkName(i.Name); err != nil {
		return Issuer{}, err
	}
	if err := mayChange(p, i.ID); err != nil {
		return Issuer{}, err
	}
	t, kind, err := s.kind(r.Type)
	if err != nil {
		return Issuer{}, err
	}
	i.Type, i.Limits.Window = t, usualWindow
	if err := r.Limits.merge(&i.Limits); err != nil {
		return Issuer{}, err
	}
	if err := checkPlaceholders(kind, r.Config); err != nil {
		return Issuer{}, err
	}
	made, err := s.make(ctx, p, kind, i, r.Config)
	if err != nil {
		return Issuer{}, err
	}
	if err := s.registry.keep(&i, made.Config); err != nil {
		return Issuer{}, err
	}
	i.CAChainPEM, i.SignsCRL = made.Key.ChainPEM, made.SignsCRL
	changes := record.Changes(nil, i.fields())
	for _, setting := range made.Secrets {
		changes["config."+setting] = event.Change{Before: hidden, After: hidden}
	}
	told := Told{Changed: s.fact(i.changed(event.Created, changes), o, now)}
	if i.CAChainPEM != "" {
		told.Configured = new(s.fact(i.Configured(), o, now))
	}
	return i, s.store.AddIssuer(ctx, i, made.Key, told)
}

func (s *Service) fact(e event.Event, o issuance.Origin, at time.Time) issuance.Fact {
	return issuance.Fact{Event: e, Origin: o, At: at}
}

func (i *Issuer) fields() record.Fields {
	f := record.Fields{
		"name": i.Name, "type": i.Type, "enabled": i.Enabled, "limits.max_concurrent": i.Limits.MaxConcurrent,
		"limits.rate_limit": i.Limits.Rate, "limits.rate_window_seconds": int(i.Limits.Window / time.Second),
	}
	for setting, v := range i.Config {
		f["config."+setting] = v
	}
	return f
}

func (i *Issuer) changed(verb string, changes event.Changes) event.Event {
	return event.IssuerChanged{Record: event.Record{ID: i.ID, Name: i.Name, Verb: verb, Changes: changes}}
}

// Configured is what relying parties are told of an issuer.
func (i *Issuer) Configured() event.Event {
	return event.IssuerConfigured{
		IssuerID: i.ID, Name: i.Name, Type: i.Type, CAChainPEM: i.CAChainPEM, SignsCRL: i.SignsCRL, Authorities: i.Authorities,
	}
}

// Change merges an update into an issuer.
func (s *Service) Change(ctx context.Context, p authn.Principal, o issuance.Origin, issuerID string, u Update, seen func(int64) error) (Issuer, error) {
	return s.store.ChangeIssuer(ctx, p.Scope, issuerID, func(before Issuer) (Issuer, *Told, error) {
		if err := mayChange(p, issuerID); err != nil {
			return Issuer{}, nil, err
		}
		if err := seen(before.Revision); err != nil {
			return Issuer{}, nil, err
		}
		after, secrets, err := s.merged(before, u)
		if err != nil {
			return Issuer{}, nil, err
		}
		changes := record.Changes(before.fields(), after.fields())
		for _, setting := range secrets {
			// One that is new differs in what is shown already.
			if _, shown := changes["config."+setting]; !shown {
				changes["config."+setting] = event.Change{Before: hidden, After: hidden}
			}
		}
		if len(changes) == 0 {
			return before, nil, nil
		}
		after.Revision++
		after.UpdatedAt = s.clock.Now()
		told := Told{Changed: s.fact(after.changed(event.Updated, changes), o, after.UpdatedAt)}
		if after.Name != before.Name && after.CAChainPEM != "" {
			told.Configured = new(s.fact(after.Configured(), o, after.UpdatedAt))
		}
		return after, &told, nil
	})
}

// merged returns an issuer after an update, and which of its secrets have other values.
func (s *Service) merged(i Issuer, u Update) (Issuer, []string, error) {
	if u.Name != nil {
		i.Name = strings.TrimSpace(*u.Name)
	}
	if err := checkName(i.Name); err != nil {
		return i, nil, err
	}
	if u.Enabled != nil {
		i.Enabled = *u.Enabled
	}
	if err := u.Limits.merge(&i.Limits); err != nil {
		return i, nil, err
	}
	if u.Type != nil && *u.Type != "" {
		if t, ok := TypeOf(*u.Type); !ok || t != i.Type {
			return i, nil, fault.InvalidFields(fault.Field{Name: "type", Reason: "cannot be changed from " + i.Type + "; set up another issuer"})
		}
	}
	if len(u.Config) == 0 {
		return i, nil, nil
	}
	return s.reconfigured(i, u.Config)
}

func (s *Service) reconfigured(i Issuer, update map[string]any) (Issuer, []string, error) {
	_, kind, err := s.kind(i.Type)
	if err != nil {
		return i, nil, err
	}
	if err := s.registry.mayReconfigure(i, update); err != nil {
		return i, nil, err
	}
	update = withoutPlaceholders(kind, update)
	if g, ok := s.registry.settings.Given[i.ID]; len(update) == 0 || ok && g.Type == i.Type {
		return i, nil, nil
	}
	before := i
	if before.Config, err = s.registry.whole(i); err != nil {
		return i, nil, err
	}
	after, err := kind.Amend(before, update)
	if err != nil {
		return i, nil, err
	}
	err = s.registry.keep(&i, after)
	return i, changedSecrets(kind, before.Config, after), err
}

// Remove removes an issuer that nothing refers to, and its key for good.
func (s *Service) Remove(ctx context.Context, p authn.Principal, o issuance.Origin, issuerID string) error {
	return s.store.RemoveIssuer(ctx, p.Scope, issuerID, func(i Issuer, uses []record.Uses) (issuance.Fact, error) {
		if err := mayChange(p, issuerID); err != nil {
			return issuance.Fact{}, err
		}
		if issuerID == issuance.DefaultIssuer {
			return issuance.Fact{}, fault.New(fault.Conflict,
				"issuer %s stays: it is the issuer of requests that name none; disable it if it is not to issue", issuerID)
		}
		if g, ok := s.registry.settings.Given[issuerID]; ok && g.Type == i.Type {
			return issuance.Fact{}, fault.New(fault.Conflict, "issuer %s is set up by the environment; unset %s", issuerID, g.Source)
		}
		if err := record.InUse("issuer", issuerID, uses...); err != nil {
			return issuance.Fact{}, err
		}
		return s.fact(i.changed(event.Deleted, record.Changes(i.fields(), nil)), o, s.clock.Now()), nil
	})
}

// Tested is what is found out about an issuer by opening it.
type Tested struct {
	Issuer   Issuer
	Subject  string
	NotAfter time.Time
	SignsCRL bool
}

// Test opens the CA of an issuer anew, as it is configured, and has nothing signed. Its error says what is wrong. What waits
// for the CA to be back goes on at once if there is nothing wrong.
func (s *Service) Test(ctx context.Context, p authn.Principal, issuerID string) (Tested, error) {
	i, err := s.store.IssuerByID(ctx, p.Scope, issuerID)
	if err != nil {
		return Tested{}, err
	}
	authority, err := s.registry.openNoting(ctx, i)
	if err != nil {
		return Tested{}, err
	}
	if tester, ok := authority.(ca.Tester); ok {
		if err := tester.Test(ctx); err != nil {
			return Tested{}, err
		}
	}
	if i.Enabled {
		if err := s.store.TryAgain(ctx, i.ID, s.clock.Now()); err != nil {
			return Tested{}, err
		}
	}
	t := Tested{Issuer: i}
	if signer, ok := authority.(ca.CRLSigner); ok {
		t.SignsCRL = signer.SignsCRLs()
	}
	if chain := authority.Chain(); len(chain) > 0 {
		t.Subject, t.NotAfter = chain[0].Subject.String(), chain[0].NotAfter
	}
	return t, nil
}
