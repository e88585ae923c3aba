// Package ca is the seam to certification authorities: the little that each of them can do, and what only some can.
//
// An Issuer issues, and says by which certificates its issue is recognised. What only some CAs can do is an interface
// of its own, asked for with a type assertion: InProcess, Drafter, Revoker, CRLSigner, Keyed, OCSPResponderIssuer,
// RenewalAdviser. Each CA has a folder below; the suite in catest runs against every one of them.
//
// Errors are coded (libs/fault): Invalid means that this request can never be signed, Unavailable and RateLimited that
// it may be later. An Issuer never judges whether a name may be had, nor compares the request with a record: that was
// done before it is asked.
package ca

import (
	"context"
	"crypto/x509"
	"math/big"
	"time"

	"github.com/certctl/certctl/libs/x509x"
)

// Request asks for a certificate.
type Request struct {
	// CSR has been verified: it is signed by its own key, which is strong enough. Only its key is used.
	CSR *x509.CertificateRequest
	// CommonName becomes the subject if it is short enough to be one.
	CommonName string
	// Names are the subject's alternative names: host names, addresses, and URIs for a CA that issues for those.
	Names x509x.Names
	// Lifetime is the most that it may hold, from now; zero leaves it to the CA, which may grant less in any case.
	Lifetime time.Duration
	// Usages are the extended key usages, exactly; nil is the CA's default.
	Usages []x509.ExtKeyUsage
	// Replaces is the certificate, in DER, whose place this one is to take; nil if it takes none's.
	Replaces []byte
	// AgentID is the agent on the host where the certificate is to be used first, which may prove its names there; empty if
	// there is none.
	AgentID string
	// Order is what Keep was last told in an earlier attempt of the same job with the same issuer and the same CSR: the CA
	// is to go on with that order and place another only if that one is of no use any more. Nil if there is none.
	Order []byte
	// Keep stores what it takes to go on with an order after a crash, each time that is new; an order that has been placed
	// is told before anything else is done about it. Its error ends the attempt. Nil if nobody keeps it.
	Keep func(ctx context.Context, order []byte) error
	// ShortLived asks for a certificate that will not be revoked, so that it needs not say where to ask whether it was.
	ShortLived bool
}

// Within returns the request with a lifetime of at most d; zero is no bound.
func (r Request) Within(d time.Duration) Request {
	if d > 0 && (r.Lifetime == 0 || r.Lifetime > d) {
		r.Lifetime = d
	}
	return r
}

// Kept has an order kept, if somebody does.
func (r Request) Kept(ctx context.Context, order []byte) error {
	if r.Keep == nil {
		return nil
	}
	return r.Keep(ctx, order)
}

// Pending is the error of an order that the CA has taken and not decided yet. It is no failure: the request is put again,
// with its Order.
type Pending struct {
	// Says is what the CA waits for, in words for people.
	Says string
	// Again is when to ask again, from now; zero leaves it to the caller.
	Again time.Duration
}

func (p *Pending) Error() string { return "the CA has not decided yet: " + p.Says }

// Unproven is the error of names that the CA does not believe are the requester's. It is an answer: the CA is well, and
// others may get what they ask for.
type Unproven struct{ Err error }

func (u *Unproven) Error() string { return u.Err.Error() }

// Unwrap returns what it is about.
func (u *Unproven) Unwrap() error { return u.Err }

// Issued is a certificate as it was issued.
type Issued struct {
	// DER is the leaf.
	DER                 []byte
	Serial              *big.Int
	NotBefore, NotAfter time.Time
	// ChainPEM holds the leaf, then its issuers, without the root.
	ChainPEM []byte
	// AuthorityKeyID is the leaf's (RFC 5280 section 4.2.1.1), empty if it has none.
	AuthorityKeyID []byte
	// EndsWithCA tells that it would hold longer if the CA's own certificate did.
	EndsWithCA bool
	// KeyID is which of its keys the CA signed with, empty for the first of an issuer and for a CA elsewhere.
	KeyID string
}

// Issuer issues certificates. It is safe for concurrent use.
type Issuer interface {
	// Issue returns a certificate for the key of a request. Its error is a *Pending if the CA takes its time.
	Issue(ctx context.Context, r Request) (Issued, error)
	// Chain returns the issuing CA's certificate and those above it, root last.
	Chain() []*x509.Certificate
}

// InProcess is an Issuer that asks nobody: it signs with a key at hand, in less than a millisecond. Any other may take
// minutes, or be away.
type InProcess interface {
	InProcess()
}

// Drafter is an Issuer that shows a certificate before its key signs it, so that one that is not to be is never signed.
type Drafter interface {
	// Draft returns what Issue would issue for a request, as a draft. Its errors are those of Issue.
	Draft(ctx context.Context, r Request) (Draft, error)
}

// Draft is a certificate as it is going to be issued, signed by a key that nobody trusts instead of the CA's.
type Draft struct {
	// DER is the whole of it. What its signature covers is to the byte what will be issued.
	DER []byte
	// Sign issues it, once at the most. A draft that is not signed leaves no trace.
	Sign func(ctx context.Context) (Issued, error)
}

// Revocation asks a CA to withdraw its trust in a certificate.
type Revocation struct {
	Serial *big.Int
	// Leaf is the certificate in DER.
	Leaf []byte
	// Reason is a CRLReason of RFC 5280 section 5.3.1.
	Reason int
}

// Revoker is an Issuer that is told of revocations because it publishes them itself.
type Revoker interface {
	// Revoke returns nil also if the certificate is revoked already.
	Revoke(ctx context.Context, r Revocation) error
}

// Revoked is one entry of a revocation list.
type Revoked struct {
	Serial *big.Int
	At     time.Time
	// Reason is a CRLReason of RFC 5280 section 5.3.1; zero, unspecified, is left out of the list as the RFC asks.
	Reason int
}

// RevocationList is what a CRL is to say.
type RevocationList struct {
	Number                 *big.Int
	ThisUpdate, NextUpdate time.Time
	Entries                []Revoked
}

// CRLSigner is an Issuer that signs revocation lists when asked.
type CRLSigner interface {
	// SignsCRLs reports whether its certificate allows it to.
	SignsCRLs() bool
	// SignCRL returns the list in DER.
	SignCRL(ctx context.Context, l RevocationList) ([]byte, error)
}

// Keyed is an Issuer whose key has been changed, or may be. What an earlier key issued is revoked and checked in the name of
// that key.
type Keyed interface {
	// WithKey returns the CA as it was with a key of an id, NotFound if it has none of that id, Unavailable if that key cannot
	// be used.
	WithKey(keyID string) (Issuer, error)
}

// OCSPResponderIssuer is an Issuer that lets another key answer OCSP in its name (RFC 6960 section 4.2.2.2).
type OCSPResponderIssuer interface {
	// IssueOCSPResponder returns a short-lived certificate for the key of a verified request.
	IssueOCSPResponder(ctx context.Context, csr *x509.CertificateRequest) (Issued, error)
}

// AccountKeyRotator is an Issuer that its CA knows by a key.
type AccountKeyRotator interface {
	// RotateAccountKey replaces the key by a new one. It can be called again if it was cut short, and replicas that still
	// have the old key find out.
	RotateAccountKey(ctx context.Context) error
}

// RenewalAdvice is when a CA wants a certificate to be renewed.
type RenewalAdvice struct {
	// Start and End bound the time at which to renew; one that lies in the past asks for it at once.
	Start, End time.Time
	// Explanation is a page that says why, if the CA names one.
	Explanation string
	// Again is when to ask again.
	Again time.Duration
}

// RenewalAdviser is an Issuer that says when its certificates are to be renewed (RFC 9773).
type RenewalAdviser interface {
	// RenewalAdvice is NotFound if the CA has nothing to say about a certificate in DER.
	RenewalAdvice(ctx context.Context, leaf []byte) (RenewalAdvice, error)
}
