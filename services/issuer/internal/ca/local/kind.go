package local

import (
	"context"
	"crypto/x509/pkix"
	"errors"
	"maps"
	"time"
	"unicode/utf8"

	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/secret"
	"github.com/certctl/certctl/services/issuer/internal/ca"
	"github.com/certctl/certctl/services/issuer/internal/registry"
)

// Kind makes and opens Local CAs. It implements [registry.Kind].
type Kind struct {
	Keys ca.KeyStore
	// Sealer is nil if there is no sealing key: then only the CA of the files can be opened, and none be made.
	Sealer *secret.Sealer
	// Token is nil if there is no signer: then no CA with a key in a token can be made or opened.
	Token Token
	// PublicURL is where relying parties reach what certificates point them to.
	PublicURL string
	Clock     clock.Clock
	// Default is the issuer that a fresh installation has. It is opened from files if there are any, else it makes its
	// own key when it is first opened.
	Default           string
	CertPath, KeyPath string
}

var errNoSealer = errors.New("the Local CA needs a sealing key for its own; set CERTCTL_SEALING_KEY_FILE")

// Make implements [registry.Kind].
func (k *Kind) Make(i registry.Issuer, config map[string]any) (registry.Made, error) {
	s, err := readSettings(config)
	if err != nil {
		return registry.Made{}, err
	}
	if s.inToken {
		return k.makeInToken(i, s)
	}
	if k.Sealer == nil {
		return registry.Made{}, fault.New(fault.Unavailable, "%s", errNoSealer)
	}
	made := registry.Made{Config: map[string]any{}}
	if s.days > 0 {
		made.Config[settingDays] = float64(s.days)
	}
	if s.handedOver {
		made.Config[settingMode], made.Secrets = modeSub, []string{settingKey}
		if made.Key, err = Import(i.ID, s.cert, s.key, k.Sealer, k.Clock.Now()); err != nil {
			return made, err
		}
		a, err := OpenKey(&made.Key, k.Sealer, Places{}, k.Clock)
		if err != nil {
			return made, err
		}
		made.SignsCRL = a.SignsCRLs()
		return made, nil
	}
	made.Config[settingMode], made.SignsCRL = modeRoot, true
	s.fill(i.Name)
	made.Config[settingName], made.Config[settingCADays] = s.name, float64(s.caDays)
	made.Key, err = MakeRoot(i.ID, pkix.Name{CommonName: s.name}, s.caDays, k.Sealer, k.Clock.Now())
	return made, err
}

// fill has a CA that signs itself be called as its issuer and valid for ten years, unless something else is asked for.
func (s *settings) fill(issuerName string) {
	if s.name == "" {
		s.name = issuerName
		if utf8.RuneCountInString(s.name) > maxCommonName {
			s.name = rootName
		}
	}
	if s.caDays == 0 {
		s.caDays = rootDays
	}
}

// Amend implements [registry.Kind].
func (k *Kind) Amend(i registry.Issuer, update map[string]any) (map[string]any, error) {
	return amend(i.Config, update)
}

// Open implements [registry.Kind].
func (k *Kind) Open(ctx context.Context, i registry.Issuer) (ca.Issuer, map[string]any, error) {
	authority, about, err := k.open(ctx, i.ID)
	if err != nil {
		return nil, nil, err
	}
	if days, ok := i.Config[settingDays].(float64); ok && days >= 1 {
		authority = authority.Lasting(time.Duration(days) * 24 * time.Hour)
	}
	config := maps.Clone(i.Config)
	if config == nil {
		config = map[string]any{}
	}
	delete(config, settingFile)
	maps.Copy(config, about)
	if config[settingStore] == storeToken {
		return Remote{authority}, config, nil
	}
	return authority, config, nil
}

// open opens a CA and says what its config is to say of it.
func (k *Kind) open(ctx context.Context, issuerID string) (*Authority, map[string]any, error) {
	places := PlacesAt(k.PublicURL, issuerID)
	if issuerID == k.Default {
		if k.CertPath != "" {
			a, err := OpenFiles(k.CertPath, k.KeyPath, places, k.Clock)
			if err != nil {
				// It tells the operator of files that the operator has named.
				return nil, nil, fault.New(fault.Unavailable, "%s", err)
			}
			return a, map[string]any{settingMode: modeSub, settingFile: k.CertPath}, nil
		}
		if k.Sealer == nil {
			return nil, nil, fault.New(fault.Unavailable, "%s", errNoSealer)
		}
		a, err := OpenRoot(ctx, issuerID, k.Keys, k.Sealer, places, k.Clock)
		return a, map[string]any{settingMode: modeRoot}, err
	}
	stored, err := k.Keys.ActiveKey(ctx, issuerID)
	if err != nil {
		return nil, nil, err
	}
	if stored == nil {
		return nil, nil, fault.New(fault.Unavailable, "the CA of %s cannot be used: it has no key", issuerID)
	}
	if stored.TokenKey != "" {
		a, err := k.openInToken(ctx, stored, places)
		return a, nil, err
	}
	if k.Sealer == nil {
		return nil, nil, fault.New(fault.Unavailable, "%s", errNoSealer)
	}
	a, err := OpenKey(stored, k.Sealer, places, k.Clock)
	return a, nil, err
}
