// Package crl keeps a current revocation list (RFC 5280 section 5) for each key of an issuer
// that signs them: a list is believed only if it is signed by who issued the certificate. The issuer's key stays with the issuer: a list is sent there to be signed,
// and what comes back is checked before anybody is given it.
//
// A list is good for a day and replaced after half of it, while the old one is handed
// out: no reader waits for a signature unless there is no list at all. Numbers only grow,
// however many replicas sign.
package crl

import (
	"context"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/revocation/internal/fresh"
	"github.com/certctl/certctl/services/revocation/internal/postgres"
)

const (
	// Life is how long a list is good for.
	Life = 24 * time.Hour
	// refreshAfter leaves half of a list's life to get the next one signed.
	refreshAfter = Life / 2
	// retryAfter is when signing is tried again if the issuer was away.
	retryAfter = 30 * time.Second
)

// Signer has lists signed by their issuer.
type Signer interface {
	SignCRL(ctx context.Context, c command.SignCRL) ([]byte, error)
}

// Lists hands out current lists. It is safe for concurrent use.
type Lists struct {
	store  postgres.Store
	signer Signer
	clock  clock.Clock
	keeper *fresh.Keeper[ca, postgres.CRL]
}

// ca is an authority as it is now. Its lists are of no use once its certificate is another.
type ca = postgres.Authority

// New returns lists that are kept in store.
func New(store postgres.Store, signer Signer, c clock.Clock) *Lists {
	l := &Lists{store: store, signer: signer, clock: c}
	l.keeper = &fresh.Keeper[ca, postgres.CRL]{Clock: c, Make: l.renew}
	return l
}

// Current returns a list of an authority that is good.
func (l *Lists) Current(ctx context.Context, a postgres.Authority) (postgres.CRL, error) {
	return l.keeper.Get(ctx, a)
}

// Wait returns when no list is being signed.
func (l *Lists) Wait() { l.keeper.Wait() }

// renew takes the stored list, or has a new one signed if that is due. While the issuer
// is away, a list that has not run out will do.
func (l *Lists) renew(ctx context.Context, of ca) (fresh.Value[postgres.CRL], error) {
	var none fresh.Value[postgres.CRL]
	chain, err := x509x.ParseCertificates([]byte(of.CAChainPEM))
	if err != nil {
		return none, fault.Wrap(err, fault.Internal, "the CA certificates of %s cannot be read", of.ID)
	}
	stored, err := l.store.CRL(ctx, of.ID)
	if err != nil {
		return none, err
	}
	now := l.clock.Now()
	usable := stored.Number > 0 && now.Before(stored.NextUpdate) && check(stored, chain[0]) == nil
	if usable && now.Before(stored.ThisUpdate.Add(refreshAfter)) {
		return lasting(stored, stored.ThisUpdate.Add(refreshAfter)), nil
	}
	next, err := l.sign(ctx, of, stored.Number+1, chain[0])
	switch {
	case err == nil:
		return lasting(next, next.ThisUpdate.Add(refreshAfter)), nil
	case usable:
		return lasting(stored, now.Add(retryAfter)), nil
	default:
		return none, err
	}
}

func lasting(c postgres.CRL, renewAt time.Time) fresh.Value[postgres.CRL] {
	return fresh.Value[postgres.CRL]{Of: c, RenewAt: renewAt, Until: c.NextUpdate}
}

// sign has a list made and keeps it. Nothing can be revoked yet, so it is empty, and says
// so honestly. If another replica was faster, its list counts.
func (l *Lists) sign(ctx context.Context, of ca, number int64, issuing *x509.Certificate) (postgres.CRL, error) {
	now := l.clock.Now().UTC().Truncate(time.Second)
	c := postgres.CRL{AuthorityID: of.ID, Number: number, ThisUpdate: now, NextUpdate: now.Add(Life)}
	der, err := l.signer.SignCRL(ctx, command.SignCRL{
		IssuerID: of.IssuerID, KeyID: of.KeyID, Number: number, Entries: []command.CRLEntry{},
		ThisUpdate: c.ThisUpdate.Format(time.RFC3339), NextUpdate: c.NextUpdate.Format(time.RFC3339),
	})
	if err != nil {
		return postgres.CRL{}, fmt.Errorf("have list %d of %s signed: %w", number, of.ID, err)
	}
	c.DER = der
	if err := check(c, issuing); err != nil {
		return postgres.CRL{}, fault.Wrap(err, fault.Unavailable, "the issuer %s did not sign the list that it was sent", of.IssuerID)
	}
	saved, err := l.store.SaveCRL(ctx, c)
	if err != nil || saved {
		return c, err
	}
	other, err := l.store.CRL(ctx, of.ID)
	if err == nil {
		err = check(other, issuing)
	}
	return other, err
}

// check tells whether a list is what it is kept as, and its CA's.
func check(c postgres.CRL, issuing *x509.Certificate) error {
	list, err := x509.ParseRevocationList(c.DER)
	if err != nil {
		return fmt.Errorf("parse list %d of %s: %w", c.Number, c.AuthorityID, err)
	}
	if list.Number == nil || !list.Number.IsInt64() || list.Number.Int64() != c.Number ||
		!list.ThisUpdate.Equal(c.ThisUpdate) || !list.NextUpdate.Equal(c.NextUpdate) {
		return fmt.Errorf("list %d of %s has another number or other times", c.Number, c.AuthorityID)
	}
	if err := list.CheckSignatureFrom(issuing); err != nil {
		return fmt.Errorf("list %d of %s is not its CA's: %w", c.Number, c.AuthorityID, err)
	}
	return nil
}
