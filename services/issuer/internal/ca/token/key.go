package token

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"io"

	"github.com/certctl/certctl/contracts/signer"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/x509x"
)

// Key is a private key in the token. It implements [crypto.Signer] and is safe for concurrent use.
type Key struct {
	client *Client
	label  string
	id     []byte
	public crypto.PublicKey
}

// Label is by which name the token finds the key.
func (k *Key) Label() string { return k.label }

// Public implements [crypto.Signer].
func (k *Key) Public() crypto.PublicKey { return k.public }

var hashes = map[crypto.Hash]string{crypto.SHA256: signer.SHA256, crypto.SHA384: signer.SHA384, crypto.SHA512: signer.SHA512}

// Sign implements [crypto.Signer]. Its errors are Unavailable: a key that is missing may be put back.
func (k *Key) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	hash, ok := hashes[opts.HashFunc()]
	if _, pss := opts.(*rsa.PSSOptions); pss || !ok {
		return nil, fault.New(fault.Internal, "the signer signs digests of SHA-2, and by PKCS #1 v1.5 with RSA")
	}
	//nolint:forbidigo // crypto.Signer has no context; the client bounds it
	signature, err := k.client.sign(context.Background(), signer.Sign{Label: k.label, ID: k.id, Hash: hash, Digest: digest})
	return signature, away(err)
}

// away makes an error one that may pass.
func away(err error) error {
	switch fault.CodeOf(err) {
	case "", fault.Unavailable:
		return err
	default:
		return fault.Wrap(err, fault.Unavailable, "%s", fault.From(err).Message)
	}
}

// Find returns the key of a label whose public key is given. It is NotFound if there is none of the label, a Conflict if
// those have other public keys, and Forbidden if it is not used.
func (c *Client) Find(ctx context.Context, label string, public crypto.PublicKey) (crypto.Signer, error) {
	list, err := c.keys(ctx, label)
	if err != nil {
		return nil, err
	}
	for _, key := range list.Keys {
		k, err := c.key(key)
		if err == nil && x509x.SameKey(k.public, public) {
			return k, usable(key)
		}
	}
	if len(list.Keys) > 0 {
		return nil, fault.New(fault.Conflict, "the key %s in token %q is not that of the CA's certificate", label, list.Token)
	}
	return nil, fault.New(fault.NotFound, "token %q has no key %s", list.Token, label)
}

// Obtain returns the one key of a label, and makes one of the given kind if there is none. It is Invalid if the label or
// the kind is not accepted, a Conflict if there are several keys of the label, and Forbidden if the key is not used.
func (c *Client) Obtain(ctx context.Context, label, algorithm string, bits int) (crypto.Signer, error) {
	list, err := c.keys(ctx, label)
	if err != nil {
		return nil, err
	}
	switch len(list.Keys) {
	case 0:
		key, err := c.generate(ctx, signer.Generate{Label: label, Algorithm: algorithm, Bits: bits})
		if err != nil {
			return nil, err
		}
		return c.key(key)
	case 1:
		k, err := c.key(list.Keys[0])
		if err != nil {
			return nil, err
		}
		return k, usable(list.Keys[0])
	default:
		return nil, fault.New(fault.Conflict, "token %q has %d keys %s; give each a label of its own", list.Token, len(list.Keys), label)
	}
}

func (c *Client) key(key signer.Key) (*Key, error) {
	public, err := x509.ParsePKIXPublicKey(key.PublicKey)
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "the public key of %s in the token cannot be read", key.Label)
	}
	return &Key{client: c, label: key.Label, id: key.ID, public: public}, nil
}

func usable(key signer.Key) error {
	if key.Objection == "" {
		return nil
	}
	return fault.New(fault.Forbidden, "the key %s in the token is not used: %s", key.Label, key.Objection)
}
