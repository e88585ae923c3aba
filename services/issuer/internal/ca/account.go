package ca

import (
	"context"
	"time"
)

// Account is who an issuer is to a CA elsewhere, as it is stored.
type Account struct {
	IssuerID string
	// Directory is the address of the CA that knows the account.
	Directory string
	// URL is how the CA calls the account; empty until it has said so.
	URL string
	// Contact is the mail address that the CA was told.
	Contact string
	// Sealed is the account's private key, bound to IssuerID and Directory.
	Sealed    []byte
	CreatedAt time.Time
}

// AccountStore keeps accounts.
type AccountStore interface {
	// Account returns the issuer's account at a directory, nil if it has none.
	Account(ctx context.Context, issuerID, directory string) (*Account, error)
	// AddAccount stores an account unless the issuer has one at that directory, and returns the one that is there now.
	AddAccount(ctx context.Context, a Account) (*Account, error)
	// NoteAccount keeps what the CA knows of an account: its URL and contact.
	NoteAccount(ctx context.Context, a Account) error
}
