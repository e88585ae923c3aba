// Package id makes and checks the ids of things.
//
// An id is a readable prefix that says what it names, and a UUIDv7 in 26 characters of lower-case base32:
// "mc-06djz3k4qx7fy0v9m2h1s8w5tc". Ids made later sort after ids made earlier (to the millisecond everywhere, strictly
// within one process), so they may serve as the tie-breaker of a keyset. They are unique, not secret.
//
// Clients may bring their own ids; Valid says which. Every valid id is a single NATS subject token, a path segment
// and a file name as it stands.
package id

import (
	"encoding/base32"

	"github.com/google/uuid"
)

// MaxLen is the length of the longest valid id.
const MaxLen = 64

// The alphabet is Crockford's: in ASCII order, so that the encoding sorts as the bytes do, and without i, l, o and u.
var encoding = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// New returns a fresh id that starts with prefix, which brings its own separator ("mc-").
func New(prefix string) string {
	u := uuid.Must(uuid.NewV7())
	return prefix + encoding.EncodeToString(u[:])
}

// Valid reports whether s may be an id: [a-z0-9][a-z0-9_-]{0,63}.
func Valid(s string) bool {
	if s == "" || len(s) > MaxLen || s[0] == '_' || s[0] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && c != '-' {
			return false
		}
	}
	return true
}
