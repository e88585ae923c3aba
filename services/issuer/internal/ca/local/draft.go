package local

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/ca"
)

// standInBits is the size of an RSA key that stands in for one of any size.
const standInBits = 2048

// newStandIn makes a key that signs with the algorithms of another, and is small: how long a signature is, is no part of
// what it covers. It lives and dies in memory.
func newStandIn(of crypto.PublicKey) (key crypto.Signer, err error) {
	switch of.(type) {
	case *ecdsa.PublicKey:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case *rsa.PublicKey:
		key, err = rsa.GenerateKey(rand.Reader, standInBits)
	case ed25519.PublicKey:
		_, key, err = ed25519.GenerateKey(rand.Reader)
	default:
		return nil, fault.New(fault.Internal, "no key can stand in for a CA key of type %T", of)
	}
	if err != nil {
		return nil, fault.Wrap(err, fault.Internal, "the key for drafts could not be made")
	}
	return key, nil
}

// Draft implements [ca.Drafter]. Draft and certificate are made from one template, and what is signed in the end is held
// against the draft once more before it is given away.
func (a *Authority) Draft(_ context.Context, r ca.Request) (ca.Draft, error) {
	template, err := a.leaf(r)
	if err != nil {
		return ca.Draft{}, err
	}
	key, err := a.standIn()
	if err != nil {
		return ca.Draft{}, err
	}
	// crypto/x509 holds the signer against its certificate.
	parent := *a.chain[0]
	parent.PublicKey = key.Public()
	template.SignatureAlgorithm = signatureAlgorithm(a.key.Public())
	der, err := x509.CreateCertificate(rand.Reader, template, &parent, r.CSR.PublicKey, key)
	if err != nil {
		return ca.Draft{}, fault.Wrap(err, fault.Internal, "the draft of the certificate could not be signed")
	}
	return ca.Draft{DER: der, Sign: func(context.Context) (ca.Issued, error) {
		issued, err := a.sign(template, r.CSR.PublicKey)
		if err == nil {
			err = sameContent(der, issued.DER)
		}
		if err != nil {
			return ca.Issued{}, err
		}
		return issued, nil
	}}, nil
}

// sameContent checks that two certificates differ in nothing but their signatures.
func sameContent(draft, issued []byte) error {
	a, err := x509.ParseCertificate(draft)
	if err != nil {
		return fault.Wrap(err, fault.Internal, "the draft of the certificate cannot be read")
	}
	b, err := x509.ParseCertificate(issued)
	if err != nil {
		return fault.Wrap(err, fault.Internal, "the certificate that was signed cannot be read")
	}
	if !bytes.Equal(a.RawTBSCertificate, b.RawTBSCertificate) {
		return fault.New(fault.Internal, "the certificate that was signed is not the one that was drafted")
	}
	return nil
}
