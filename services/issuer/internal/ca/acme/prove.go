package acme

import (
	"context"
	"slices"

	protocol "github.com/go-acme/lego/v4/acme"
	"golang.org/x/sync/errgroup"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/ca"
)

// atOnce bounds how many names of an order are seen to side by side.
const atOnce = 8

// claim is a name that is not proven yet.
type claim struct {
	authorization string
	challenge     protocol.Challenge
	proof         Proof
}

// prove proves that the names of an order are ours, side by side. What an earlier attempt has proven is left as it is,
// and what it has had the CA look at is shown for as long as the CA looks.
func (a *Authority) prove(ctx context.Context, s *session, authorizations []string, agentID string) error {
	found := make([]*claim, len(authorizations))
	err := sideBySide(ctx, len(found), func(_ context.Context, i int) (err error) {
		found[i], err = a.claim(s, authorizations[i], agentID)
		return err
	})
	if err != nil {
		return err
	}
	var claims []*claim
	var proofs []Proof
	for _, c := range found {
		if c != nil {
			claims, proofs = append(claims, c), append(proofs, c.proof)
		}
	}
	if len(claims) == 0 {
		return nil
	}
	withdraw, err := a.config.Solver.Present(ctx, proofs)
	if err != nil && ctx.Err() == nil {
		// Whatever it is, it is not the CA's doing.
		return &ca.Unproven{Err: coded(err)}
	}
	if err != nil {
		return err
	}
	defer withdraw()
	return sideBySide(ctx, len(claims), func(ctx context.Context, i int) error {
		if claims[i].challenge.Status == protocol.StatusPending {
			if err := s.look(claims[i].proof.Domain, claims[i].challenge); err != nil {
				return err
			}
		}
		return s.until(ctx, func() (bool, error) { return s.authorized(claims[i].authorization) })
	})
}

// look has the CA look. If the connection was lost it may be looking already, and would find nothing if the proof were
// withdrawn; so it is told once more, and what it makes of that shows in the authorization. Some CAs look before they
// answer, and leave a challenge pending whose proof they have not found until they are told to look again.
func (s *session) look(name string, challenge protocol.Challenge) error {
	seen, err := s.core.Challenges.New(challenge.URL)
	if lost := err; err != nil && problem(err) == nil {
		if seen, err = s.core.Challenges.New(challenge.URL); err != nil {
			if problem(err) == nil {
				return lost
			}
			return nil
		}
	}
	if err == nil && seen.Status == protocol.StatusPending && seen.Error != nil {
		return disbelieved(name, seen.Error)
	}
	return err
}

// disbelieved is the error of a name that the CA does not believe to be ours.
func disbelieved(name string, said *protocol.ProblemDetails) error {
	told := *said
	told.Detail = name + ": " + told.Detail
	return &ca.Unproven{Err: coded(&told)}
}

func sideBySide(ctx context.Context, n int, do func(ctx context.Context, i int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for i := range n {
		g.Go(func() error { return do(ctx, i) })
	}
	return g.Wait()
}

// claim is what is to be proven of a name, nil if it is proven.
func (a *Authority) claim(s *session, location, agentID string) (*claim, error) {
	authorization, err := s.core.Authorizations.Get(location)
	if err != nil {
		return nil, err
	}
	if proven, err := believed(&authorization); proven || err != nil {
		return nil, err
	}
	kind, name := a.config.Solver.Type(), authorization.Identifier.Value
	i := slices.IndexFunc(authorization.Challenges, func(c protocol.Challenge) bool { return c.Type == kind })
	if i < 0 {
		return nil, fault.New(fault.Invalid, "the ACME CA takes no %s for %s", kind, name)
	}
	c := claim{authorization: location, challenge: authorization.Challenges[i]}
	c.proof = Proof{Domain: name, Token: c.challenge.Token, AgentID: agentID}
	c.proof.Answer, err = s.core.GetKeyAuthorization(c.challenge.Token)
	return &c, err
}

// authorized tells whether the CA believes that a name is ours. Its error is why it never will.
func (s *session) authorized(location string) (bool, error) {
	authorization, err := s.core.Authorizations.Get(location)
	if err != nil {
		return false, err
	}
	return believed(&authorization)
}

// believed is authorized of an authorization that is at hand.
func believed(authorization *protocol.Authorization) (bool, error) {
	switch authorization.Status {
	case protocol.StatusValid:
		return true, nil
	case protocol.StatusPending, protocol.StatusProcessing:
		return false, nil
	}
	name := authorization.Identifier.Value
	for _, c := range authorization.Challenges {
		if c.Error != nil {
			return false, disbelieved(name, c.Error)
		}
	}
	return false, &ca.Unproven{Err: fault.New(
		fault.Unavailable, "the ACME CA does not believe that %s is ours: its authorization is %s", name, authorization.Status,
	)}
}
