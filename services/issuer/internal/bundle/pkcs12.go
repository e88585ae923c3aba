package bundle

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"

	"software.sslmate.com/src/go-pkcs12"
)

// readPKCS12 reads a file of RFC 7292. Its keys are decrypted with all else, whether they are wanted or not.
func (c *Content) readPKCS12(data []byte, o Options) error {
	if err := new(cost).of(data, 0); err != nil {
		return err
	}
	var found safe
	if err := within(patience, func() (err error) {
		found, err = openPKCS12(data, o.Password)
		return err
	}); err != nil {
		return err
	}
	for _, cert := range found.certificates {
		if err := c.addCertificate(cert); err != nil {
			return err
		}
	}
	for _, key := range found.keys {
		s, err := signer(key)
		if err := c.addKey(s, err, o); err != nil {
			return err
		}
	}
	return nil
}

// safe is what a PKCS #12 file holds.
type safe struct {
	certificates [][]byte
	keys         []any
}

func (s *safe) add(certs ...*x509.Certificate) {
	for _, c := range certs {
		s.certificates = append(s.certificates, c.Raw)
	}
}

// openPKCS12 opens a file with one key, a Java trust store without keys, or one with several keys. The trust store comes first:
// to try that opens no key, and tells whether the password is right.
func openPKCS12(data []byte, password string) (safe, error) {
	var s safe
	certs, err := pkcs12.DecodeTrustStore(data, password)
	if err == nil {
		s.add(certs...)
		return s, nil
	}
	if isWrongPassword(err) {
		return s, wrongPassword("the file", password)
	}
	if err := keysInSight(data, password); err != nil {
		return s, err
	}
	key, leaf, above, err := pkcs12.DecodeChain(data, password)
	if err == nil {
		s.add(leaf)
		s.add(above...)
		s.keys = []any{key}
		return s, nil
	}
	if isWrongPassword(err) {
		return s, wrongPassword("the file", password)
	}
	blocks, blockErr := pkcs12.ToPEM(data, password) //nolint:staticcheck // nothing else reads several keys, and how it writes them is known
	if blockErr == nil {
		return blocksOf(blocks)
	}
	if unsupported, ok := errors.AsType[pkcs12.NotImplementedError](err); ok {
		return s, wrap(err, "is PKCS#12 of a kind that is not read (%s); convert it with openssl pkcs12", string(unsupported))
	}
	return s, unreadable(err)
}

// blocksOf reads what ToPEM makes: keys in PKCS #1 or SEC 1 that are labelled as if they were PKCS #8.
func blocksOf(blocks []*pem.Block) (s safe, err error) {
	for _, b := range blocks {
		if b.Type == "CERTIFICATE" {
			s.certificates = append(s.certificates, b.Bytes)
			continue
		}
		var key crypto.Signer
		if key, err = x509.ParsePKCS1PrivateKey(b.Bytes); err != nil {
			if key, err = x509.ParseECPrivateKey(b.Bytes); err != nil {
				return s, refuse("holds a private key of a kind that is not accepted")
			}
		}
		s.keys = append(s.keys, key)
	}
	return s, nil
}
