// Package crl keeps a current revocation list (RFC 5280 section 5) for each issuer that
// signs them. The issuer's key stays with the issuer: a list is sent there to be signed.
package crl

import (
	"context"
	"crypto/x509"
	"fmt"
	"sync"
	"time"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/revocation/internal/postgres"
)

const (
	// Life is how long a list is good for.
	Life = 24 * time.Hour
	// refreshAfter leaves half of a list's life to get the next one signed.
	refreshAfter = Life / 2
)

// Signer has lists signed by their issuer.
type Signer interface {
	SignCRL(ctx context.Context, c command.SignCRL) ([]byte, error)
}

// Lists hands out current lists. It is safe for concurrent use.
type Lists struct {
	Store  postgres.Store
	Signer Signer
	Clock  clock.Clock

	mu      sync.Mutex
	current map[string]postgres.CRL // under mu
}

// Current returns the list of an issuer, signed anew if half of its life is over. While
// the issuer is away, a list that has not run out is still handed out.
func (l *Lists) Current(ctx context.Context, issuerID string) (postgres.CRL, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.Clock.Now()
	c, known := l.current[issuerID]
	if known && now.Before(c.ThisUpdate.Add(refreshAfter)) {
		return c, nil
	}
	c, err := l.Store.CRL(ctx, issuerID)
	if err != nil {
		return postgres.CRL{}, err
	}
	if c.Number == 0 || !now.Before(c.ThisUpdate.Add(refreshAfter)) {
		next, err := l.sign(ctx, issuerID, c.Number+1, now)
		switch {
		case err == nil:
			c = next
		case c.Number == 0 || !now.Before(c.NextUpdate):
			return postgres.CRL{}, err
		}
	}
	if l.current == nil {
		l.current = map[string]postgres.CRL{}
	}
	l.current[issuerID] = c
	return c, nil
}

// sign has a list made. Nothing can be revoked yet, so it is empty, and says so honestly.
func (l *Lists) sign(ctx context.Context, issuerID string, number int64, now time.Time) (postgres.CRL, error) {
	now = now.UTC().Truncate(time.Second)
	c := postgres.CRL{IssuerID: issuerID, Number: number, ThisUpdate: now, NextUpdate: now.Add(Life)}
	der, err := l.Signer.SignCRL(ctx, command.SignCRL{
		IssuerID: issuerID, Number: number, Entries: []command.CRLEntry{},
		ThisUpdate: c.ThisUpdate.Format(time.RFC3339), NextUpdate: c.NextUpdate.Format(time.RFC3339),
	})
	if err != nil {
		return postgres.CRL{}, fmt.Errorf("have list %d of %s signed: %w", number, issuerID, err)
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil || list.Number == nil || list.Number.Int64() != number {
		return postgres.CRL{}, fault.New(fault.Internal, "the issuer %s did not sign the list that it was sent", issuerID)
	}
	c.DER = der
	return c, l.Store.SaveCRL(ctx, c)
}
