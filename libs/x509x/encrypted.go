package x509x

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"

	"github.com/youmark/pkcs8"

	"github.com/certctl/certctl/libs/fault"
)

// errPassword is that of an encrypted key without a password, or with another one. A wrong password and a damaged key cannot
// be told apart.
func errPassword(password []byte) error {
	if len(password) == 0 {
		return fault.New(fault.Invalid, "the private key is encrypted; give its password, or the key without a passphrase")
	}
	return fault.New(fault.Invalid, "the private key cannot be decrypted: the password is wrong, or the key is damaged or encrypted in a way that is not accepted (PBES2 with PBKDF2 or scrypt and AES is)")
}

// What a foreign key may have us spend on its password: a few seconds, and memory that any machine has.
const (
	maxIterations   = 10_000_000
	maxScryptMemory = 256 << 20
	maxScryptRounds = 16
)

// decryptKey reads PKCS #8 that is encrypted (RFC 5958 section 3).
func decryptKey(der, password []byte) (any, error) {
	if len(password) == 0 || !affordable(der) {
		return nil, errPassword(password)
	}
	key, err := pkcs8.ParsePKCS8PrivateKey(der, password)
	if err != nil {
		// The parser's errors may quote the key.
		return nil, errPassword(password)
	}
	return key, nil
}

var (
	oidPBKDF2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	oidScrypt = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11591, 4, 11}
)

// affordable tells whether the key derivation that an encrypted key names (RFC 8018 appendix A.4, RFC 7914 section 7) is
// one that we are willing to do.
func affordable(der []byte) bool {
	var outer struct {
		Algorithm pkix.AlgorithmIdentifier
		Data      []byte
	}
	var pbes2 struct{ KDF, Scheme pkix.AlgorithmIdentifier }
	if _, err := asn1.Unmarshal(der, &outer); err != nil {
		return false
	}
	if _, err := asn1.Unmarshal(outer.Algorithm.Parameters.FullBytes, &pbes2); err != nil {
		return false
	}
	parameters := pbes2.KDF.Parameters.FullBytes
	switch kdf := pbes2.KDF.Algorithm; {
	case kdf.Equal(oidPBKDF2):
		var p struct {
			Salt       []byte
			Iterations int
			KeyLength  int                      `asn1:"optional"`
			PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
		}
		_, err := asn1.Unmarshal(parameters, &p)
		return err == nil && p.Iterations > 0 && p.Iterations <= maxIterations
	case kdf.Equal(oidScrypt):
		var p struct {
			Salt      []byte
			N, R, P   int
			KeyLength int `asn1:"optional"`
		}
		_, err := asn1.Unmarshal(parameters, &p)
		return err == nil && p.N > 1 && p.R > 0 && p.P > 0 && p.P <= maxScryptRounds && p.R <= maxScryptMemory/128 && p.N <= maxScryptMemory/128/p.R
	default:
		return false
	}
}

// decryptBlock undoes the encryption of PEM that RFC 1421 has and OpenSSL wrote for long. It does not tell who changed the
// key; it is read because such keys are about, and never written.
func decryptBlock(block *pem.Block, password []byte) ([]byte, error) {
	if len(password) == 0 {
		return nil, errPassword(password)
	}
	der, err := x509.DecryptPEMBlock(block, bytes.Clone(password)) //nolint:staticcheck // deprecated as insecure by design, and the only reader there is
	if err != nil {
		return nil, errPassword(password)
	}
	return der, nil
}
