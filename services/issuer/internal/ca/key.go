package ca

import (
	"context"
	"time"
)

// Key is the key of a CA that lives here, as it is stored.
type Key struct {
	ID, IssuerID string
	// ChainPEM holds the CA's certificate and those above it, root last.
	ChainPEM string
	// Sealed is the private key, bound to ID and IssuerID; nil if that is in a PKCS#11 token.
	Sealed []byte
	// TokenKey is the key's label in the token; empty if it is sealed.
	TokenKey  string
	CreatedAt time.Time
}

// KeyStore keeps the keys of CAs.
type KeyStore interface {
	// ActiveKey returns the issuer's active key, nil if it has none.
	ActiveKey(ctx context.Context, issuerID string) (*Key, error)
	// AddKey stores a key as the issuer's active one unless there is one, and returns the one that is there now.
	AddKey(ctx context.Context, k Key) (*Key, error)
}
