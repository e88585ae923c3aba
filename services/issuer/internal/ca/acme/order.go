package acme

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"slices"
	"time"

	protocol "github.com/go-acme/lego/v4/acme"
	"github.com/go-acme/lego/v4/acme/api"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca"
)

const (
	// DefaultSettle is how long a CA is waited for that works on an order.
	DefaultSettle = 20 * time.Second
	// pendingPause is when to ask again after that, if the CA does not say.
	pendingPause = 15 * time.Second
)

// kept is what it takes to go on with an order: where it is, whose, and the hash of the request that it was placed for.
type kept struct {
	URL     string `json:"url"`
	Account string `json:"account"`
	CSR     string `json:"csr_sha256"`
}

// order has a certificate made (RFC 8555 section 7.4) and returns its chain in PEM. An order that was kept is gone on
// with from wherever it stands, so that no attempt, however it ends, makes a second certificate.
func (a *Authority) order(ctx context.Context, s *session, r ca.Request) ([]byte, error) {
	o, err := a.begun(ctx, s, r)
	if err != nil {
		return nil, err
	}
	if o.Status == protocol.StatusPending {
		if err := a.prove(ctx, s, o.Authorizations, r.AgentID); err != nil {
			return nil, err
		}
		if o, err = a.await(ctx, s, o.Location, protocol.StatusPending); err != nil {
			return nil, err
		}
	}
	if o.Status == protocol.StatusReady {
		// That it is not ready any more is because it has been finalized already; then the answer was lost.
		if _, err := s.core.Orders.UpdateForCSR(o.Finalize, r.CSR.Raw); err != nil && !is(err, orderNotReady) {
			return nil, err
		}
	}
	if o.Status != protocol.StatusValid {
		if o, err = a.await(ctx, s, o.Location, protocol.StatusReady, protocol.StatusProcessing); err != nil {
			return nil, err
		}
	}
	if o.Status != protocol.StatusValid || o.Certificate == "" {
		return nil, fault.New(fault.Unavailable, "the ACME CA has no certificate for an order that it calls %s", o.Status)
	}
	return a.chain(s, o.Certificate)
}

// begun returns the order that was kept, if it is of use, else a new one, which is kept first of all.
func (a *Authority) begun(ctx context.Context, s *session, r ca.Request) (protocol.ExtendedOrder, error) {
	what := kept{Account: s.account, CSR: x509x.Fingerprint(r.CSR.Raw)}
	var before kept
	if json.Unmarshal(r.Order, &before) == nil && before.Account == what.Account && before.CSR == what.CSR {
		o, err := s.core.Orders.Get(before.URL)
		o.Location = before.URL
		if err == nil && usable(&o, a.deps.Clock.Now()) || err != nil && !s.lost(err) {
			return o, err
		}
	}
	o, err := a.placed(s, r)
	if err != nil {
		return o, err
	}
	what.URL = o.Location
	text, err := json.Marshal(what)
	if err != nil {
		return o, err
	}
	return o, r.Kept(ctx, text)
}

// usable tells whether there is anything to be had from an order. One that is finalized does not expire.
func usable(o *protocol.ExtendedOrder, now time.Time) bool {
	switch o.Status {
	case protocol.StatusProcessing, protocol.StatusValid:
		return true
	case protocol.StatusPending, protocol.StatusReady:
		ends, err := time.Parse(time.RFC3339, o.Expires)
		return err != nil || now.Before(ends)
	}
	return false
}

// lost tells whether the CA, asked for an order, does not know it any more, or not as this account's. Some say so by the
// status alone.
func (s *session) lost(err error) bool {
	switch s.wire.status.Load() {
	case http.StatusNotFound, http.StatusGone, http.StatusForbidden, http.StatusUnauthorized:
		return !is(err, accountDoesNotExist)
	}
	return false
}

// placed places an order. That it replaces a certificate is a courtesy, and saves the limits of some CAs: one that takes
// it badly, because it does not know the certificate or thinks it another account's, is asked again without.
func (a *Authority) placed(s *session, r ca.Request) (protocol.ExtendedOrder, error) {
	options := &api.OrderOptions{Profile: a.config.Profile}
	if leaf, err := x509.ParseCertificate(r.Replaces); err == nil {
		options.ReplacesCertID = renewalID(leaf)
	}
	order, err := s.core.Orders.NewWithOptions(r.Names.Values(), options)
	if options.ReplacesCertID != "" && problem(err) != nil && !is(err, rateLimited) && !is(err, accountDoesNotExist) {
		options.ReplacesCertID = ""
		return s.core.Orders.NewWithOptions(r.Names.Values(), options)
	}
	return order, err
}

// await looks at an order until it has left some states. If the CA leaves it there for long, the error is a *ca.Pending;
// if it has given it up, the error says why.
func (a *Authority) await(ctx context.Context, s *session, location string, states ...string) (o protocol.ExtendedOrder, err error) {
	bounded, cancel := context.WithTimeout(ctx, a.config.Settle)
	defer cancel()
	err = s.until(bounded, func() (bool, error) {
		if o, err = s.core.Orders.Get(location); err != nil {
			return false, err
		}
		o.Location = location
		if o.Status != protocol.StatusInvalid {
			return !slices.Contains(states, o.Status), nil
		}
		if err := o.Err(); err != nil {
			return false, err
		}
		return false, fault.New(fault.Unavailable, "the ACME CA has given the order up and does not say why")
	})
	if bounded.Err() != nil && ctx.Err() == nil && slices.Contains(states, o.Status) {
		again := min(s.wire.asked(), latest)
		if again <= 0 {
			again = pendingPause
		}
		return o, &ca.Pending{Says: "its order is " + o.Status, Again: again}
	}
	return o, err
}

// chain fetches what was issued, by the chain that is preferred if the CA offers several.
func (a *Authority) chain(s *session, location string) ([]byte, error) {
	if a.config.PreferredChain == "" {
		chain, _, err := s.core.Certificates.Get(location, true)
		return chain, err
	}
	offered, err := s.core.Certificates.GetAll(location, true)
	if err != nil {
		return nil, err
	}
	for _, one := range offered {
		certs, err := x509x.ParseCertificates(one.Cert)
		if err == nil && certs[len(certs)-1].Issuer.CommonName == a.config.PreferredChain {
			return one.Cert, nil
		}
	}
	return offered[location].Cert, nil
}
