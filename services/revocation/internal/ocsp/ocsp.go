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
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
	"sync"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/x509x"
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
	Store     postgres.Store
	Delegator Delegator
	Clock     clock.Clock

	mu         sync.Mutex
	identities map[string]*identity // by issuer, under mu
}

// identity is the right to answer for one issuer.
type identity struct {
	key         crypto.Signer
	certificate *x509.Certificate
	issuer      *x509.Certificate
}

// Answer responds to a request of RFC 6960 section 4.1.
func (r *Responder) Answer(ctx context.Context, issuerID string, request []byte) ([]byte, error) {
	asked, err := ocsp.ParseRequest(request)
	if err != nil {
		return ocsp.MalformedRequestErrorResponse, nil //nolint:nilerr // the protocol has an answer for it
	}
	id, err := r.identity(ctx, issuerID)
	if err != nil {
		return nil, err
	}
	if !names(asked, id.issuer) {
		return ocsp.UnauthorizedErrorResponse, nil
	}
	return r.respond(ctx, issuerID, id, asked.SerialNumber)
}

// AnswerSerial responds for a serial number alone.
func (r *Responder) AnswerSerial(ctx context.Context, issuerID string, serial *big.Int) ([]byte, error) {
	id, err := r.identity(ctx, issuerID)
	if err != nil {
		return nil, err
	}
	return r.respond(ctx, issuerID, id, serial)
}

func (r *Responder) respond(ctx context.Context, issuerID string, id *identity, serial *big.Int) ([]byte, error) {
	issued, err := r.Store.Issued(ctx, issuerID, x509x.SerialHex(serial))
	if err != nil {
		return nil, err
	}
	now := r.Clock.Now().UTC().Truncate(time.Second)
	answer := ocsp.Response{
		Status: ocsp.Unknown, SerialNumber: serial, Certificate: id.certificate,
		ThisUpdate: now, NextUpdate: now.Add(life),
	}
	if issued {
		answer.Status = ocsp.Good
	}
	der, err := ocsp.CreateResponse(id.issuer, id.certificate, answer, id.key)
	if err != nil {
		return nil, fmt.Errorf("sign an OCSP response: %w", err)
	}
	return der, nil
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

// identity returns the right to answer for an issuer, renewed when half of it is over.
func (r *Responder) identity(ctx context.Context, issuerID string) (*identity, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.Clock.Now()
	if id := r.identities[issuerID]; id != nil {
		half := id.certificate.NotBefore.Add(id.certificate.NotAfter.Sub(id.certificate.NotBefore) / 2)
		if now.Before(half) {
			return id, nil
		}
	}
	id, err := r.delegate(ctx, issuerID)
	if err != nil {
		if old := r.identities[issuerID]; old != nil && now.Before(old.certificate.NotAfter) {
			return old, nil
		}
		return nil, err
	}
	if r.identities == nil {
		r.identities = map[string]*identity{}
	}
	r.identities[issuerID] = id
	return id, nil
}

func (r *Responder) delegate(ctx context.Context, issuerID string) (*identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the responder's key: %w", err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "certctl OCSP responder"},
	}, key)
	if err != nil {
		return nil, fmt.Errorf("make the responder's request: %w", err)
	}
	chain, err := r.Delegator.IssueOCSPResponder(ctx, command.IssueOCSPResponder{
		IssuerID: issuerID,
		CSRPEM:   string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr})),
	})
	if err != nil {
		return nil, fmt.Errorf("have a responder of %s certified: %w", issuerID, err)
	}
	certificates, err := x509x.ParseCertificates([]byte(chain))
	if err != nil || len(certificates) < 2 {
		return nil, fault.New(fault.Internal, "the issuer %s gave no certificate to its responder", issuerID)
	}
	return &identity{key: key, certificate: certificates[0], issuer: certificates[1]}, nil
}
