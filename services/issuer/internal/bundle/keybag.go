package bundle

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"

	"software.sslmate.com/src/go-pkcs12"
)

// The names of RFC 7292, RFC 8018 and RFC 9579 that a probe is made of.
var (
	idData          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	idEncryptedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 6}
	idKeyBag        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 10, 1, 1}
	idPBMAC1        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 14}
	idPBKDF2        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	idHMACSHA256    = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}
)

type pfx struct {
	Version  int
	AuthSafe contentInfo
	MacData  asn1.RawValue `asn1:"optional"`
}

type contentInfo struct {
	Type    asn1.ObjectIdentifier
	Content asn1.RawValue `asn1:"tag:0,explicit,optional"`
}

// keysInSight refuses a file with a private key inside of contents that are encrypted as a whole: how often its password
// would be hashed is not seen from outside, and whoever decrypts those contents with go-pkcs12 goes on to the key at once.
// Nobody's tools put it there; keys are encrypted one by one, in contents that are not.
//
// Each of the encrypted contents is put into a file of its own, behind another key. DecodeChain opens the contents, takes that
// key, which is in the clear, and stops at any that comes after it. What it cannot read for another reason is refused too, and so are
// files of the old ciphers that were made without a password, and not with an empty one, for which there is no such probe.
func keysInSight(data []byte, password string) error {
	contents, err := contentsOf(data)
	if err != nil {
		return wrap(err, "is cut off, or neither a certificate in DER nor PKCS#12 in DER; if openssl pkcs12 -in FILE or openssl pkcs7 -print_certs -inform DER -in FILE reads it, hand in the PEM that those write")
	}
	for _, c := range contents {
		if !c.Type.Equal(idEncryptedData) {
			continue
		}
		file, err := probe(c, password)
		if err != nil {
			return unreadable(err)
		}
		_, _, _, err = pkcs12.DecodeChain(file, password)
		switch {
		case err == nil:
		case isWrongPassword(err) && password != "":
			return wrongPassword("the file", password)
		case err.Error() == "pkcs12: expected exactly one key bag":
			return refuse("has a private key in contents that are encrypted as a whole, which is not read; convert it with openssl pkcs12 -in FILE to PEM")
		default:
			return unreadable(err)
		}
	}
	return nil
}

// contentsOf takes a file apart, as go-pkcs12 does.
func contentsOf(data []byte) (contents []contentInfo, err error) {
	var file pfx
	var octets []byte
	if err := unmarshal(data, &file); err != nil {
		return nil, err
	}
	if err := unmarshal(file.AuthSafe.Content.Bytes, &octets); err != nil {
		return nil, err
	}
	return contents, unmarshal(octets, &contents)
}

// probe is a file with a key that is made for it, in the clear, and then some contents of another file.
func probe(c contentInfo, password string) ([]byte, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	bag, err := asn1.Marshal([]contentInfo{{idKeyBag, explicit(pkcs8)}})
	if err != nil {
		return nil, err
	}
	octets, err := asn1.Marshal(bag)
	if err != nil {
		return nil, err
	}
	c.Content = explicit(c.Content.Bytes)
	return pfxOf(password, contentInfo{idData, explicit(octets)}, c)
}

// pfxOf puts contents together to a file, with the digest of RFC 9579 (PBMAC1).
func pfxOf(password string, contents ...contentInfo) ([]byte, error) {
	safe, err := asn1.Marshal(contents)
	if err != nil {
		return nil, err
	}
	mac, err := macOf(safe, password)
	if err != nil {
		return nil, err
	}
	octets, err := asn1.Marshal(safe)
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(pfx{Version: 3, AuthSafe: contentInfo{idData, explicit(octets)}, MacData: asn1.RawValue{FullBytes: mac}})
}

// macOf is a MacData. Nobody attacks it: the file it is for is read at once and forgotten.
func macOf(safe []byte, password string) ([]byte, error) {
	salt := []byte("probe")
	key, err := pbkdf2.Key(sha256.New, password, salt, 1, sha256.Size)
	if err != nil {
		return nil, err
	}
	h := hmac.New(sha256.New, key)
	h.Write(safe)
	type algorithm struct {
		ID         asn1.ObjectIdentifier
		Parameters any
	}
	type derivation struct {
		Salt               []byte
		Iterations, Length int
		PRF                pkix.AlgorithmIdentifier
	}
	type scheme struct {
		KDF algorithm
		MAC pkix.AlgorithmIdentifier
	}
	type digest struct {
		Algorithm algorithm
		Digest    []byte
	}
	hmacSHA256 := pkix.AlgorithmIdentifier{Algorithm: idHMACSHA256, Parameters: asn1.NullRawValue}
	return asn1.Marshal(struct {
		Digest     digest
		Salt       []byte
		Iterations int
	}{digest{algorithm{idPBMAC1, scheme{algorithm{idPBKDF2, derivation{salt, 1, sha256.Size, hmacSHA256}}, hmacSHA256}}, h.Sum(nil)}, salt, 1})
}

func explicit(content []byte) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: content}
}

func unmarshal(der []byte, into any) error {
	rest, err := asn1.Unmarshal(der, into)
	if err == nil && len(rest) > 0 {
		err = errors.New("something follows the structure")
	}
	return err
}

func isWrongPassword(err error) bool {
	return errors.Is(err, pkcs12.ErrIncorrectPassword) || errors.Is(err, pkcs12.ErrDecryption)
}

func unreadable(err error) error {
	return wrap(err, "cannot be read as PKCS#12; openssl pkcs12 -in FILE converts one with certificates alone, or of an unusual kind, to PEM")
}
