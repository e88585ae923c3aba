package bundle

import (
	"bytes"
	"crypto"
	"encoding/pem"
	"slices"

	"github.com/youmark/pkcs8"

	"github.com/certctl/certctl/libs/x509x"
)

// readPEM reads certificates and keys and passes over all else, such as requests, parameters, and what openssl writes
// around the blocks. pem.Decode passes over blocks of ours too if they are damaged, so those are counted.
func (c *Content) readPEM(data []byte, o Options) error {
	var spent cost
	read := 0
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		var err error
		if slices.Contains(types, block.Type) {
			read++
		}
		switch block.Type {
		case "CERTIFICATE", "X509 CERTIFICATE":
			err = c.addCertificate(block.Bytes)
		case "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY":
			key, keyErr := readKey(block, o.Password, &spent)
			err = c.addKey(key, keyErr, o)
		case "TRUSTED CERTIFICATE":
			err = refuse("holds a certificate with OpenSSL's notes on trust; openssl x509 -in FILE writes it without")
		case "PKCS7", "CMS":
			err = refuse("holds a PKCS#7 block; convert it with openssl pkcs7 -print_certs")
		}
		if err != nil {
			return err
		}
	}
	begun := 0
	for _, t := range types {
		begun += bytes.Count(data, []byte("-----BEGIN "+t+"-----"))
	}
	if begun > read {
		return refuse("begins %d certificates and keys in PEM of which %d can be read; the others are cut off, indented or damaged", begun, read)
	}
	return nil
}

// types are those of the blocks that are read.
var types = []string{"CERTIFICATE", "X509 CERTIFICATE", "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY"}

// idScrypt is the object identifier of scrypt (RFC 7914) in DER. How much memory that takes is the file's to say.
var idScrypt = []byte{0x06, 0x09, 0x2b, 0x06, 0x01, 0x04, 0x01, 0xda, 0x47, 0x04, 0x0b}

func readKey(block *pem.Block, password string, spent *cost) (crypto.Signer, error) {
	switch {
	case len(block.Bytes) > maxKeyBlock:
		return nil, refuse("holds a private key of more than 16 KiB")
	case block.Type != "ENCRYPTED PRIVATE KEY":
		if block.Headers["DEK-Info"] != "" {
			return nil, refuse("holds a private key that is encrypted in the old way of PEM; convert it with openssl pkcs8 -topk8")
		}
		return x509x.ParsePrivateKey(pem.EncodeToMemory(block))
	case password == "":
		return nil, wrongPassword("a private key in the file", password)
	case bytes.Contains(block.Bytes, idScrypt):
		return nil, refuse("holds a private key that is encrypted by way of scrypt; convert it with openssl pkcs8 -topk8")
	}
	if err := spent.of(block.Bytes, 0); err != nil {
		return nil, err
	}
	key, err := pkcs8.ParsePKCS8PrivateKey(block.Bytes, []byte(password))
	if err != nil {
		// Another cipher than PBES2's, or another password: what it says may depend on the key.
		return nil, wrongPassword("a private key in the file, or its cipher is not one of PBES2 with AES; openssl pkcs8 -topk8 converts it", password)
	}
	return signer(key)
}

func signer(key any) (crypto.Signer, error) {
	s, ok := key.(crypto.Signer)
	if !ok {
		return nil, refuse("holds a private key that cannot sign")
	}
	return s, nil
}
