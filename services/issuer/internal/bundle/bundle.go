// Package bundle reads and writes files of certificates and private keys: PEM, PKCS #12 and Java key stores.
//
// What it reads comes from anywhere. Files are bounded, and so is what they may have this process do: sizes that a Java key
// store claims are held against the file before anybody allocates by them, a derivation of keys that would take minutes
// is not begun, be it in sight or inside of what is encrypted, and what still takes too long is given up. Errors are faults, say what to do, and quote nothing that may be
// secret.
//
// It finds out which certificates are leaves and which stand above them. Whether a leaf may be managed is not for it to say.
package bundle

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"strings"

	"github.com/certctl/certctl/libs/fault"
)

// Format is a form of file.
type Format string

// The forms. DER and PKCS7 are for certificates alone; PKCS7 is only written.
const (
	PEM    Format = "pem"
	DER    Format = "der"
	PKCS7  Format = "pkcs7"
	PKCS12 Format = "pkcs12"
	JKS    Format = "jks"
)

const (
	// MaxFile is the largest file that is read, in bytes.
	MaxFile = 512 << 10
	// maxCertificates and maxKeys bound what one file may hold.
	maxCertificates = 500
	maxKeys         = 500
	// maxKeyBlock is more than an RSA key of 16384 bits takes, in bytes.
	maxKeyBlock = 16 << 10
)

// Content is what a file holds.
type Content struct {
	Format Format
	// Certificates are in the order of the file, each once.
	Certificates []*x509.Certificate
	// Keys are those that could be read.
	Keys []crypto.Signer
	// Unread counts keys that are there and were not read, because none were wanted.
	Unread int
}

// Options say how a file is read.
type Options struct {
	// Format is that of the file; empty to tell it by how it begins.
	Format Format
	// Password opens the file and the keys in it.
	Password string
	// Keys is whether they are wanted. A key that cannot be read is an error then, and is passed over otherwise.
	Keys bool
}

// Read reads a file. Its errors are Invalid, or Unavailable if too many others are being read.
func Read(data []byte, o Options) (*Content, error) {
	switch {
	case len(data) == 0:
		return nil, refuse("is empty")
	case len(data) > MaxFile:
		return nil, refuse("is larger than 512 KiB; split it")
	}
	if o.Format == "" {
		o.Format = formatOf(data)
	}
	c := &Content{Format: o.Format}
	var err error
	switch o.Format {
	case PEM:
		err = c.readPEM(data, o)
	case DER:
		err = c.addCertificate(data)
	case PKCS12:
		err = c.readPKCS12(data, o)
	case JKS:
		err = c.readJKS(data, o)
	default:
		err = refuse("is neither PEM, nor a certificate in DER, nor PKCS#12, nor a Java key store")
	}
	switch {
	case err != nil:
		return nil, err
	case len(c.Certificates) == 0:
		return nil, refuse("holds no certificate")
	default:
		return c, nil
	}
}

// The first bytes of Java key stores.
var (
	magicJKS   = []byte{0xfe, 0xed, 0xfe, 0xed}
	magicJCEKS = []byte{0xce, 0xce, 0xce, 0xce}
)

// sequence is the first byte of a structure in DER.
const sequence = 0x30

// formatOf tells the form of a file by how it begins; empty if it is none of ours.
func formatOf(data []byte) Format {
	switch {
	case bytes.HasPrefix(data, magicJKS), bytes.HasPrefix(data, magicJCEKS):
		return JKS
	case data[0] == sequence:
		if _, err := x509.ParseCertificate(data); err == nil {
			return DER
		}
		return PKCS12
	case bytes.Contains(data, []byte("-----BEGIN ")):
		return PEM
	default:
		return ""
	}
}

// addCertificate adds a certificate in DER, unless it is there.
func (c *Content) addCertificate(der []byte) error {
	for _, there := range c.Certificates {
		if bytes.Equal(there.Raw, der) {
			return nil
		}
	}
	if len(c.Certificates) == maxCertificates {
		return refuse("holds more than 500 certificates; split it")
	}
	cert, err := x509.ParseCertificate(der)
	switch {
	case err == nil:
	case strings.Contains(err.Error(), "unsupported elliptic curve"):
		return wrap(err, "holds a certificate whose key is on a curve that is not read, after %d others: take it out", len(c.Certificates))
	default:
		return wrap(err, "holds a certificate that is malformed, after %d others", len(c.Certificates))
	}
	c.Certificates = append(c.Certificates, cert)
	return nil
}

// addKey adds a private key, or counts it as not read.
func (c *Content) addKey(key crypto.Signer, err error, o Options) error {
	switch {
	case len(c.Keys)+c.Unread == maxKeys:
		return refuse("holds more than 500 private keys; split it")
	case err == nil:
		c.Keys = append(c.Keys, key)
		return nil
	case o.Keys:
		return err
	default:
		c.Unread++
		return nil
	}
}

func refuse(format string, a ...any) error { return wrap(nil, format, a...) }

func wrap(err error, format string, a ...any) error {
	f := fault.Wrap(err, fault.Invalid, "the file "+format, a...)
	f.Fields = []fault.Field{{Name: "file", Reason: strings.TrimPrefix(f.Message, "the file ")}}
	return f
}

// wrongPassword is the error of a file or a key that does not open.
func wrongPassword(what, password string) error {
	reason := "does not open " + what
	if password == "" {
		reason = "is needed to open " + what
	}
	return fault.InvalidFields(fault.Field{Name: "password", Reason: reason})
}
