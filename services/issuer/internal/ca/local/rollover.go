package local

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca"
	"github.com/certctl/certctl/services/issuer/internal/registry"
)

// readSuccession reads what the next key of a CA is to be.
func readSuccession(r registry.Succession) (Successor, error) {
	s := Successor{CommonName: strings.TrimSpace(r.CommonName), Days: r.Days, CrossSign: r.CrossSign}
	var bad []fault.Field
	if s.CommonName != "" {
		var c checks
		checkName(&c, settingName, s.CommonName)
		for _, f := range c {
			bad = append(bad, fault.Field{Name: strings.TrimPrefix(f.Name, "config."), Reason: f.Reason})
		}
	}
	if r.KeyAlgorithm != "" {
		var ok bool
		if s.Algorithm, ok = algorithmNamed(r.KeyAlgorithm); !ok {
			bad = append(bad, fault.Field{Name: settingAlgorithm, Reason: "must be one of " + strings.Join(Algorithms, ", ")})
		}
	}
	if s.Days < 0 || s.Days > maxDays {
		bad = append(bad, fault.Field{Name: settingCADays, Reason: "must be a whole number of days from 1"})
	}
	if len(bad) > 0 {
		return s, fault.InvalidFields(bad...)
	}
	return s, nil
}

// mayRoll refuses to change the key of a CA that is not made here.
func (k *Kind) mayRoll(i registry.Issuer) error {
	if i.ID == k.Default && k.Files.CertPath != "" {
		return fault.New(fault.Conflict, "the CA of %s is read from files; put others in their place (CERTCTL_CA_CERT_PATH, CERTCTL_CA_KEY_PATH)", i.ID)
	}
	if k.Sealer == nil && i.Config[settingStore] != storeToken {
		return fault.New(fault.Unavailable, "%s", errNoSealer)
	}
	return nil
}

// Succeed implements [registry.Roller].
func (k *Kind) Succeed(ctx context.Context, i registry.Issuer, parent *registry.Issuer, r registry.Succession) (ca.Key, error) {
	s, err := readSuccession(r)
	if err != nil {
		return ca.Key{}, err
	}
	if err := k.mayFollow(i, &s); err != nil {
		return ca.Key{}, err
	}
	was, err := k.certificate(ctx, i.ID)
	if err != nil {
		return ca.Key{}, err
	}
	if s.Days == 0 {
		s.Days = rootDays
		if days, ok := i.Config[settingCADays].(float64); ok && days >= 1 {
			s.Days = int(days)
		}
	}
	if parent != nil {
		return k.succeedBelow(ctx, was, *parent, i.ID, s)
	}
	if !selfSigned(was) {
		return ca.Key{}, fault.New(fault.Conflict,
			"the certificate of %s comes from outside; make a request for the next one (ca-request), have it signed, and hand in the certificate (ca-certificate)", i.ID)
	}
	if !s.CrossSign {
		return Follow(i.ID, was, s, k.Sealer, k.Clock.Now())
	}
	if !k.Clock.Now().Before(was.NotAfter) {
		return ca.Key{}, fault.InvalidFields(fault.Field{
			Name: "cross_sign", Reason: fmt.Sprintf("the root %s ended on %s, and its signature is worth nothing; leave this out", was.Subject, was.NotAfter.UTC().Format(time.DateOnly)),
		})
	}
	a, _, err := k.open(ctx, i)
	if err != nil {
		return ca.Key{}, err
	}
	return a.Succeed(i.ID, s, k.Sealer)
}

// certificate is that of an issuer's key in use, also if it has ended.
func (k *Kind) certificate(ctx context.Context, issuerID string) (*x509.Certificate, error) {
	key, err := k.Keys.ActiveKey(ctx, issuerID)
	if err != nil {
		return nil, err
	}
	if key == nil {
		return nil, fault.New(fault.Conflict, "issuer %s has no key in use that another could follow", issuerID)
	}
	chain, err := x509x.ParseCertificates([]byte(key.ChainPEM))
	if err != nil {
		return nil, fmt.Errorf("read the certificate of CA key %s: %w", key.ID, err)
	}
	return chain[0], nil
}

func (k *Kind) succeedBelow(ctx context.Context, was *x509.Certificate, parent registry.Issuer, issuerID string, s Successor) (ca.Key, error) {
	if s.CrossSign {
		return ca.Key{}, fault.InvalidFields(fault.Field{
			Name: "cross_sign", Reason: "is of use only to a root: whoever trusts " + parent.ID + " verifies the new key of a CA below it",
		})
	}
	above, _, err := k.open(ctx, parent)
	if err != nil {
		return ca.Key{}, err
	}
	next, err := above.Below(issuerID, s.after(was), k.Sealer)
	next.Place = next.ID
	return next, err
}

// Request implements [registry.Roller].
func (k *Kind) Request(ctx context.Context, i registry.Issuer, keys []ca.Key, r registry.Succession) (ca.Key, error) {
	s, err := readSuccession(r)
	if err != nil {
		return ca.Key{}, err
	}
	if err := k.mayFollow(i, &s); err != nil {
		return ca.Key{}, err
	}
	first := !slices.ContainsFunc(keys, func(k ca.Key) bool { return !k.Pending() })
	d, err := k.described(ctx, i, first, s)
	if err != nil {
		return ca.Key{}, err
	}
	if s.CommonName != "" {
		d.Subject.CommonName = s.CommonName
	}
	if s.Algorithm != "" {
		d.Algorithm = s.Algorithm
	}
	made, err := MakeRequest(i.ID, d, k.Sealer, k.Clock.Now())
	if !first {
		made.Place = made.ID
	}
	return made, err
}

// described is what the next key of a CA is to be whose certificate is signed elsewhere: as it was set up if it is the
// first, else as the one before.
func (k *Kind) described(ctx context.Context, i registry.Issuer, first bool, s Successor) (Description, error) {
	if first {
		given, err := readSettings(i.Config)
		if err != nil {
			return Description{}, err
		}
		return k.describe(&given, i)
	}
	was, err := k.certificate(ctx, i.ID)
	if err != nil {
		return Description{}, err
	}
	return s.after(was), nil
}

// Complete implements [registry.Roller].
func (k *Kind) Complete(_ context.Context, _ registry.Issuer, pending ca.Key, certPEM string) (ca.Key, error) {
	return Complete(pending, certPEM, k.Clock.Now())
}

// Usable implements [registry.Roller].
func (k *Kind) Usable(ctx context.Context, i registry.Issuer, key ca.Key) (signsCRL bool, err error) {
	if err := k.mayRoll(i); err != nil {
		return false, err
	}
	if key.Pending() {
		return false, errors.New("a key without a certificate cannot be used")
	}
	a, err := k.openKey(ctx, &key)
	if err != nil {
		return false, fault.Wrap(err, fault.Conflict, "%s", fault.From(err).Message)
	}
	return a.SignsCRLs(), nil
}
