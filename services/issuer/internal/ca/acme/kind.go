package acme

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/id"
	"github.com/certctl/certctl/libs/process"
	"github.com/certctl/certctl/services/issuer/internal/ca"
	"github.com/certctl/certctl/services/issuer/internal/registry"
)

// The issuers that the environment may configure, by the names that deployed clients know.
const (
	Production = "iss-acme-prod"
	Staging    = "iss-acme-staging"
)

const macPrefix = "eab-"

// Kind makes and opens ACME issuers. It implements [registry.Kind].
type Kind struct {
	Deps
	// Keys keeps the key that a new account is bound with.
	Keys ca.KeyStore
	// Environment is the issuer that the operator has configured; without a directory there is none.
	Environment Settings
	// HTTP and DNS are what issuers prove names with. DNS has no SetUp if the operator has named no programs.
	HTTP *Listener
	DNS  *Hooks
}

// EnvironmentIssuer is the id of the issuer that a directory in the environment configures.
func EnvironmentIssuer(directory string) string {
	u, err := url.Parse(directory)
	if err == nil && strings.Contains(u.Host, "staging") {
		return Staging
	}
	return Production
}

// Make implements [registry.Kind]. The CA is not asked: that is what a test of the issuer is for.
func (k *Kind) Make(i registry.Issuer, config map[string]any) (registry.Made, error) {
	s, bad := read(config)
	if err := k.check(&s, bad); err != nil {
		return registry.Made{}, err
	}
	if k.Sealer == nil {
		return registry.Made{}, errNoSealer()
	}
	made := registry.Made{Config: s.shown()}
	if s.MACKey != "" {
		made.Secrets = []string{settingMACKey}
		made.Key = ca.Key{ID: id.New(macPrefix), IssuerID: i.ID, CreatedAt: k.Clock.Now()}
		var err error
		if made.Key.Sealed, err = k.Sealer.Seal([]byte(s.MACKey), macBinding(i.ID, made.Key.ID)); err != nil {
			return made, fmt.Errorf("seal the binding key of %s: %w", i.ID, err)
		}
	}
	return made, nil
}

// Amend implements [registry.Kind].
func (k *Kind) Amend(i registry.Issuer, update map[string]any) (map[string]any, error) {
	after, bad := amended(i.Config, update)
	s, more := read(after)
	s.MACKey, s.KeyID = "", "" // they were checked when they came, and stay
	if err := k.check(&s, append(bad, more...)); err != nil {
		return nil, err
	}
	return after, nil
}

// Open implements [registry.Kind].
func (k *Kind) Open(ctx context.Context, i registry.Issuer) (ca.Issuer, map[string]any, error) {
	if k.Sealer == nil {
		return nil, nil, errNoSealer()
	}
	s, bad := read(i.Config)
	if k.Environment.Directory != "" && i.ID == EnvironmentIssuer(k.Environment.Directory) {
		s, bad = k.Environment, nil
	} else if err := k.bind(ctx, i.ID, &s); err != nil {
		return nil, nil, err
	}
	if err := k.check(&s, bad); err != nil {
		return nil, nil, fault.New(fault.Unavailable, "issuer %s is not configured well: %s", i.ID, fault.From(err).Message)
	}
	a, err := Open(ctx, Config{
		IssuerID: i.ID, Directory: s.Directory, Email: s.Email, Solver: k.solver(s.Challenge), KeyID: s.KeyID, MACKey: s.MACKey,
		Profile: s.Profile, PreferredChain: s.PreferredChain, Roots: s.roots(),
	}, k.Deps)
	if err != nil {
		return nil, nil, err
	}
	return a, s.shown(), nil
}

// bind fetches the key that an issuer was made with to bind its account.
func (k *Kind) bind(ctx context.Context, issuerID string, s *Settings) error {
	if s.KeyID == "" {
		return nil
	}
	stored, err := k.Keys.ActiveKey(ctx, issuerID)
	if err != nil {
		return err
	}
	if stored == nil {
		return fault.New(fault.Unavailable, "issuer %s cannot be used: it has an %s and no %s", issuerID, settingKeyID, settingMACKey)
	}
	plain, err := k.Sealer.Unseal(stored.Sealed, macBinding(issuerID, stored.ID))
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "issuer %s cannot be used: its %s was sealed with another sealing key (CERTCTL_SEALING_KEY_FILE)", issuerID, settingMACKey)
	}
	s.MACKey = string(plain)
	return nil
}

// check holds settings against what this process can do.
func (k *Kind) check(s *Settings, bad []fault.Field) error {
	bad = append(bad, s.Check()...)
	if s.Challenge == DNS01 {
		if reason := k.objection(); reason != "" {
			bad = append(bad, fault.Field{Name: "config." + settingChallenge, Reason: reason})
		}
	}
	if len(bad) == 0 {
		return nil
	}
	return fault.InvalidFields(bad...)
}

// objection says why names cannot be proven by DNS-01.
func (k *Kind) objection() string {
	if k.DNS.SetUp == "" {
		return DNS01 + " needs a program that sets records: the operator names it in CERTCTL_ACME_DNS_PRESENT_SCRIPT"
	}
	if reason := process.Objection(k.DNS.SetUp); reason != "" {
		return "CERTCTL_ACME_DNS_PRESENT_SCRIPT: " + reason
	}
	if k.DNS.CleanUp == "" {
		return ""
	}
	if reason := process.Objection(k.DNS.CleanUp); reason != "" {
		return "CERTCTL_ACME_DNS_CLEANUP_SCRIPT: " + reason
	}
	return ""
}

func (k *Kind) solver(challenge string) Solver {
	if challenge == DNS01 {
		return k.DNS
	}
	return k.HTTP
}

func errNoSealer() error {
	return fault.New(fault.Unavailable, "an ACME issuer needs a sealing key for its account; set CERTCTL_SEALING_KEY_FILE")
}

// macBinding ties a sealed key to its row, so that rows cannot change places.
func macBinding(issuerID, keyID string) []byte {
	return []byte("certctl acme binding\x00" + issuerID + "\x00" + keyID)
}
