package blockedkey

import (
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strings"

	"github.com/certctl/certctl/libs/fault"
)

// Given is a key as somebody names it: by exactly one of these.
type Given struct {
	CertificatePEM, RequestPEM, PublicKeyPEM, SPKISHA256 string
}

// Hash returns the hash of the key that is named. A key may be as weak as it likes here. Its error is Invalid and names the
// field at fault.
func (g Given) Hash() (Hash, error) {
	all := []struct {
		field, text string
		read        func(text string) (Hash, string)
	}{
		{"certificate_pem", g.CertificatePEM, ofCertificate},
		{"csr_pem", g.RequestPEM, ofRequest},
		{"public_key_pem", g.PublicKeyPEM, ofPublicKey},
		{"spki_sha256", g.SPKISHA256, ofHash},
	}
	var names []string
	var hash Hash
	var err error
	for _, way := range all {
		if way.text == "" {
			continue
		}
		names = append(names, way.field)
		var reason string
		if hash, reason = way.read(way.text); reason != "" {
			err = fault.InvalidFields(fault.Field{Name: way.field, Reason: reason})
		}
	}
	switch len(names) {
	case 0:
		return Hash{}, fault.InvalidFields(fault.Field{Name: "spki_sha256", Reason: "name the key by it, or by certificate_pem, csr_pem or public_key_pem"})
	case 1:
		return hash, err
	default:
		return Hash{}, fault.InvalidFields(fault.Field{Name: names[1], Reason: "the key is named already, by " + names[0] + "; give one of the two"})
	}
}

func ofHash(text string) (Hash, string) {
	h, ok := ParseHash(text)
	if !ok {
		return h, "is not 64 hexadecimal digits: the SHA-256 of a SubjectPublicKeyInfo"
	}
	return h, ""
}

func ofCertificate(text string) (Hash, string) {
	der, reason := block(text, "CERTIFICATE")
	if reason != "" {
		return Hash{}, reason
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return Hash{}, "is no certificate"
	}
	return HashOf(c.RawSubjectPublicKeyInfo), ""
}

func ofRequest(text string) (Hash, string) {
	der, reason := block(text, "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST")
	if reason != "" {
		return Hash{}, reason
	}
	r, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return Hash{}, "is no certificate request"
	}
	return HashOf(r.RawSubjectPublicKeyInfo), ""
}

func ofPublicKey(text string) (Hash, string) {
	der, reason := block(text, "PUBLIC KEY", "RSA PUBLIC KEY")
	if reason != "" {
		return Hash{}, reason
	}
	pub, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		if pub, err = x509.ParsePKCS1PublicKey(der); err != nil {
			return Hash{}, "is no public key"
		}
	}
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return Hash{}, "is no public key of a kind that is certified"
	}
	return HashOf(spki), ""
}

// block returns the first block of a PEM text, or says what is wrong with the text. Files of servers often have the key below
// the certificate, so all of it is looked at.
func block(text string, types ...string) (der []byte, reason string) {
	if strings.Contains(text, "PRIVATE KEY-----") {
		return nil, "is or holds a private key; do not send it anywhere, and give its public half"
	}
	b, _ := pem.Decode([]byte(text))
	if b == nil {
		return nil, "is not PEM"
	}
	if slices.Contains(types, b.Type) {
		return b.Bytes, ""
	}
	return nil, "is a " + clip(b.Type) + ", not a " + types[0]
}

func clip(s string) string {
	const most = 40
	if len(s) > most {
		s = s[:most]
	}
	return strings.ToValidUTF8(s, "")
}
