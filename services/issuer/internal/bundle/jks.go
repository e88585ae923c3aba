package bundle

import (
	"bytes"
	"crypto"
	"crypto/x509"

	"github.com/pavlo-v-chernykh/keystore-go/v4"
)

// readJKS reads a Java key store of Sun's own type. Newer Javas write PKCS #12 unless they are told not to.
func (c *Content) readJKS(data []byte, o Options) error {
	switch {
	case bytes.HasPrefix(data, magicJCEKS):
		return refuse("is a Java key store of type JCEKS; convert it with keytool -importkeystore -deststoretype PKCS12")
	case !bytes.HasPrefix(data, magicJKS):
		return refuse("is no Java key store of type JKS")
	}
	if err := fits(data); err != nil {
		return err
	}
	return within(patience, func() error { return c.openJKS(data, o) })
}

func (c *Content) openJKS(data []byte, o Options) error {
	store := keystore.New(keystore.WithOrderedAliases(), keystore.WithCaseExactAliases())
	if err := store.Load(bytes.NewReader(data), []byte(o.Password)); err != nil {
		// Its bounds were found to be right, so what is left is the digest, which is keyed with the password.
		return wrongPassword("the file", o.Password)
	}
	for _, alias := range store.Aliases() {
		if !store.IsPrivateKeyEntry(alias) {
			entry, err := store.GetTrustedCertificateEntry(alias)
			if err != nil {
				return wrap(err, "has an entry that cannot be read")
			}
			if err := c.addCertificate(entry.Certificate.Content); err != nil {
				return err
			}
			continue
		}
		chain, err := store.GetPrivateKeyEntryCertificateChain(alias)
		if err != nil {
			return wrap(err, "has an entry that cannot be read")
		}
		for _, cert := range chain {
			if err := c.addCertificate(cert.Content); err != nil {
				return err
			}
		}
		key, err := keyOf(store, alias, o.Password)
		if err := c.addKey(key, err, o); err != nil {
			return err
		}
	}
	return nil
}

func keyOf(store keystore.KeyStore, alias, password string) (crypto.Signer, error) {
	other := func() error {
		return refuse("has a private key under another password than its own, or a damaged one; give both the same with keytool -keypasswd")
	}
	entry, err := store.GetPrivateKeyEntry(alias, []byte(password))
	if err != nil {
		return nil, other()
	}
	if len(entry.PrivateKey) > maxKeyBlock {
		return nil, refuse("holds a private key of more than 16 KiB")
	}
	key, err := x509.ParsePKCS8PrivateKey(entry.PrivateKey)
	if err != nil {
		return nil, other()
	}
	return signer(key)
}
