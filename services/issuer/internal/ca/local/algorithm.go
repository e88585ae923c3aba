package local

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"slices"
	"strings"

	"github.com/certctl/certctl/libs/x509x"
)

// The kinds of keys that a CA is made with here, as its settings spell them.
const (
	ECDSAP256 = "ECDSA-P256"
	ECDSAP384 = "ECDSA-P384"
	RSA2048   = "RSA-2048"
	RSA3072   = "RSA-3072"
	RSA4096   = "RSA-4096"
	Ed25519   = "Ed25519"
)

// Algorithms are all of them, the default first.
var Algorithms = []string{ECDSAP256, ECDSAP384, RSA2048, RSA3072, RSA4096, Ed25519}

// algorithmNamed finds a kind of key by its name in any case, false if there is none.
func algorithmNamed(name string) (string, bool) {
	i := slices.IndexFunc(Algorithms, func(a string) bool { return strings.EqualFold(a, strings.TrimSpace(name)) })
	if i < 0 {
		return "", false
	}
	return Algorithms[i], true
}

// AlgorithmOf names the kind of a public key as settings do, also of one that is not made here.
func AlgorithmOf(pub crypto.PublicKey) string {
	name, bits, ok := x509x.KeyAlgorithm(pub)
	switch {
	case !ok:
		return ""
	case name == x509x.ECDSA:
		return fmt.Sprintf("ECDSA-P%d", bits)
	case name == x509x.RSA:
		return fmt.Sprintf("RSA-%d", bits)
	default:
		return name
	}
}

// newSigner makes a key of a kind; the empty one is the default.
func newSigner(algorithm string) (crypto.Signer, error) {
	switch algorithm {
	case "", ECDSAP256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case ECDSAP384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case RSA2048:
		return rsa.GenerateKey(rand.Reader, 2048)
	case RSA3072:
		return rsa.GenerateKey(rand.Reader, 3072)
	case RSA4096:
		return rsa.GenerateKey(rand.Reader, 4096)
	case Ed25519:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	default:
		return nil, fmt.Errorf("no kind of CA key is called %q", algorithm)
	}
}
