package local

import (
	"cmp"
	"context"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/id"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca"
	"github.com/certctl/certctl/services/issuer/internal/registry"
)

// Token is where keys are that never leave it: a PKCS#11 token (HSM). What it returns is [Held].
type Token interface {
	// Find returns the key of a label whose public key is given. It is Unavailable if the token cannot be asked; any other
	// code says that there is no such key, or none that is used.
	Find(ctx context.Context, label string, public crypto.PublicKey) (crypto.Signer, error)
	// Obtain returns the one key of a label, and makes one of the given kind if there is none. Its errors are those of Find.
	Obtain(ctx context.Context, label, algorithm string, bits int) (crypto.Signer, error)
}

// Held is a key that is in a token.
type Held interface {
	crypto.Signer
	// Label is by which name the token finds it.
	Label() string
}

// Remote is a CA whose key is elsewhere: each signature asks somebody who may be slow, or away.
type Remote struct{ remote }

// remote is all that an Authority can do for others, but to be in process.
type remote interface {
	ca.Issuer
	ca.Drafter
	ca.CRLSigner
	ca.Keyed
	ca.OCSPResponderIssuer
}

const (
	storeToken  = "pkcs11"
	storeSealed = "sealed"
	maxLabel    = 64
	// nextMark stands between the name of an issuer's first key and what tells a later one apart.
	nextMark = "--"
)

// tokenSettings are those of a new CA with its key in a token.
type tokenSettings struct {
	inToken bool
	label   string
}

func (s *settings) readToken(c *checks, setting string, v any) {
	text := c.text(setting, v)
	if setting == settingLabel {
		if s.label = text; text == "" || len(text) > maxLabel {
			c.object(setting, fmt.Sprintf("must have 1 to %d characters", maxLabel))
		}
		return
	}
	if text != storeToken && text != storeSealed {
		c.object(setting, "must be "+storeSealed+" (with the platform's sealing key) or "+storeToken+" (in a PKCS#11 token)")
	}
	s.inToken = text == storeToken
}

func (s *settings) checkToken(c *checks) {
	switch {
	case !s.inToken && s.label != "":
		c.object(settingLabel, "is for a key in a token; set "+settingStore+" to "+storeToken)
	case s.inToken && s.key != "":
		c.object(settingKey, "is in the token already, or is made there; leave it out")
	case s.inToken && s.handedOver && s.label == "":
		c.object(settingLabel, "is needed with "+settingCert+": it says which key of the token is the certificate's")
	case s.inToken && s.algorithm == Ed25519:
		c.object(settingAlgorithm, "is not made in a token; ECDSA and RSA are")
	}
}

// labelFor is by which name the key of an issuer is found in the token.
func (s *settings) labelFor(issuerID string) string { return cmp.Or(s.label, issuerID) }

// nextLabel names a key that follows the issuer's first: by that one's name, and something that no other has.
func nextLabel(first string) string {
	const more = 8
	if cut := maxLabel - len(nextMark) - more; len(first) > cut {
		first = first[:cut]
	}
	return first + nextMark + strings.ToLower(rand.Text()[:more])
}

// mayFollow refuses to change the key of a CA that is not made here, and has the next one be where the first is.
func (k *Kind) mayFollow(i registry.Issuer, s *Successor) error {
	if err := k.mayRoll(i); err != nil || i.Config[settingStore] != storeToken {
		return err
	}
	if k.Token == nil {
		return fault.New(fault.Unavailable, "%s", errNoToken)
	}
	label, _ := i.Config[settingLabel].(string)
	s.Token, s.Label = k.Token, nextLabel(cmp.Or(label, i.ID))
	return nil
}

var errNoToken = errors.New("there is no signer for keys in a token; set CERTCTL_SIGNER_SOCKET (docs/how-to/hsm.md)")

// describe is what the settings of a CA that is made here mean, and where its key is to be. Its error says that this is
// not there.
func (k *Kind) describe(s *settings, i registry.Issuer) (Description, error) {
	d := s.description(i)
	switch {
	case s.inToken && k.Token == nil:
		return d, refuse(settingStore, errNoToken)
	case s.inToken:
		d.Token, d.Label = k.Token, s.labelFor(i.ID)
	case k.Sealer == nil:
		return d, fault.New(fault.Unavailable, "%s", errNoSealer)
	}
	return d, nil
}

// obtain has the key of a description from the token, which makes it if it is not there. One that was made stays if the CA
// is not set up after all; the next attempt of the same label uses it.
func (d *Description) obtain() (crypto.Signer, error) {
	want := cmp.Or(d.Algorithm, ECDSAP256)
	algorithm, bits, ok := sizes(want)
	if !ok {
		return nil, fault.InvalidFields(fault.Field{Name: settingAlgorithm, Reason: want + " is not made in a token; ECDSA and RSA are"})
	}
	//nolint:forbidigo // what makes a CA has no context; the token's client bounds it
	key, err := d.Token.Obtain(context.Background(), d.Label, algorithm, bits)
	if err != nil {
		return nil, unfit(err)
	}
	if got := AlgorithmOf(key.Public()); d.Algorithm != "" && got != d.Algorithm {
		return nil, refuse(settingLabel, fmt.Errorf(
			"the token has a key %s already, which is %s; give another label, or leave out %s", d.Label, got, settingAlgorithm))
	}
	return key, nil
}

// sizes takes the name of a kind of key apart, false for one that is not made in a token.
func sizes(name string) (algorithm string, bits int, ok bool) {
	switch name {
	case ECDSAP256:
		return x509x.ECDSA, 256, true
	case ECDSAP384:
		return x509x.ECDSA, 384, true
	case RSA2048:
		return x509x.RSA, 2048, true
	case RSA3072:
		return x509x.RSA, 3072, true
	case RSA4096:
		return x509x.RSA, 4096, true
	default:
		return "", 0, false
	}
}

// adopt takes a chain that is handed over for a key of the token. Its error is Invalid, and says what is wrong with which
// setting, unless the token cannot be asked.
func (k *Kind) adopt(i registry.Issuer, s *settings) (registry.Made, error) {
	if k.Token == nil {
		return registry.Made{}, refuse(settingStore, errNoToken)
	}
	chain, err := x509x.ParseCertificates([]byte(s.cert))
	if err != nil {
		return registry.Made{}, refuse(settingCert, err)
	}
	now := k.Clock.Now()
	//nolint:forbidigo // registry.Kind.Make has no context; the token's client bounds it
	key, err := k.Token.Find(context.Background(), s.label, chain[0].PublicKey)
	if err != nil {
		return registry.Made{}, unfit(err)
	}
	if err := check(chain, key.Public(), now); err != nil {
		return registry.Made{}, refuse(settingCert, err)
	}
	made := registry.Made{Config: map[string]any{settingMode: modeSub, settingStore: storeToken, settingLabel: s.label}}
	if s.days > 0 {
		made.Config[settingDays] = float64(s.days)
	}
	made.Key = ca.Key{
		ID: id.New(KeyPrefix), IssuerID: i.ID, Place: i.ID, ChainPEM: string(x509x.EncodeCertificates(chain...)), TokenKey: s.label,
		Active: true, CreatedAt: now, ActivatedAt: now,
	}
	made.SignsCRL = New(chain, key, Places{}, k.Clock).SignsCRLs()
	return made, nil
}

// unfit puts the blame on the label, unless the token cannot be asked.
func unfit(err error) error {
	switch fault.CodeOf(err) {
	case fault.Unavailable, fault.Internal:
		return err
	default:
		return refuse(settingLabel, err)
	}
}

// openInToken opens the CA of a key in the token, which is asked whether it has it.
func (k *Kind) openInToken(ctx context.Context, stored *ca.Key) (*Authority, error) {
	if k.Token == nil {
		return nil, unusable(stored, errNoToken, errNoToken.Error())
	}
	chain, err := x509x.ParseCertificates([]byte(stored.ChainPEM))
	if err != nil {
		return nil, unusable(stored, err, "its certificate cannot be read")
	}
	key, err := k.Token.Find(ctx, stored.TokenKey, chain[0].PublicKey)
	if err != nil {
		return nil, unusable(stored, err, because(err))
	}
	a, err := openWith(stored, key, PlacesAt(k.PublicURL, stored.Place), k.Clock)
	if err != nil {
		return nil, err
	}
	a.token = k.Token
	return a, nil
}
