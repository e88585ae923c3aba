package local

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"time"

	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/id"
	"github.com/certctl/certctl/libs/secret"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca"
)

const (
	keyPrefix    = "cak-"
	rootName     = "CertCtl Local CA"
	rootYears    = 10
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
		made, err := makeRoot(issuerID, sealer, c.Now())
		if err != nil {
			return nil, err
		}
		if stored, err = keys.AddKey(ctx, made); err != nil {
			return nil, fmt.Errorf("store the CA key of %s: %w", issuerID, err)
		}
	}
	plain, err := sealer.Unseal(stored.Sealed, binding(stored.IssuerID, stored.ID))
	if errors.Is(err, secret.ErrKey) {
		return nil, fmt.Errorf("the CA key of %s was sealed with another sealing key; put that key back (CERTCTL_SEALING_KEY_FILE): %w", issuerID, err)
	}
	if err != nil {
		return nil, fmt.Errorf("unseal the CA key of %s: %w", issuerID, err)
	}
	key, err := x509x.ParsePrivateKey(plain)
	if err != nil {
		return nil, fmt.Errorf("read the CA key of %s: %w", issuerID, err)
	}
	chain, err := x509x.ParseCertificates([]byte(stored.ChainPEM))
	if err != nil {
		return nil, fmt.Errorf("read the CA certificate of %s: %w", issuerID, err)
	}
	if err := check(chain, key, c.Now()); err != nil {
		return nil, fmt.Errorf("the Local CA of %s cannot be used: %w", issuerID, err)
	}
	return New(chain, key, p, c), nil
}

func makeRoot(issuerID string, sealer *secret.Sealer, now time.Time) (ca.Key, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return ca.Key{}, fmt.Errorf("make the CA key of %s: %w", issuerID, err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return ca.Key{}, fmt.Errorf("make the CA key of %s: %w", issuerID, err)
	}
	ski, err := keyID(spki)
	if err != nil {
		return ca.Key{}, err
	}
	template := &x509.Certificate{
		SerialNumber:          x509x.NewSerial(),
		Subject:               pkix.Name{CommonName: rootName},
		NotBefore:             now.Add(-rootBackdate).Truncate(time.Second),
		NotAfter:              now.AddDate(rootYears, 0, 0).Truncate(time.Second),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		SubjectKeyId:          ski,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return ca.Key{}, fmt.Errorf("sign the CA certificate of %s: %w", issuerID, err)
	}
	plain, err := x509x.EncodePrivateKey(key)
	if err != nil {
		return ca.Key{}, err
	}
	k := ca.Key{ID: id.New(keyPrefix), IssuerID: issuerID, ChainPEM: string(x509x.EncodePEM(der)), CreatedAt: now}
	if k.Sealed, err = sealer.Seal(plain, binding(issuerID, k.ID)); err != nil {
		return ca.Key{}, fmt.Errorf("seal the CA key of %s: %w", issuerID, err)
	}
	return k, nil
}

// binding ties a sealed key to its row, so that rows cannot change places.
func binding(issuerID, keyID string) []byte {
	return []byte("certctl ca key\x00" + issuerID + "\x00" + keyID)
}
