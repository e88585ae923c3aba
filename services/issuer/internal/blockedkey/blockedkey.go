// Package blockedkey keeps keys from being certified: those that somebody has blocked, because they are compromised or for
// reasons of their own, and those that are known to be worthless, because they can be computed from their public half or
// were published.
//
// A key is known by the SHA-256 of its SubjectPublicKeyInfo in DER, of which a key has one: what stands in a request, a
// certificate and a public key is the same. Whoever asks for a certificate, and however, is refused such a key.
//
// Who has been issued a certificate for a key that is blocked afterwards keeps it: to block is not to revoke.
package blockedkey

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/record"
)

// Reason is why a key is blocked.
type Reason string

// The reasons.
const (
	// Compromised is for a key that somebody else has or may have (keyCompromise of RFC 5280 section 5.3.1).
	Compromised Reason = "keyCompromise"
	// Weak is for a key that can be computed.
	Weak Reason = "weak"
	// Other is for what the comment says.
	Other Reason = "other"
)

// Reasons lists every reason.
var Reasons = []Reason{Compromised, Weak, Other}

// says is the reason in words.
func (r Reason) says() string {
	switch r {
	case Compromised:
		return "it is compromised"
	case Weak:
		return "it is weak"
	default:
		return "it must not be used any more"
	}
}

// Hash is the SHA-256 of a SubjectPublicKeyInfo in DER.
type Hash [sha256.Size]byte

// HashOf is the hash of a SubjectPublicKeyInfo in DER.
func HashOf(spki []byte) Hash { return sha256.Sum256(spki) }

// ParseHash reads a hash in hexadecimal digits, with or without colons between them.
func ParseHash(text string) (Hash, bool) {
	raw, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(text), ":", ""))
	if err != nil || len(raw) != sha256.Size {
		return Hash{}, false
	}
	return Hash(raw), true
}

// String is the hash in lower-case hexadecimal digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// Key is a key that is blocked.
type Key struct {
	Hash    Hash
	Reason  Reason
	Comment string
	// By is who blocked it.
	By        string
	CreatedAt time.Time
}

// Changed tells that a key was blocked (event.Created) or is not any more (event.Deleted).
func (k *Key) Changed(verb string) event.Event {
	fields := record.Fields{"reason": string(k.Reason), "comment": k.Comment}
	changes := record.Changes(nil, fields)
	if verb == event.Deleted {
		changes = record.Changes(fields, nil)
	}
	return event.BlockedKeyChanged{Record: event.Record{ID: k.Hash.String(), Name: k.Hash.String(), Verb: verb, Changes: changes}}
}

// refusal is what whoever asks for a certificate for a blocked key is told.
func refusal(why string) error {
	return fault.New(fault.Invalid, "this key is blocked: %s; make a new key", why)
}
