package local

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/x509x"
)

// Files are a CA's certificate, with those above it, and its key, in PEM. The chain may leave out the root.
type Files struct {
	CertPath, KeyPath string
	// Password is what the key is encrypted with, if it is.
	Password string
}

// Open opens the CA. The error says what about the files is wrong.
func (f Files) Open(p Places, c clock.Clock) (*Authority, error) {
	certPath, keyPath := f.CertPath, f.KeyPath
	text, err := os.ReadFile(certPath)
	if err != nil {
		return nil, fmt.Errorf("CERTCTL_CA_CERT_PATH: %w", err)
	}
	chain, err := x509x.ParseCertificates(text)
	if err != nil {
		return nil, fmt.Errorf("CERTCTL_CA_CERT_PATH %s: %w", certPath, err)
	}
	if text, err = os.ReadFile(keyPath); err != nil {
		return nil, fmt.Errorf("CERTCTL_CA_KEY_PATH: %w", err)
	}
	key, err := x509x.ParseEncryptedPrivateKey(text, []byte(f.Password))
	if err != nil {
		return nil, fmt.Errorf("CERTCTL_CA_KEY_PATH %s (its password is CERTCTL_CA_KEY_PASSWORD): %w", keyPath, err)
	}
	if err := check(chain, key.Public(), c.Now()); err != nil {
		return nil, fmt.Errorf("the CA of CERTCTL_CA_CERT_PATH %s and CERTCTL_CA_KEY_PATH %s cannot be used: %w", certPath, keyPath, err)
	}
	return New(chain, key, p, c), nil
}

// check refuses a chain that cannot vouch for what the key of a public one signs.
func check(chain []*x509.Certificate, key crypto.PublicKey, now time.Time) error {
	if !x509x.SameKey(chain[0].PublicKey, key) {
		return errors.New("the key is not that of the first certificate")
	}
	if err := x509x.CheckKey(key); err != nil {
		return err
	}
	for i, cert := range chain {
		if err := checkCA(cert, i, now); err != nil {
			return fmt.Errorf("certificate %d (%s) %w", i+1, cert.Subject, err)
		}
		if i+1 == len(chain) {
			break
		}
		if err := cert.CheckSignatureFrom(chain[i+1]); err != nil {
			return fmt.Errorf("certificate %d (%s) is not signed by the next one (%s); put the issuing CA first and each certificate's issuer after it: %w",
				i+1, cert.Subject, chain[i+1].Subject, err)
		}
	}
	return nil
}

// checkCA checks one certificate of a chain, with the given number of CAs below it.
func checkCA(cert *x509.Certificate, below int, now time.Time) error {
	switch {
	case !cert.BasicConstraintsValid || !cert.IsCA:
		return errors.New("is not that of a CA (basic constraints)")
	case cert.KeyUsage != 0 && cert.KeyUsage&x509.KeyUsageCertSign == 0:
		return errors.New("does not allow its key to sign certificates (key usage)")
	case (cert.MaxPathLen > 0 || cert.MaxPathLenZero) && cert.MaxPathLen < below:
		return fmt.Errorf("allows %d CAs below it and has %d (path length)", cert.MaxPathLen, below)
	case now.Before(cert.NotBefore):
		return fmt.Errorf("is not valid before %s", cert.NotBefore.Format(time.RFC3339))
	case !now.Before(cert.NotAfter):
		return fmt.Errorf("expired on %s", cert.NotAfter.Format(time.RFC3339))
	default:
		return nil
	}
}
