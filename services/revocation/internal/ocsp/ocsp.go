// Package ocsp answers for the status of certificates (RFC 6960), signed by a delegated
// responder: a short-lived certificate that the issuer gives to a key that this process
// made and never stores (section 4.2.2.2).
//
// An answer is "good" only for a serial number that the issuer is known to have issued,
// and "unknown" for any other.
package ocsp

import (
	"context"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"math/big"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/revocation/internal/fresh"
	"github.com/certctl/certctl/services/revocation/internal/postgres"
)

// life is how long an answer may be relied on.
const life = time.Hour

// Delegator has a responder's certificate made by an issuer.
type Delegator interface {
	IssueOCSPResponder(ctx context.Context, c command.IssueOCSPResponder) (chainPEM string, err error)
}

// Responder answers. It is safe for concurrent use.
type Responder struct {
	store     postgres.Store
	delegator Delegator
	clock     clock.Clock
	keeper    *fresh.Keeper[ca, identity]
}

// ca is an authority as it is now. The right to answer in its name is of no use once its
// certificate is another.
type ca = postgres.Authority

// identity is the right to answer for one authority.
type identity struct {
	key         crypto.Signer
	certificate *x509.Certificate
	issuer      *x509.Certificate
}

// Answer is a response in DER.
type Answer struct {
	DER []byte
	// Keep is for how long it may be kept. What is unknown now may be issued in a moment,
	// and what is wrong with a request says nothing to anybody else: those are not kept.
	Keep time.Duration
}

// New returns a responder for the serial numbers in store.
func New(store postgres.Store, delegator Delegator, c clock.Clock) *Responder {
	r := &Responder{store: store, delegator: delegator, clock: c}
	r.keeper = &fresh.Keeper[ca, identity]{Clock: c, Make: r.delegate}
	return r
}

// Wait returns when no certificate is being asked for.
func (r *Responder) Wait() { r.keeper.Wait() }

// Answer responds to a request of RFC 6960 section 4.1.
func (r *Responder) Answer(ctx context.Context, a postgres.Authority, request []byte) (Answer, error) {
	asked, err := ocsp.ParseRequest(request)
	if err != nil {
		return Answer{DER: ocsp.MalformedRequestErrorResponse}, nil //nolint:nilerr // the protocol has an answer for it
	}
	id, err := r.keeper.Get(ctx, a)
	if err != nil {
		return Answer{}, err
	}
	if !names(asked, id.issuer) {
		return Answer{DER: ocsp.UnauthorizedErrorResponse}, nil
	}
	return r.respond(ctx, a, id, asked.SerialNumber, asked.HashAlgorithm)
}

// AnswerSerial responds for a serial number alone.
func (r *Responder) AnswerSerial(ctx context.Context, a postgres.Authority, serial *big.Int) (Answer, error) {
	id, err := r.keeper.Get(ctx, a)
	if err != nil {
		return Answer{}, err
	}
	return r.respond(ctx, a, id, serial, crypto.SHA1)
}

// respond names the issuer by the hash that the request named it by: clients look for the
// very certificate id that they have sent.
func (r *Responder) respond(ctx context.Context, a ca, id identity, serial *big.Int, hash crypto.Hash) (Answer, error) {
	issued, err := r.store.Issued(ctx, a, hex.EncodeToString(id.issuer.SubjectKeyId), x509x.SerialHex(serial))
	if err != nil {
		return Answer{}, err
	}
	now := r.clock.Now().UTC().Truncate(time.Second)
	end := now.Add(life)
	if id.certificate.NotAfter.Before(end) {
		end = id.certificate.NotAfter
	}
	template := ocsp.Response{
		Status: ocsp.Unknown, SerialNumber: serial, Certificate: id.certificate, IssuerHash: hash,
		ThisUpdate: now, NextUpdate: end,
	}
	var keep time.Duration
	if issued {
		template.Status, keep = ocsp.Good, end.Sub(now)/2
	}
	der, err := ocsp.CreateResponse(id.issuer, id.certificate, template, id.key)
	if err != nil {
		return Answer{}, fmt.Errorf("sign an OCSP response: %w", err)
	}
	return Answer{DER: der, Keep: keep}, nil
}

// names tells whether the request is about certificates of this issuer.
func names(asked *ocsp.Request, issuer *x509.Certificate) bool {
	if !asked.HashAlgorithm.Available() {
		return false
	}
	var spki struct {
		Algorithm pkix.AlgorithmIdentifier
		PublicKey asn1.BitString
	}
	if _, err := asn1.Unmarshal(issuer.RawSubjectPublicKeyInfo, &spki); err != nil {
		return false
	}
	sum := func(b []byte) string {
		h := asked.HashAlgorithm.New()
		h.Write(b)
		return string(h.Sum(nil))
	}
	return string(asked.IssuerNameHash) == sum(issuer.RawSubject) &&
		string(asked.IssuerKeyHash) == sum(spki.PublicKey.RightAlign())
}
