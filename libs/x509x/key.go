package x509x

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"

	"github.com/certctl/certctl/libs/fault"
)

// Bounds of RSA keys, in bits. Larger ones cost whoever verifies more than they are worth.
const (
	MinRSABits = 2048
	MaxRSABits = 8192
)

// The names of key algorithms, as the API spells them.
const (
	RSA     = "RSA"
	ECDSA   = "ECDSA"
	Ed25519 = "Ed25519"
)

// KeyAlgorithm returns the name and the size in bits of a public key; ok is false for one of no known kind.
func KeyAlgorithm(pub crypto.PublicKey) (algorithm string, bits int, ok bool) {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		return RSA, k.N.BitLen(), true
	case *ecdsa.PublicKey:
		return ECDSA, k.Curve.Params().BitSize, true
	case ed25519.PublicKey:
		return Ed25519, 256, true
	default:
		return "", 0, false
	}
}

// CheckKey refuses a public key that is weak or of no known kind: RSA outside MinRSABits..MaxRSABits or with a small or
// even exponent, and curves other than P-256, P-384 and P-521. The error is Invalid.
func CheckKey(pub crypto.PublicKey) error {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < MinRSABits || bits > MaxRSABits {
			return fault.New(fault.Invalid, "the RSA key has %d bits; %d to %d are accepted", bits, MinRSABits, MaxRSABits)
		}
		if k.E < 3 || k.E%2 == 0 {
			return fault.New(fault.Invalid, "the RSA key's exponent %d is not accepted", k.E)
		}
		return nil
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256(), elliptic.P384(), elliptic.P521():
			return nil
		default:
			return fault.New(fault.Invalid, "the key's curve %s is not accepted; P-256, P-384 and P-521 are", k.Curve.Params().Name)
		}
	case ed25519.PublicKey:
		return nil
	default:
		return fault.New(fault.Invalid, "the key is of a kind that is not accepted; RSA, ECDSA and Ed25519 are")
	}
}

// SameKey reports whether two public keys are the same.
func SameKey(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// SPKIHash returns the SHA-256 of a subject public key info in DER, in lower-case hex. Certificates and requests hold it
// as RawSubjectPublicKeyInfo.
func SPKIHash(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// EncodePrivateKey returns the key in PEM, as PKCS #8.
func EncodePrivateKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: blockPKCS8, Bytes: der}), nil
}

// ParsePrivateKey returns the one private key of a PEM text: PKCS #8, PKCS #1 (RSA) or SEC 1 (EC). Blocks of other
// kinds, such as EC parameters or certificates, are passed over. Its errors are Invalid and show nothing of the text.
func ParsePrivateKey(text []byte) (crypto.Signer, error) {
	return ParseEncryptedPrivateKey(text, nil)
}

// ParseEncryptedPrivateKey is ParsePrivateKey for a key that may be encrypted with a password: as PKCS #8 (PBES2), or in the
// older way of OpenSSL by the headers of its PEM block. The password of a key that is not encrypted is not looked at.
func ParseEncryptedPrivateKey(text, password []byte) (crypto.Signer, error) {
	var found crypto.Signer
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if !isPrivate(block.Type) {
			continue
		}
		if found != nil {
			return nil, fault.New(fault.Invalid, "the text holds more than one private key")
		}
		key, err := parseKeyBlock(block, password)
		if err != nil {
			return nil, err
		}
		found = key
	}
	if found == nil {
		return nil, fault.New(fault.Invalid, "the text holds no private key in PEM")
	}
	return found, nil
}

func parseKeyBlock(block *pem.Block, password []byte) (crypto.Signer, error) {
	key, err := decodeKey(block, password)
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fault.New(fault.Invalid, "the private key is of a kind that cannot sign")
	}
	return signer, nil
}

func decodeKey(block *pem.Block, password []byte) (key any, err error) {
	if block.Type == blockEncrypted {
		return decryptKey(block.Bytes, password)
	}
	der := block.Bytes
	if block.Headers["DEK-Info"] != "" {
		if der, err = decryptBlock(block, password); err != nil {
			return nil, err
		}
	}
	switch block.Type {
	case blockPKCS8:
		key, err = x509.ParsePKCS8PrivateKey(der)
	case blockRSA:
		key, err = x509.ParsePKCS1PrivateKey(der)
	case blockEC:
		key, err = x509.ParseECPrivateKey(der)
	default:
		return nil, fault.New(fault.Invalid, "a private key of the form %q is not accepted", block.Type)
	}
	if err != nil {
		// The parser's errors may quote the key, so not even the log may have them.
		return nil, fault.New(fault.Invalid, "the private key is malformed, or of a kind that is not accepted (RSA, ECDSA on P-256, P-384 or P-521, and Ed25519 are)")
	}
	return key, nil
}
