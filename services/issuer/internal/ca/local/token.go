package local

import (
	"context"
	"crypto"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/id"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca"
	"github.com/certctl/certctl/services/issuer/internal/registry"
)

// Token is where keys are that never leave it: a PKCS#11 token (HSM).
type Token interface {
	// Find returns the key of a label whose public key is given. It is Unavailable if the token cannot be asked; any other
	// code says that there is no such key, or none that is used.
	Find(ctx context.Context, label string, public crypto.PublicKey) (crypto.Signer, error)
	// Obtain returns the one key of a label, and makes one of the given kind if there is none. Its errors are those of Find.
	Obtain(ctx context.Context, label, algorithm string, bits int) (crypto.Signer, error)
}

// Remote is a CA whose key is elsewhere: each signature asks somebody who may be slow, or away.
type Remote struct{ remote }

// remote is all that an Authority can do for others, but to be in process.
type remote interface {
	ca.Issuer
	ca.Drafter
	ca.CRLSigner
	ca.OCSPResponderIssuer
}

const (
	storeToken  = "pkcs11"
	storeSealed = "sealed"
	maxLabel    = 64
)

// tokenSettings are those of a new CA with its key in a token.
type tokenSettings struct {
	inToken   bool
	label     string
	algorithm string
	bits      int
	// given are those of them that are given.
	given []string
}

func isTokenSetting(setting string) bool {
	return slices.Contains([]string{settingStore, settingLabel, settingAlgorithm}, setting)
}

func (s *settings) readToken(c *checks, setting string, v any) {
	switch setting {
	case settingStore:
		store := c.text(setting, v)
		if store != storeToken && store != storeSealed {
			c.object(setting, "must be "+storeSealed+" (with the platform's sealing key) or "+storeToken+" (in a PKCS#11 token)")
		}
		s.inToken = store == storeToken
		return
	case settingLabel:
		if s.label = c.text(setting, v); s.label == "" || len(s.label) > maxLabel {
			c.object(setting, fmt.Sprintf("must have 1 to %d characters", maxLabel))
		}
	case settingAlgorithm:
		s.readKind(c, c.text(setting, v))
	}
	s.given = append(s.given, setting)
}

// tokenKinds are the keys that are made in a token, by their names in settings, the default first.
var tokenKinds = []struct {
	name, algorithm string
	bits            int
}{
	{"ECDSA-P256", x509x.ECDSA, 256},
	{"ECDSA-P384", x509x.ECDSA, 384},
	{"RSA-2048", x509x.RSA, 2048},
	{"RSA-3072", x509x.RSA, 3072},
	{"RSA-4096", x509x.RSA, 4096},
}

func (s *settings) readKind(c *checks, name string) {
	names := make([]string, len(tokenKinds))
	for i, k := range tokenKinds {
		if strings.EqualFold(k.name, name) {
			s.algorithm, s.bits = k.algorithm, k.bits
			return
		}
		names[i] = k.name
	}
	c.object(settingAlgorithm, "must be one of "+strings.Join(names, ", "))
}

// kindName names the kind of a public key as settings do.
func kindName(pub crypto.PublicKey) string {
	algorithm, bits, _ := x509x.KeyAlgorithm(pub)
	if algorithm == x509x.ECDSA {
		return fmt.Sprintf("ECDSA-P%d", bits)
	}
	return fmt.Sprintf("%s-%d", algorithm, bits)
}

func (s *settings) checkToken(c *checks) {
	if !s.inToken {
		for _, setting := range s.given {
			c.object(setting, "is for a key in a token; set "+settingStore+" to "+storeToken)
		}
		return
	}
	if s.key != "" {
		c.object(settingKey, "is in the token already, or is made there; leave it out")
	}
	if s.handedOver {
		if s.label == "" {
			c.object(settingLabel, "is needed with "+settingCert+": it says which key of the token is the certificate's")
		}
		for _, setting := range s.given {
			if setting != settingLabel {
				c.object(setting, "is for a key that is to be made; "+settingCert+" is of one that is there")
			}
		}
		return
	}
	if s.algorithm == "" {
		s.algorithm, s.bits = tokenKinds[0].algorithm, tokenKinds[0].bits
	}
}

var errNoToken = errors.New("there is no signer for keys in a token; set CERTCTL_SIGNER_SOCKET (docs/how-to/hsm.md)")

// makeInToken makes a CA whose key is in the token: one that signs itself, with the key of the label or one that is made
// there; or the one of a chain that is handed over for a key that is there. A key that was made stays if the issuer is not
// set up after all; the next attempt of the same label uses it.
func (k *Kind) makeInToken(i registry.Issuer, s settings) (registry.Made, error) {
	if k.Token == nil {
		return registry.Made{}, fault.InvalidFields(fault.Field{Name: "config." + settingStore, Reason: errNoToken.Error()})
	}
	if s.label == "" {
		s.label = i.ID
	}
	now := k.Clock.Now()
	made := registry.Made{Config: map[string]any{settingStore: storeToken, settingLabel: s.label}}
	if s.days > 0 {
		made.Config[settingDays] = float64(s.days)
	}
	made.Key = ca.Key{ID: id.New(keyPrefix), IssuerID: i.ID, TokenKey: s.label, CreatedAt: now}
	if s.handedOver {
		made.Config[settingMode] = modeSub
		a, err := k.adopt(&made.Key, s)
		if err != nil {
			return registry.Made{}, err
		}
		made.SignsCRL = a.SignsCRLs()
		return made, nil
	}
	//nolint:forbidigo // registry.Kind.Make has no context; the token's client bounds it
	key, err := k.Token.Obtain(context.Background(), s.label, s.algorithm, s.bits)
	if err != nil {
		return registry.Made{}, unfit(err)
	}
	algorithm, bits, _ := x509x.KeyAlgorithm(key.Public())
	if slices.Contains(s.given, settingAlgorithm) && (algorithm != s.algorithm || bits != s.bits) {
		return registry.Made{}, fault.InvalidFields(fault.Field{Name: "config." + settingLabel, Reason: fmt.Sprintf(
			"the token has a key %s already, which is %s; give another label, or leave out %s", s.label, kindName(key.Public()), settingAlgorithm)})
	}
	s.fill(i.Name)
	der, err := signItself(key, pkix.Name{CommonName: s.name}, s.caDays, now)
	if err != nil {
		return registry.Made{}, signing(err, fault.Internal, "the CA's certificate could not be signed")
	}
	made.Key.ChainPEM, made.SignsCRL = string(x509x.EncodePEM(der)), true
	made.Config[settingMode], made.Config[settingName], made.Config[settingCADays] = modeRoot, s.name, float64(s.caDays)
	made.Config[settingAlgorithm] = kindName(key.Public())
	return made, nil
}

// adopt takes a chain for a key of the token. Its error is Invalid, and says what is wrong with it, unless the token cannot
// be asked.
func (k *Kind) adopt(stored *ca.Key, s settings) (*Authority, error) {
	refuse := func(setting string, err error) error {
		return fault.InvalidFields(fault.Field{Name: "config." + setting, Reason: message(err)})
	}
	chain, err := x509x.ParseCertificates([]byte(s.cert))
	if err != nil {
		return nil, refuse(settingCert, err)
	}
	//nolint:forbidigo // registry.Kind.Make has no context; the token's client bounds it
	key, err := k.Token.Find(context.Background(), s.label, chain[0].PublicKey)
	if err != nil {
		return nil, unfit(err)
	}
	if err := check(chain, key, k.Clock.Now()); err != nil {
		return nil, refuse(settingCert, err)
	}
	stored.ChainPEM = string(x509x.EncodeCertificates(chain...))
	return New(chain, key, Places{}, k.Clock), nil
}

// unfit puts the blame on the label, unless the token cannot be asked.
func unfit(err error) error {
	switch fault.CodeOf(err) {
	case fault.Unavailable, fault.Internal:
		return err
	default:
		return fault.InvalidFields(fault.Field{Name: "config." + settingLabel, Reason: message(err)})
	}
}

func message(err error) string {
	if f, coded := errors.AsType[*fault.Error](err); coded {
		return f.Message
	}
	return err.Error()
}

// openInToken opens the CA of a key in the token, which is asked whether it has it.
func (k *Kind) openInToken(ctx context.Context, stored *ca.Key, p Places) (*Authority, error) {
	if k.Token == nil {
		return nil, unusable(stored, errNoToken, errNoToken.Error())
	}
	chain, err := x509x.ParseCertificates([]byte(stored.ChainPEM))
	if err != nil {
		return nil, unusable(stored, err, "its certificate cannot be read")
	}
	key, err := k.Token.Find(ctx, stored.TokenKey, chain[0].PublicKey)
	if err != nil {
		return nil, unusable(stored, err, message(err))
	}
	return openWith(stored, key, p, k.Clock)
}
