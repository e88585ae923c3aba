package authn

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
)

// KeyPrefix starts every API key, so that scanners for leaked secrets know one when they see it.
const KeyPrefix = "cck_"

// NewKey returns a fresh API key: KeyPrefix and 256 random bits in 43 characters.
func NewKey() string {
	var b [32]byte
	// crypto/rand.Read never returns an error; it ends the process instead.
	_, _ = rand.Read(b[:])
	return KeyPrefix + base64.RawURLEncoding.EncodeToString(b[:])
}

// HashKey returns the form in which a key is stored. A plain SHA-256 is enough because keys are random, not chosen.
func HashKey(key string) [32]byte { return sha256.Sum256([]byte(key)) }

// Equal compares two hashes in a time that tells nothing about where they differ.
func Equal(a, b [32]byte) bool { return subtle.ConstantTimeCompare(a[:], b[:]) == 1 }
