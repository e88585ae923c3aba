package local

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"time"

	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/id"
	"github.com/certctl/certctl/libs/secret"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca"
)

// KeyPrefix is what ids of CA keys begin with. Ids of issuers do not, since both stand in the same URLs.
const KeyPrefix = "cak-"

const (
	rootName     = "CertCtl Local CA"
	rootDays     = 3650
	rootBackdate = time.Hour
)

// OpenRoot opens the CA that signs itself, and makes it at the first time. Of several that open it at once all get the
// same. A key that cannot be unsealed is an error, never a reason for a new one.
func OpenRoot(ctx context.Context, issuerID string, keys ca.KeyStore, sealer *secret.Sealer, p Places, c clock.Clock) (*Authority, error) {
	stored, err := keys.ActiveKey(ctx, issuerID)
	if err != nil {
		return nil, fmt.Errorf("read the CA key of %s: %w", issuerID, err)
	}
	if stored == nil {
		made, err := MakeRoot(issuerID, Description{Subject: pkix.Name{CommonName: rootName}, Days: rootDays, MaxPathLen: Unbounded}, sealer, c.Now())
		if err != nil {
			return nil, err
		}
		if stored, err = keys.AddKey(ctx, made); err != nil {
			return nil, fmt.Errorf("store the CA key of %s: %w", issuerID, err)
		}
		if stored == nil {
			return nil, fault.New(fault.Unavailable, "the CA of %s has been given a key meanwhile that has no certificate yet", issuerID)
		}
	}
	return OpenKey(stored, sealer, p, c)
}

// OpenKey opens the CA whose key is stored. Its error says what about it is wrong, in words for its operator. One that is
// in a token is opened by openInToken.
func OpenKey(stored *ca.Key, sealer *secret.Sealer, p Places, c clock.Clock) (*Authority, error) {
	plain, err := sealer.Unseal(stored.Sealed, binding(stored.IssuerID, stored.ID))
	if errors.Is(err, secret.ErrKey) {
		return nil, unusable(stored, err, "its key was sealed with another sealing key; put that key back (CERTCTL_SEALING_KEY_FILE)")
	}
	if err != nil {
		return nil, unusable(stored, err, "its sealed key is damaged")
	}
	key, err := x509x.ParsePrivateKey(plain)
	if err != nil {
		return nil, unusable(stored, err, "its key cannot be read")
	}
	return openWith(stored, key, p, c)
}

func unusable(stored *ca.Key, err error, what string) error {
	return fault.Wrap(err, fault.Unavailable, "the CA of %s cannot be used: %s", stored.IssuerID, what)
}

// openWith opens the CA of a stored chain, wherever its key is.
func openWith(stored *ca.Key, key crypto.Signer, p Places, c clock.Clock) (*Authority, error) {
	chain, err := x509x.ParseCertificates([]byte(stored.ChainPEM))
	if err != nil {
		return nil, unusable(stored, err, "its certificate cannot be read")
	}
	if err := check(chain, key.Public(), c.Now()); err != nil {
		return nil, unusable(stored, err, err.Error())
	}
	a := New(chain, key, p, c)
	a.keyID = stored.ID
	if stored.Place == stored.ID {
		a.named = stored.ID
	}
	if stored.CrossPEM != "" {
		if a.cross, err = x509x.ParseCertificates([]byte(stored.CrossPEM)); err != nil {
			return nil, unusable(stored, err, "its cross certificate cannot be read")
		}
	}
	return a, nil
}

// MakeRoot makes the key of a CA that signs itself, sealed, and its certificate.
func MakeRoot(issuerID string, d Description, sealer *secret.Sealer, now time.Time) (ca.Key, error) {
	key, template, err := d.make(issuerID, now)
	if err != nil {
		return ca.Key{}, err
	}
	// crypto/x509 leaves it out of a certificate that signs itself, where RFC 5280 section 4.2.1.1 lets it be.
	template.SignatureAlgorithm = signatureAlgorithm(key.Public())
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return ca.Key{}, signing(err, fault.Internal, "the CA's certificate could not be signed")
	}
	return seal(ca.Key{IssuerID: issuerID, ChainPEM: string(x509x.EncodePEM(der)), Active: true}, key, sealer, now)
}

// Import seals the key of a CA that somebody hands over with its certificate and those above it. The chain may leave out
// the root; the key may be encrypted with a password. Its error is Invalid and says what is wrong with which setting.
func Import(issuerID, certPEM, keyPEM, password string, sealer *secret.Sealer, now time.Time) (ca.Key, error) {
	chain, err := x509x.ParseCertificates([]byte(certPEM))
	if err != nil {
		return ca.Key{}, refuse(settingCert, err)
	}
	key, err := x509x.ParseEncryptedPrivateKey([]byte(keyPEM), []byte(password))
	if err != nil {
		return ca.Key{}, refuse(settingKey, err)
	}
	if err := check(chain, key.Public(), now); err != nil {
		return ca.Key{}, refuse(settingCert, err)
	}
	return seal(ca.Key{IssuerID: issuerID, ChainPEM: string(x509x.EncodeCertificates(chain...)), Active: true}, key, sealer, now)
}

// refuse is the error about a setting for a reason that another error gives.
func refuse(setting string, err error) error {
	return fault.InvalidFields(fault.Field{Name: "config." + setting, Reason: because(err)})
}

// because is what an error says to whoever asked.
func because(err error) string {
	if f, coded := errors.AsType[*fault.Error](err); coded {
		return f.Message
	}
	return err.Error()
}

// seal completes a stored key by an id and the private key, sealed, or its label if it is in a token. Its place is that of an issuer's first key.
func seal(k ca.Key, key crypto.Signer, sealer *secret.Sealer, now time.Time) (ca.Key, error) {
	k.ID, k.Place, k.CreatedAt = id.New(KeyPrefix), k.IssuerID, now
	if k.Active {
		k.ActivatedAt = now
	}
	if held, ok := key.(Held); ok {
		k.TokenKey = held.Label()
		return k, nil
	}
	plain, err := x509x.EncodePrivateKey(key)
	if err != nil {
		return ca.Key{}, err
	}
	if k.Sealed, err = sealer.Seal(plain, binding(k.IssuerID, k.ID)); err != nil {
		return ca.Key{}, fmt.Errorf("seal the CA key of %s: %w", k.IssuerID, err)
	}
	return k, nil
}

// binding ties a sealed key to its row, so that rows cannot change places.
func binding(issuerID, keyID string) []byte {
	return []byte("certctl ca key\x00" + issuerID + "\x00" + keyID)
}
