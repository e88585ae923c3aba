package bundle

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"time"

	"github.com/pavlo-v-chernykh/keystore-go/v4"
	"github.com/smallstep/pkcs7"
	"github.com/youmark/pkcs8"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/x509x"
)

const (
	// StorePassword is that of files in which nothing is secret.
	StorePassword = pkcs12.DefaultPassword
	// MinPassword is the least that a private key leaves under, in bytes.
	MinPassword = 12
	// iterations make a password that is not random a little harder to guess. Windows takes no more than some hundred thousand.
	iterations = 100_000
)

// The names of entries in Java key stores.
const (
	aliasLeaf  = "certificate"
	aliasAbove = "ca"
)

// Write makes a file of a chain, leaf first. DER holds the leaf alone.
func Write(f Format, chain []*x509.Certificate, now time.Time) ([]byte, error) {
	switch f {
	case PEM:
		return x509x.EncodeCertificates(chain...), nil
	case DER:
		return chain[0].Raw, nil
	case PKCS7:
		var all []byte
		for _, c := range chain {
			all = append(all, c.Raw...)
		}
		return pkcs7.DegenerateCertificate(all)
	case PKCS12:
		entries := make([]pkcs12.TrustStoreEntry, len(chain))
		for i, c := range chain {
			entries[i] = pkcs12.TrustStoreEntry{Cert: c, FriendlyName: alias(i)}
		}
		return pkcs12.Modern.EncodeTrustStoreEntries(entries, StorePassword)
	case JKS:
		store := keystore.New(keystore.WithOrderedAliases())
		for i, c := range chain {
			entry := keystore.TrustedCertificateEntry{CreationTime: now, Certificate: javaCertificate(c)}
			if err := store.SetTrustedCertificateEntry(alias(i), entry); err != nil {
				return nil, fmt.Errorf("put a certificate into a key store: %w", err)
			}
		}
		return storeJKS(store, StorePassword)
	default:
		return nil, fault.New(fault.Internal, "no way to write %q", f)
	}
}

// Lock is what a private key leaves under.
type Lock struct {
	Password string
	// Legacy is 3DES and SHA-1 in PKCS #12, for what cannot read better.
	Legacy bool
}

// Check refuses a form that cannot hold a key, and a password with which nobody could open the file, or anybody.
func (l Lock) Check(f Format) error {
	object := func(reason string) error {
		return fault.InvalidFields(fault.Field{Name: "password", Reason: reason})
	}
	if f != PEM && f != PKCS12 && f != JKS {
		return fault.InvalidFields(fault.Field{Name: "format", Reason: "must be pem, pkcs12 or jks for a file with a private key"})
	}
	if len(l.Password) < MinPassword {
		return object(fmt.Sprintf("must have at least %d characters", MinPassword))
	}
	for _, r := range l.Password {
		switch {
		case r < ' ' || r == 0x7f:
			return object("must hold no control characters")
		case f == JKS && r > '~':
			return object("must be ASCII for a Java key store")
		case r > 0xffff:
			return object("must hold no characters beyond the basic plane of Unicode, which PKCS#12 has no way to write")
		}
	}
	return nil
}

// WriteWithKey makes a file of a chain, leaf first, and the leaf's private key under a password. PEM, PKCS12 and JKS can hold
// one. Its error is Invalid if the password is no good.
func WriteWithKey(f Format, chain []*x509.Certificate, key crypto.Signer, lock Lock, now time.Time) ([]byte, error) {
	if err := lock.Check(f); err != nil {
		return nil, err
	}
	switch f {
	case PEM:
		der, err := pkcs8.MarshalPrivateKey(key, []byte(lock.Password), &pkcs8.Opts{
			Cipher:  pkcs8.AES256CBC,
			KDFOpts: pkcs8.PBKDF2Opts{SaltSize: 16, IterationCount: iterations, HMACHash: crypto.SHA256},
		})
		if err != nil {
			return nil, fmt.Errorf("encrypt a private key: %w", err)
		}
		return append(x509x.EncodeCertificates(chain...), pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: der})...), nil
	case PKCS12:
		encoder := pkcs12.Modern.WithIterations(iterations)
		if lock.Legacy {
			encoder = pkcs12.Legacy
		}
		return encoder.Encode(key, chain[0], chain[1:], lock.Password)
	case JKS:
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return nil, fmt.Errorf("encode a private key: %w", err)
		}
		entry := keystore.PrivateKeyEntry{CreationTime: now, PrivateKey: der}
		for _, c := range chain {
			entry.CertificateChain = append(entry.CertificateChain, javaCertificate(c))
		}
		store := keystore.New()
		if err := store.SetPrivateKeyEntry(aliasLeaf, entry, []byte(lock.Password)); err != nil {
			return nil, fmt.Errorf("put a private key into a key store: %w", err)
		}
		return storeJKS(store, lock.Password)
	default:
		return nil, fault.New(fault.Internal, "no way to write a private key as %q", f)
	}
}

func alias(i int) string {
	if i == 0 {
		return aliasLeaf
	}
	return fmt.Sprintf("%s-%d", aliasAbove, i)
}

func javaCertificate(c *x509.Certificate) keystore.Certificate {
	return keystore.Certificate{Type: "X.509", Content: c.Raw}
}

func storeJKS(store keystore.KeyStore, password string) ([]byte, error) {
	var b bytes.Buffer
	if err := store.Store(&b, []byte(password)); err != nil {
		return nil, fmt.Errorf("write a Java key store: %w", err)
	}
	return b.Bytes(), nil
}
