package local

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"time"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/secret"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca"
)

// Unbounded is the path length of a CA that may have any number of CAs below it.
const Unbounded = -1

// Description is what a CA that is made here is to be.
type Description struct {
	Subject pkix.Name
	// Days is how long its certificate holds, at most.
	Days int
	// Algorithm is the kind of its key, one of Algorithms; empty is the default.
	Algorithm string
	// MaxPathLen is how many CAs there may be below it in a chain, or Unbounded.
	MaxPathLen  int
	Constraints Constraints
	// Token is where its key is, under Label; nil for one that is sealed.
	Token Token
	Label string
}

// signer makes the CA's key, or has it from the token.
func (d *Description) signer(issuerID string) (crypto.Signer, error) {
	if d.Token != nil {
		return d.obtain()
	}
	key, err := newSigner(d.Algorithm)
	if err != nil {
		return nil, fmt.Errorf("make the CA key of %s: %w", issuerID, err)
	}
	return key, nil
}

// make makes the CA's key and what its certificate is to say.
func (d *Description) make(issuerID string, now time.Time) (crypto.Signer, *x509.Certificate, error) {
	key, err := d.signer(issuerID)
	if err != nil {
		return nil, nil, err
	}
	template, err := d.template(key.Public(), now)
	return key, template, err
}

func (d *Description) template(pub crypto.PublicKey, now time.Time) (*x509.Certificate, error) {
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, fmt.Errorf("encode a CA's public key: %w", err)
	}
	ski, err := keyID(spki)
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber:          x509x.NewSerial(),
		Subject:               d.Subject,
		NotBefore:             now.Add(-rootBackdate).Truncate(time.Second),
		NotAfter:              now.AddDate(0, 0, d.Days).Truncate(time.Second),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLen:            d.MaxPathLen,
		MaxPathLenZero:        d.MaxPathLen == 0,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		SubjectKeyId:          ski,
	}
	d.Constraints.constrain(t)
	return t, nil
}

// The extensions of a CA that a request asks for.
var (
	oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidKeyUsage         = asn1.ObjectIdentifier{2, 5, 29, 15}
)

// MakeRequest makes the key of a CA whose certificate somebody elsewhere signs, sealed, and the request for that
// certificate. What the certificate says in the end is for whoever signs it; the request asks for a CA's.
func MakeRequest(issuerID string, d Description, sealer *secret.Sealer, now time.Time) (ca.Key, error) {
	key, err := d.signer(issuerID)
	if err != nil {
		return ca.Key{}, err
	}
	basic, err := asn1.Marshal(struct {
		IsCA       bool `asn1:"optional"`
		MaxPathLen int  `asn1:"optional,default:-1"`
	}{true, d.MaxPathLen})
	if err != nil {
		return ca.Key{}, fmt.Errorf("encode the basic constraints of a request: %w", err)
	}
	// keyCertSign and cRLSign, bits 5 and 6.
	usage, err := asn1.Marshal(asn1.BitString{Bytes: []byte{0x06}, BitLength: 7})
	if err != nil {
		return ca.Key{}, fmt.Errorf("encode the key usage of a request: %w", err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: d.Subject, SignatureAlgorithm: signatureAlgorithm(key.Public()),
		ExtraExtensions: []pkix.Extension{
			{Id: oidBasicConstraints, Critical: true, Value: basic}, {Id: oidKeyUsage, Critical: true, Value: usage},
		},
	}, key)
	if err != nil {
		return ca.Key{}, signing(err, fault.Internal, "the certificate request could not be signed")
	}
	return seal(ca.Key{IssuerID: issuerID, CSRPEM: string(x509x.EncodeCSR(der))}, key, sealer, now)
}
