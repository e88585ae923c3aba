package local

import (
	"context"
	"crypto/x509/pkix"
	"errors"
	"maps"
	"net"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/secret"
	"github.com/certctl/certctl/services/issuer/internal/ca"
	"github.com/certctl/certctl/services/issuer/internal/registry"
)

// Kind makes and opens Local CAs. It implements [registry.Kind] and [registry.Roller].
type Kind struct {
	Keys ca.KeyStore
	// Sealer is nil if there is no sealing key: then only the CA of the files can be opened, and none be made.
	Sealer *secret.Sealer
	// Token is nil if there is no signer: then no CA with its key in a token can be made or opened.
	Token Token
	// PublicURL is where relying parties reach what certificates point them to.
	PublicURL string
	Clock     clock.Clock
	// Default is the issuer that a fresh installation has. It is opened from files if there are any, else it makes its
	// own key when it is first opened.
	Default string
	Files   Files
}

var errNoSealer = errors.New("the Local CA needs a sealing key for its own; set CERTCTL_SEALING_KEY_FILE")

// Make implements [registry.Kind].
func (k *Kind) Make(i registry.Issuer, config map[string]any) (registry.Made, error) {
	s, err := readSettings(config)
	if err != nil {
		return registry.Made{}, err
	}
	if s.mode == modeSub && s.inToken {
		return k.adopt(i, &s)
	}
	d, err := k.describe(&s, i)
	if err != nil {
		return registry.Made{}, err
	}
	switch s.mode {
	case modeSub:
		return k.takeOver(i, &s)
	case modeOutside:
		made := s.made(i)
		made.Key, err = MakeRequest(i.ID, d, k.Sealer, k.Clock.Now())
		return made, err
	case modeBelow:
		return registry.Made{}, refuse(settingParent, errors.New("an issuer of the environment has no issuer above it"))
	}
	made := s.made(i)
	made.SignsCRL = true
	made.Key, err = MakeRoot(i.ID, d, k.Sealer, k.Clock.Now())
	return made, err
}

func (k *Kind) takeOver(i registry.Issuer, s *settings) (made registry.Made, err error) {
	made.Config, made.Secrets = map[string]any{settingMode: modeSub}, []string{settingKey}
	if s.password != "" {
		made.Secrets = append(made.Secrets, settingPassword)
	}
	if s.days > 0 {
		made.Config[settingDays] = float64(s.days)
	}
	if made.Key, err = Import(i.ID, s.cert, s.key, s.password, k.Sealer, k.Clock.Now()); err != nil {
		return made, err
	}
	a, err := OpenKey(&made.Key, k.Sealer, Places{}, k.Clock)
	if err != nil {
		return made, err
	}
	made.SignsCRL = a.SignsCRLs()
	return made, nil
}

// Parent implements [registry.Roller].
func (k *Kind) Parent(config map[string]any) string {
	parent, _ := config[settingParent].(string)
	return parent
}

// MakeBelow implements [registry.Roller].
func (k *Kind) MakeBelow(ctx context.Context, i, parent registry.Issuer, config map[string]any) (registry.Made, error) {
	s, err := readSettings(config)
	if err != nil {
		return registry.Made{}, err
	}
	above, _, err := k.open(ctx, parent)
	if err != nil {
		return registry.Made{}, err
	}
	d, err := k.describe(&s, i)
	if err != nil {
		return registry.Made{}, err
	}
	made := s.made(i)
	made.SignsCRL = true
	made.Key, err = above.Below(i.ID, d, k.Sealer)
	return made, err
}

// made is what is kept of the settings of a CA that is made here.
func (s *settings) made(i registry.Issuer) registry.Made {
	d := s.description(i)
	config := map[string]any{settingMode: s.mode, settingName: d.Subject.CommonName}
	set := func(setting string, v any, given bool) {
		if given {
			config[setting] = v
		}
	}
	set(settingDays, float64(s.days), s.days > 0)
	set(settingCADays, float64(d.Days), s.mode != modeOutside)
	set(settingParent, s.parent, s.parent != "")
	set(settingAlgorithm, s.algorithm, s.algorithm != "")
	set(settingStore, storeToken, s.inToken)
	set(settingLabel, s.labelFor(i.ID), s.inToken)
	set(settingPathLen, float64(d.MaxPathLen), d.MaxPathLen != Unbounded)
	set(settingPermitDNS, anys(s.constraints.PermittedDNS, text), len(s.constraints.PermittedDNS) > 0)
	set(settingExcludDNS, anys(s.constraints.ExcludedDNS, text), len(s.constraints.ExcludedDNS) > 0)
	set(settingPermitIP, anys(s.constraints.PermittedIP, (*net.IPNet).String), len(s.constraints.PermittedIP) > 0)
	set(settingExcludIP, anys(s.constraints.ExcludedIP, (*net.IPNet).String), len(s.constraints.ExcludedIP) > 0)
	return registry.Made{Config: config}
}

func anys[T any](list []T, show func(T) string) []any {
	out := make([]any, len(list))
	for i, v := range list {
		out[i] = show(v)
	}
	return out
}

// description is what the settings of a CA that is made here mean.
func (s *settings) description(i registry.Issuer) Description {
	d := Description{
		Subject: pkix.Name{CommonName: s.name}, Days: s.caDays, Algorithm: s.algorithm, MaxPathLen: Unbounded, Constraints: s.constraints,
	}
	if s.name == "" {
		d.Subject.CommonName = i.Name
		if utf8.RuneCountInString(i.Name) > maxCommonName {
			d.Subject.CommonName = rootName
		}
	}
	if s.caDays == 0 {
		d.Days = rootDays
	}
	switch {
	case s.pathLen != nil:
		d.MaxPathLen = *s.pathLen
	case s.mode == modeBelow, s.mode == modeOutside:
		// It is to issue for leaves, unless it is said that it is not.
		d.MaxPathLen = 0
	}
	return d
}

// Amend implements [registry.Kind].
func (k *Kind) Amend(i registry.Issuer, update map[string]any) (map[string]any, error) {
	return amend(i.Config, update)
}

// Open implements [registry.Kind].
func (k *Kind) Open(ctx context.Context, i registry.Issuer) (ca.Issuer, map[string]any, error) {
	authority, about, err := k.open(ctx, i)
	if err != nil {
		return nil, nil, err
	}
	config := maps.Clone(i.Config)
	if config == nil {
		config = map[string]any{}
	}
	delete(config, settingFile)
	maps.Copy(config, about)
	return authority.issuer(), config, nil
}

// open opens a CA and says what its config is to say of it.
func (k *Kind) open(ctx context.Context, i registry.Issuer) (*Authority, map[string]any, error) {
	a, about, err := k.openActive(ctx, i.ID)
	if err != nil {
		return nil, nil, err
	}
	if days, ok := i.Config[settingDays].(float64); ok && days >= 1 {
		a = a.Lasting(time.Duration(days) * 24 * time.Hour)
	}
	return a, about, nil
}

func (k *Kind) openActive(ctx context.Context, issuerID string) (*Authority, map[string]any, error) {
	if issuerID == k.Default && k.Files.CertPath != "" {
		a, err := k.Files.Open(PlacesAt(k.PublicURL, issuerID), k.Clock)
		if err != nil {
			// It tells the operator of files that the operator has named.
			return nil, nil, fault.New(fault.Unavailable, "%s", err)
		}
		return a, map[string]any{settingMode: modeSub, settingFile: k.Files.CertPath}, nil
	}
	keys, err := k.Keys.Keys(ctx, issuerID)
	if err != nil {
		return nil, nil, err
	}
	if len(keys) == 0 && issuerID == k.Default {
		if k.Sealer == nil {
			return nil, nil, fault.New(fault.Unavailable, "%s", errNoSealer)
		}
		a, err := OpenRoot(ctx, issuerID, k.Keys, k.Sealer, PlacesAt(k.PublicURL, issuerID), k.Clock)
		return a, map[string]any{settingMode: modeRoot}, err
	}
	a, err := k.openKeys(ctx, issuerID, keys)
	if err != nil || issuerID != k.Default {
		return a, nil, err
	}
	mode := modeRoot
	if !selfSigned(a.chain[0]) {
		mode = modeOutside
	}
	return a, map[string]any{settingMode: mode}, nil
}

// openKeys opens the active one of an issuer's keys, and has the others opened when they are asked for.
func (k *Kind) openKeys(ctx context.Context, issuerID string, keys []ca.Key) (active *Authority, err error) {
	siblings := map[string]func() (*Authority, error){}
	for i := range keys {
		key := &keys[i]
		switch {
		case key.Active:
			if active, err = k.openKey(ctx, key); err != nil {
				return nil, err
			}
		case !key.Pending():
			siblings[key.ID] = k.sibling(ctx, key)
		}
	}
	switch {
	case active != nil:
		active.siblings = siblings
		return active, nil
	case len(keys) > 0:
		return nil, fault.New(fault.Unavailable,
			"the CA of %s has no certificate yet: have its request (ca-request) signed, and hand in the certificate (ca-certificate)", issuerID)
	default:
		return nil, fault.New(fault.Unavailable, "the CA of %s cannot be used: it has no key", issuerID)
	}
}

// sibling opens a key when it is first asked for. One in a token is looked for each time: it may be away now and there later.
func (k *Kind) sibling(ctx context.Context, key *ca.Key) func() (*Authority, error) {
	// Whoever opened the CA may have gone by then.
	ctx = context.WithoutCancel(ctx)
	open := func() (*Authority, error) { return k.openKey(ctx, key) }
	if key.TokenKey != "" {
		return open
	}
	return sync.OnceValues(open)
}

func (k *Kind) openKey(ctx context.Context, key *ca.Key) (*Authority, error) {
	if key.TokenKey != "" {
		return k.openInToken(ctx, key)
	}
	if k.Sealer == nil {
		return nil, fault.New(fault.Unavailable, "%s", errNoSealer)
	}
	return OpenKey(key, k.Sealer, PlacesAt(k.PublicURL, key.Place), k.Clock)
}
