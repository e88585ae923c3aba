package local

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
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

const (
	keyPrefix    = "cak-"
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
		made, err := MakeRoot(issuerID, pkix.Name{CommonName: rootName}, rootDays, sealer, c.Now())
		if err != nil {
			return nil, err
		}
		if stored, err = keys.AddKey(ctx, made); err != nil {
			return nil, fmt.Errorf("store the CA key of %s: %w", issuerID, err)
		}
	}
	return OpenKey(stored, sealer, p, c)
}

// OpenKey opens the CA whose key is stored. Its error says what about it is wrong, in words for its operator.
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
	if err := check(chain, key, c.Now()); err != nil {
		return nil, unusable(stored, err, err.Error())
	}
	return New(chain, key, p, c), nil
}

// MakeRoot makes the key of a CA that signs itself, sealed, and its certificate.
func MakeRoot(issuerID string, subject pkix.Name, days int, sealer *secret.Sealer, now time.Time) (ca.Key, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return ca.Key{}, fmt.Errorf("make the CA key of %s: %w", issuerID, err)
	}
	der, err := signItself(key, subject, days, now)
	if err != nil {
		return ca.Key{}, fmt.Errorf("sign the CA certificate of %s: %w", issuerID, err)
	}
	return seal(issuerID, x509x.EncodePEM(der), key, sealer, now)
}

// signItself makes the certificate of a CA that signs itself.
func signItself(key crypto.Signer, subject pkix.Name, days int, now time.Time) ([]byte, error) {
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	ski, err := keyID(spki)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          x509x.NewSerial(),
		Subject:               subject,
		NotBefore:             now.Add(-rootBackdate).Truncate(time.Second),
		NotAfter:              now.AddDate(0, 0, days).Truncate(time.Second),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		SubjectKeyId:          ski,
	}
	return x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
}

// Import seals the key of a CA that somebody hands over with its certificate and those above it. The chain may leave out
// the root. Its error is Invalid and says what is wrong with which setting.
func Import(issuerID, certPEM, keyPEM string, sealer *secret.Sealer, now time.Time) (ca.Key, error) {
	refuse := func(setting string, err error) error {
		reason := err.Error()
		if f, coded := errors.AsType[*fault.Error](err); coded {
			reason = f.Message
		}
		return fault.InvalidFields(fault.Field{Name: "config." + setting, Reason: reason})
	}
	chain, err := x509x.ParseCertificates([]byte(certPEM))
	if err != nil {
		return ca.Key{}, refuse(settingCert, err)
	}
	key, err := x509x.ParsePrivateKey([]byte(keyPEM))
	if err != nil {
		return ca.Key{}, refuse(settingKey, err)
	}
	if err := check(chain, key, now); err != nil {
		return ca.Key{}, refuse(settingCert, err)
	}
	return seal(issuerID, x509x.EncodeCertificates(chain...), key, sealer, now)
}

func seal(issuerID string, chainPEM []byte, key crypto.Signer, sealer *secret.Sealer, now time.Time) (ca.Key, error) {
	plain, err := x509x.EncodePrivateKey(key)
	if err != nil {
		return ca.Key{}, err
	}
	k := ca.Key{ID: id.New(keyPrefix), IssuerID: issuerID, ChainPEM: string(chainPEM), CreatedAt: now}
	if k.Sealed, err = sealer.Seal(plain, binding(issuerID, k.ID)); err != nil {
		return ca.Key{}, fmt.Errorf("seal the CA key of %s: %w", issuerID, err)
	}
	return k, nil
}

// binding ties a sealed key to its row, so that rows cannot change places.
func binding(issuerID, keyID string) []byte {
	return []byte("certctl ca key\x00" + issuerID + "\x00" + keyID)
}
