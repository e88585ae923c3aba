// Package signer is what the issuer and certctl-signer, which holds the keys of CAs in a PKCS#11 token, say to each other:
// HTTP/1.1 with JSON over a Unix socket on one machine. The version is the first part of every path.
//
// A request has one answer and nothing is remembered between two of them, so either side may be started anew at any time,
// and a request that was not answered may be sent again. What goes wrong is answered as a coded error (libs/fault) under
// its status. No answer ever holds a private key, and there is no operation that uses one for anything but a signature.
package signer

// The operations.
const (
	// PathKeys lists keys (GET, with ?label= for those of one label) as Keys, and makes one (POST of Generate) as Key.
	// Making is a Conflict if the token has a key of that label.
	PathKeys = "/v1/keys"
	// PathSign signs (POST of Sign, answered by Signature). It is NotFound if the token has no such key.
	PathSign = "/v1/sign"
)

// Bounds of what is sent. A receiver reads no further.
const (
	MaxRequest = 4 << 10
	MaxAnswer  = 256 << 10
	// MaxKeys is how many keys are listed at most.
	MaxKeys  = 128
	MaxLabel = 64
)

// The hashes whose digests are signed.
const (
	SHA256 = "SHA-256"
	SHA384 = "SHA-384"
	SHA512 = "SHA-512"
)

// Key is a key pair in the token.
type Key struct {
	Label string `json:"label"`
	// ID is CKA_ID. A label alone need not name one key.
	ID []byte `json:"id"`
	// PublicKey is a SubjectPublicKeyInfo in DER.
	PublicKey []byte `json:"public_key"`
	// Objection says why the key is not used; empty if it is.
	Objection string `json:"objection,omitempty"`
}

// Keys are keys of a token.
type Keys struct {
	// Token is the token's label.
	Token string `json:"token"`
	Keys  []Key  `json:"keys"`
}

// Generate asks for a new key pair that stays in the token for good.
type Generate struct {
	Label string `json:"label"`
	// Algorithm is ECDSA, of 256 or 384 bits, or RSA, of 2048, 3072 or 4096.
	Algorithm string `json:"algorithm"`
	Bits      int    `json:"bits"`
}

// Sign asks for a signature: of ECDSA in ASN.1, of RSA by PKCS #1 v1.5.
type Sign struct {
	Label string `json:"label"`
	ID    []byte `json:"id"`
	Hash  string `json:"hash"`
	// Digest is of the hash's length.
	Digest []byte `json:"digest"`
}

// Signature is what a key has signed.
type Signature struct {
	Signature []byte `json:"signature"`
}
