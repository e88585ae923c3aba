// Package acme issues certificates by any CA that speaks ACME (RFC 8555), public or one's own.
//
// Each issuer has one account at its CA's directory. The account's key is made here, sealed, and stored before the CA
// hears of it, so that replicas and restarts use the same account, and a registration that was cut short goes on with
// the same key. To configure such an issuer is to agree to the CA's terms.
//
// A request is sent to the CA as it is, for only its maker has its key: an ACME CA issues exactly for the names of the
// request. What else the certificate says (lifetime, key usages, subject) is the CA's to settle; an ACME profile is the
// way to ask for something else. What comes back is held against what was asked for.
//
// Of lego only the protocol is used: signatures, nonces, messages. Its challenge solvers keep state in the process and
// take no context.
package acme

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"sync/atomic"
	"time"

	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/secret"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca"
)

// DefaultTimeout is how long one certificate may take, from order to chain.
const DefaultTimeout = 5 * time.Minute

// Config says which CA, as whom, and how names are proven.
type Config struct {
	// IssuerID is whose account it is.
	IssuerID string
	// Directory is the CA's, such as https://acme-v02.api.letsencrypt.org/directory.
	Directory string
	// Email is told to the CA as the account's contact; empty is none.
	Email string
	// Solver proves that names are ours.
	Solver Solver
	// Foresight is how names are looked at before the CA is asked.
	Foresight Foresight
	// KeyID and MACKey, in base64url, bind a new account to one that the CA knows already (RFC 8555 section 7.3.4).
	KeyID, MACKey string
	// Profile is one of the CA's certificate profiles; empty is its default.
	Profile string
	// PreferredChain is the common name of the issuer of a chain's last certificate. The CA's default is taken if it offers none
	// like that.
	PreferredChain string
	// Roots are what the directory's TLS certificate must lead to; nil are those of the system.
	Roots *x509.CertPool
	// Chain is what was learned of the CA's chain before, issuing certificate first; nil if nothing was.
	Chain []*x509.Certificate
	// Timeout is for one certificate; zero is DefaultTimeout. Settle is how much of it the CA is waited for that works on an
	// order, before the caller is told to come again; zero is DefaultSettle.
	Timeout, Settle time.Duration
}

// Deps are what an Authority needs of its process.
type Deps struct {
	Accounts ca.AccountStore
	Sealer   *secret.Sealer
	Clock    clock.Clock
}

// Authority is an ACME CA. It is safe for concurrent use.
type Authority struct {
	config  Config
	deps    Deps
	key     atomic.Pointer[ecdsa.PrivateKey] // of account
	account atomic.Pointer[ca.Account]
	// registering is held while the account is made known to the CA.
	registering chan struct{}
	shown       atomic.Pointer[[]*x509.Certificate] // the chain that an answer has shown
}

// Open reaches the directory and registers the account if the CA does not know it yet. Its error says in words for an
// operator what is wrong.
func Open(ctx context.Context, cfg Config, deps Deps) (*Authority, error) {
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.Settle == 0 {
		cfg.Settle = DefaultSettle
	}
	a := &Authority{config: cfg, deps: deps, registering: make(chan struct{}, 1)}
	if cfg.Chain != nil {
		a.shown.Store(&cfg.Chain)
	}
	stored, err := a.stored(ctx)
	if err != nil {
		return nil, err
	}
	if err := a.adopt(stored); err != nil {
		return nil, err
	}
	// The account may be known for long; the directory is to be there now.
	s, err := a.connect(ctx)
	if err != nil {
		return nil, err
	}
	s.close()
	if err := a.register(ctx); err != nil {
		return nil, err
	}
	return a, nil
}

// Chain implements [ca.Issuer]. It is what the newest answer has shown, for ACME has no way to ask.
func (a *Authority) Chain() []*x509.Certificate {
	if shown := a.shown.Load(); shown != nil {
		return *shown
	}
	return nil
}

// Issue implements [ca.Issuer].
//
// The order is kept as soon as the CA has given it a place. When the time is up, what was presented for it is withdrawn,
// and the next attempt goes on with the order.
func (a *Authority) Issue(ctx context.Context, r ca.Request) (ca.Issued, error) {
	if err := a.check(r); err != nil {
		return ca.Issued{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, a.config.Timeout)
	defer cancel()
	var chain []byte
	err := a.as(ctx, func(s *session) (err error) {
		if err := a.foresee(ctx, s, r); err != nil {
			return err
		}
		chain, err = a.order(ctx, s, r)
		return a.explained(ctx, s, r.Names, err)
	})
	if err != nil {
		return ca.Issued{}, err
	}
	issued, err := ca.Accept(r, chain, nil, a.deps.Clock.Now())
	if err != nil {
		return ca.Issued{}, err
	}
	if certs, err := x509x.ParseCertificates(chain); err == nil && len(certs) > 1 {
		above := certs[1:]
		a.shown.Store(&above)
	}
	return issued, nil
}

// check refuses what no ACME CA could issue, before an order is spent on it.
func (a *Authority) check(r ca.Request) error {
	if !x509x.RequestNames(r.CSR).Equal(r.Names) {
		return fault.New(fault.Invalid, "an ACME CA issues for exactly the names of the request: it has %v, the record %v",
			x509x.RequestNames(r.CSR).Values(), r.Names.Values())
	}
	for _, name := range r.Names {
		if reason := a.config.Solver.Objection(name); reason != "" {
			return fault.New(fault.Invalid, "%s: %s", name.Value, reason)
		}
	}
	return a.noAgent(r.AgentID)
}

// as does something in a session of the account. If the CA does not know the account any more, it is registered again
// and the thing is done once more.
func (a *Authority) as(ctx context.Context, do func(*session) error) error {
	used := a.account.Load()
	once := func() error {
		if err := a.register(ctx); err != nil {
			return err
		}
		used = a.account.Load()
		s, err := a.connect(ctx)
		if err != nil {
			return err
		}
		defer s.close()
		err = do(s)
		if is(err, accountDoesNotExist) {
			a.forget(s.account)
		}
		return err
	}
	err := once()
	if is(err, accountDoesNotExist) || a.outdated(ctx, used, err) {
		err = once()
	}
	return coded(err)
}

// connect begins a session of the account.
func (a *Authority) connect(ctx context.Context) (*session, error) {
	return connect(ctx, a.config.Directory, a.config.Roots, a.account.Load().URL, a.key.Load())
}
