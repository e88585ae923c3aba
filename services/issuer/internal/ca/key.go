package ca

import (
	"context"
	"time"
)

// Key is the key of a CA that lives here, as it is stored.
type Key struct {
	ID, IssuerID string
	// Place stands for the key in the URLs where relying parties ask about what it issued: the issuer's id for the issuer's
	// first key, the key's own for any later one.
	Place string
	// ChainPEM holds the CA's certificate and those above it, root last. It is empty while the key has no certificate.
	ChainPEM string
	// CSRPEM asks for the certificate, if somebody else signs it.
	CSRPEM string
	// CrossPEM holds certificates for this key, or for one above it, by a key that relying parties may know better. They go
	// out with what this key issues.
	CrossPEM string
	// Sealed is the private key, bound to ID and IssuerID; nil if that is in a PKCS#11 token.
	Sealed []byte
	// TokenKey is the key's label in the token; empty if it is sealed.
	TokenKey string
	// Active tells that it signs what is issued now. An issuer has one active key at most.
	Active bool
	// ActivatedAt is when it last became active; zero if it never was.
	CreatedAt, ActivatedAt time.Time
}

// Pending tells that the key has no certificate yet.
func (k *Key) Pending() bool { return k.ChainPEM == "" }

// KeyStore keeps the keys of CAs.
type KeyStore interface {
	// ActiveKey returns the issuer's active key, nil if it has none.
	ActiveKey(ctx context.Context, issuerID string) (*Key, error)
	// AddKey stores a key as the issuer's active one unless there is one, and returns the one that is there now.
	AddKey(ctx context.Context, k Key) (*Key, error)
	// Keys returns all keys of an issuer, oldest first.
	Keys(ctx context.Context, issuerID string) ([]Key, error)
}
