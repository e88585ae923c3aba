package acme

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"

	protocol "github.com/go-acme/lego/v4/acme"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/secret"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca"
)

// stored returns the issuer's account at its directory. Its key is made when it is first asked for; of several that ask
// at once all get the same.
func (a *Authority) stored(ctx context.Context) (*ca.Account, error) {
	issuer, directory := a.config.IssuerID, a.config.Directory
	found, err := a.deps.Accounts.Account(ctx, issuer, directory)
	if err != nil || found != nil {
		return found, err
	}
	made := ca.Account{IssuerID: issuer, Directory: directory, CreatedAt: a.deps.Clock.Now()}
	if made.Sealed, err = a.sealedKey(); err != nil {
		return nil, err
	}
	return a.deps.Accounts.AddAccount(ctx, made)
}

// sealedKey makes a key for the account.
func (a *Authority) sealedKey() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the account key of %s: %w", a.config.IssuerID, err)
	}
	plain, err := x509x.EncodePrivateKey(key)
	if err != nil {
		return nil, err
	}
	sealed, err := a.deps.Sealer.Seal(plain, binding(a.config.IssuerID, a.config.Directory))
	if err != nil {
		return nil, fmt.Errorf("seal the account key of %s: %w", a.config.IssuerID, err)
	}
	return sealed, nil
}

// adopt has the authority be who is stored.
func (a *Authority) adopt(stored *ca.Account) error {
	key, err := a.unseal(stored, stored.Sealed)
	if err != nil {
		return err
	}
	a.key.Store(key)
	a.account.Store(stored)
	return nil
}

// unseal opens an account's key. One that cannot be opened is an error, never a reason for a new account.
func (a *Authority) unseal(stored *ca.Account, sealed []byte) (*ecdsa.PrivateKey, error) {
	unusable := func(err error, what string) error {
		return fault.Wrap(err, fault.Unavailable, "the ACME account of %s cannot be used: %s", stored.IssuerID, what)
	}
	plain, err := a.deps.Sealer.Unseal(sealed, binding(stored.IssuerID, stored.Directory))
	if errors.Is(err, secret.ErrKey) {
		return nil, unusable(err, "its key was sealed with another sealing key; put that key back (CERTCTL_SEALING_KEY_FILE)")
	}
	if err != nil {
		return nil, unusable(err, "its sealed key is damaged")
	}
	key, err := x509x.ParsePrivateKey(plain)
	if err != nil {
		return nil, unusable(err, "its key cannot be read")
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, unusable(nil, "its key is of another kind")
	}
	return ec, nil
}

// binding ties a sealed key to its row, so that rows cannot change places.
func binding(issuerID, directory string) []byte {
	return []byte("certctl acme account\x00" + issuerID + "\x00" + directory)
}

// register has the CA know the account, unless it does, and tells it a contact that has changed. The CA answers a
// registration that it has had already with the account that it made then.
func (a *Authority) register(ctx context.Context) error {
	if a.settled() {
		return nil
	}
	select {
	case a.registering <- struct{}{}:
		defer func() { <-a.registering }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if a.settled() {
		return nil
	}
	now := *a.account.Load()
	var err error
	if now.URL != "" {
		err = a.tellContact(ctx)
		if is(err, accountDoesNotExist) {
			a.forget(now.URL)
			now.URL, err = "", nil
		}
	}
	if now.URL == "" {
		now.URL, err = a.introduce(ctx)
	}
	if err != nil {
		return coded(err)
	}
	now.Contact = a.config.Email
	if err := a.deps.Accounts.NoteAccount(ctx, now); err != nil {
		return err
	}
	a.account.Store(&now)
	return nil
}

// forget has the account registered anew, with the same key, if the CA does not know it by that URL.
func (a *Authority) forget(url string) {
	known := a.account.Load()
	if known.URL == url {
		anew := *known
		anew.URL = ""
		a.account.CompareAndSwap(known, &anew)
	}
}

// settled tells whether the CA knows the account as it is to be.
func (a *Authority) settled() bool {
	known := a.account.Load()
	return known.URL != "" && known.Contact == a.config.Email
}

// introduce registers the account and returns how the CA calls it.
func (a *Authority) introduce(ctx context.Context) (string, error) {
	s, err := a.connect(ctx)
	if err != nil {
		return "", err
	}
	defer s.close()
	account := protocol.Account{TermsOfServiceAgreed: true, Contact: a.contact()}
	register := func() (protocol.ExtendedAccount, error) { return s.core.Accounts.New(account) }
	if a.config.KeyID != "" {
		register = func() (protocol.ExtendedAccount, error) {
			return s.core.Accounts.NewEAB(account, a.config.KeyID, a.config.MACKey)
		}
	} else if s.core.GetDirectory().Meta.ExternalAccountRequired {
		return "", fault.New(fault.Unavailable, "the CA asks for an account that is bound to one of its own; set eab_kid and eab_hmac_key, which it hands out")
	}
	made, err := register()
	if is(err, serverInternal) {
		// Another replica that registers the same key at the same moment gets in its way at some CAs.
		made, err = register()
	}
	return made.Location, err
}

// tellContact tells the CA of a contact that has changed. Lego's message would leave out one that is none now, and some
// CAs refuse what changes nothing.
func (a *Authority) tellContact(ctx context.Context) error {
	s, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	payload, err := json.Marshal(map[string]any{"contact": a.contact()})
	if err != nil {
		return fmt.Errorf("tell the CA of a contact: %w", err)
	}
	return s.send(ctx, s.account, payload, a.key.Load())
}

// contact is how the CA wants a mail address.
func (a *Authority) contact() []string {
	if a.config.Email == "" {
		return []string{}
	}
	return []string{"mailto:" + a.config.Email}
}
