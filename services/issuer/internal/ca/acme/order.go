package acme

import (
	"context"
	"crypto/x509"
	"slices"

	protocol "github.com/go-acme/lego/v4/acme"
	"github.com/go-acme/lego/v4/acme/api"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca"
)

// order has a certificate made (RFC 8555 section 7.4) and returns its chain in PEM.
func (a *Authority) order(ctx context.Context, s *session, r ca.Request) ([]byte, error) {
	order, err := a.placed(s, r)
	if err != nil {
		return nil, err
	}
	if err := a.prove(ctx, s, order.Authorizations); err != nil {
		return nil, err
	}
	err = s.until(ctx, func() (bool, error) { return s.orderIs(order.Location, protocol.StatusReady, protocol.StatusValid) })
	if err != nil {
		return nil, err
	}
	if _, err := s.core.Orders.UpdateForCSR(order.Finalize, r.CSR.Raw); err != nil {
		return nil, err
	}
	err = s.until(ctx, func() (bool, error) { return s.orderIs(order.Location, protocol.StatusValid) })
	if err != nil {
		return nil, err
	}
	done, err := s.core.Orders.Get(order.Location)
	if err != nil {
		return nil, err
	}
	return a.chain(s, done.Certificate)
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

// orderIs tells whether an order has come to one of some states. Its error is why it never will.
func (s *session) orderIs(location string, states ...string) (bool, error) {
	order, err := s.core.Orders.Get(location)
	if err != nil {
		return false, err
	}
	if order.Status == protocol.StatusInvalid {
		if err := order.Err(); err != nil {
			return false, err
		}
		return false, fault.New(fault.Unavailable, "the ACME CA has given the order up and does not say why")
	}
	return slices.Contains(states, order.Status), nil
}

// prove proves that the names of an order are ours, all at once.
func (a *Authority) prove(ctx context.Context, s *session, authorizations []string) error {
	var proofs []Proof
	var open []protocol.Challenge
	var pending []string
	for _, location := range authorizations {
		authorization, err := s.core.Authorizations.Get(location)
		if err != nil {
			return err
		}
		if authorization.Status == protocol.StatusValid {
			continue
		}
		i := slices.IndexFunc(authorization.Challenges, func(c protocol.Challenge) bool { return c.Type == a.config.Solver.Type() })
		if i < 0 {
			return fault.New(fault.Invalid, "the ACME CA takes no %s for %s", a.config.Solver.Type(), authorization.Identifier.Value)
		}
		answer, err := s.core.GetKeyAuthorization(authorization.Challenges[i].Token)
		if err != nil {
			return err
		}
		proofs = append(proofs, Proof{Domain: authorization.Identifier.Value, Token: authorization.Challenges[i].Token, Answer: answer})
		open = append(open, authorization.Challenges[i])
		pending = append(pending, location)
	}
	if len(proofs) == 0 {
		return nil
	}
	withdraw, err := a.config.Solver.Present(ctx, proofs)
	if err != nil {
		return err
	}
	defer withdraw()
	for _, c := range open {
		if _, err := s.core.Challenges.New(c.URL); err != nil {
			return err
		}
	}
	for _, location := range pending {
		if err := s.until(ctx, func() (bool, error) { return s.authorized(location) }); err != nil {
			return err
		}
	}
	return nil
}

// authorized tells whether the CA believes that a name is ours. Its error is why it never will.
func (s *session) authorized(location string) (bool, error) {
	authorization, err := s.core.Authorizations.Get(location)
	if err != nil {
		return false, err
	}
	switch authorization.Status {
	case protocol.StatusValid:
		return true, nil
	case protocol.StatusPending, protocol.StatusProcessing:
		return false, nil
	}
	name := authorization.Identifier.Value
	for _, c := range authorization.Challenges {
		if c.Error != nil {
			told := *c.Error
			told.Detail = name + ": " + told.Detail
			return false, &told
		}
	}
	return false, fault.New(fault.Unavailable, "the ACME CA does not believe that %s is ours: its authorization is %s", name, authorization.Status)
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
