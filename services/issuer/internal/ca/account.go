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
	Sealed []byte
	// Next is the key that is to take its place, sealed likewise; nil if none is. The CA may know either of the two.
	Next      []byte
	CreatedAt time.Time
}

// AccountStore keeps accounts.
type AccountStore interface {
	// Account returns the issuer's account at a directory, nil if it has none.
	Account(ctx context.Context, issuerID, directory string) (*Account, error)
	// AddAccount stores an account unless the issuer has one at that directory, and returns the one that is there now.
	AddAccount(ctx context.Context, a Account) (*Account, error)
	// AddNextKey stores the key that is to take the place of an account's, unless there is one, and returns the account as it
	// is now. The account is Sealed with the one that was seen, or it is a Conflict.
	AddNextKey(ctx context.Context, a Account, next []byte) (*Account, error)
	// AdoptNextKey puts the next key in the place of an account's, unless that has been done.
	AdoptNextKey(ctx context.Context, issuerID, directory string, next []byte) error
	// NoteAccount keeps what the CA knows of an account: its URL and contact.
	NoteAccount(ctx context.Context, a Account) error
}
