package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/ThalesGroup/crypto11"
	"github.com/miekg/pkcs11"

	"github.com/certctl/certctl/contracts/signer"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/x509x"
)

const idBytes = 16

// ref names a key in the token.
type ref struct{ label, id string }

// found is a key of an open token.
type found struct {
	key crypto.Signer
	// Objection says why it is not used.
	objection string
}

// Keys lists the keys of a label, all if it is empty.
func (t *Token) Keys(label string) (signer.Keys, error) {
	list := signer.Keys{Token: t.cfg.Label, Keys: []signer.Key{}}
	err := t.use(func(o *opened) error {
		list.Keys = list.Keys[:0]
		pairs, err := o.pairs(nil, label)
		if err != nil {
			return err
		}
		for _, pair := range pairs {
			key, _, err := o.describe(pair)
			if err != nil {
				return err
			}
			if key.Label == "" || !strings.HasPrefix(key.Label, t.cfg.Prefix) {
				continue
			}
			if len(list.Keys) == signer.MaxKeys {
				return fault.New(fault.TooLarge, "token %q has more than %d keys; ask for those of one label", t.cfg.Label, signer.MaxKeys)
			}
			list.Keys = append(list.Keys, key)
		}
		return nil
	})
	return list, err
}

func (o *opened) pairs(id []byte, label string) ([]crypto11.Signer, error) {
	if len(id) == 0 && label == "" {
		return o.FindAllKeyPairs()
	}
	return o.FindKeyPairs(id, []byte(label))
}

// describe reads what the token says of a key, and notes it for signing.
func (o *opened) describe(pair crypto11.Signer) (signer.Key, *found, error) {
	has, err := o.GetAttributes(pair, []crypto11.AttributeType{
		crypto11.CkaLabel, crypto11.CkaId, crypto11.CkaSensitive, crypto11.CkaExtractable, crypto11.CkaSign,
	})
	if err != nil {
		return signer.Key{}, nil, err
	}
	key := signer.Key{Label: string(has[crypto11.CkaLabel].Value), ID: has[crypto11.CkaId].Value}
	is := func(attribute crypto11.AttributeType) bool { return slices.Contains(has[attribute].Value, 1) }
	switch {
	case x509x.CheckKey(pair.Public()) != nil:
		key.Objection = "it is of a kind that is not used"
	case is(crypto11.CkaExtractable):
		key.Objection = "it can leave the token (CKA_EXTRACTABLE)"
	case !is(crypto11.CkaSensitive):
		key.Objection = "it can be read from the token (not CKA_SENSITIVE)"
	case !is(crypto11.CkaSign):
		key.Objection = "it may not sign (not CKA_SIGN)"
	default:
	}
	if key.PublicKey, err = x509.MarshalPKIXPublicKey(pair.Public()); err != nil {
		return key, nil, fmt.Errorf("encode the public key of %s: %w", key.Label, err)
	}
	f := &found{key: pair, objection: key.Objection}
	o.found.Store(ref{key.Label, string(key.ID)}, f)
	return key, f, nil
}

// Generate makes a key pair whose private key cannot leave the token. It is Invalid for a label or a kind that the token
// is not asked for, and a Conflict if there is a key of that label.
func (t *Token) Generate(g signer.Generate) (key signer.Key, err error) {
	if err := t.checkLabel(g.Label); err != nil {
		return key, err
	}
	t.making.Lock()
	defer t.making.Unlock()
	err = t.use(func(o *opened) error {
		pairs, err := o.pairs(nil, g.Label)
		if err != nil {
			return err
		}
		if len(pairs) > 0 {
			return fault.New(fault.Conflict, "token %q has a key %s already", t.cfg.Label, g.Label)
		}
		pair, err := o.generate(g)
		if err != nil {
			return err
		}
		key, _, err = o.describe(pair)
		return err
	})
	return key, err
}

func (t *Token) checkLabel(label string) error {
	switch {
	case label == "" || len(label) > signer.MaxLabel || strings.ContainsFunc(label, func(r rune) bool { return r > unicode.MaxASCII || !unicode.IsGraphic(r) }):
		return fault.New(fault.Invalid, "a key's label has 1 to %d printable characters of ASCII", signer.MaxLabel)
	case !strings.HasPrefix(label, t.cfg.Prefix):
		return fault.New(fault.Invalid, "the signer uses keys whose label begins with %q (CERTCTL_SIGNER_LABEL_PREFIX)", t.cfg.Prefix)
	default:
		return nil
	}
}

func (o *opened) generate(g signer.Generate) (crypto11.Signer, error) {
	id := make([]byte, idBytes)
	// crypto/rand.Read never returns an error; it ends the process instead.
	_, _ = rand.Read(id)
	public, err := crypto11.NewAttributeSetWithIDAndLabel(id, []byte(g.Label))
	if err != nil {
		return nil, err
	}
	private := public.Copy()
	private.AddIfNotPresent([]*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
		pkcs11.NewAttribute(pkcs11.CKA_SIGN, true),
		pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, false),
	})
	switch kind := fmt.Sprintf("%s %d", g.Algorithm, g.Bits); kind {
	case "ECDSA 256":
		return o.GenerateECDSAKeyPairWithAttributes(public, private, elliptic.P256())
	case "ECDSA 384":
		return o.GenerateECDSAKeyPairWithAttributes(public, private, elliptic.P384())
	case "RSA 2048", "RSA 3072", "RSA 4096":
		public.AddIfNotPresent([]*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, false)})
		return o.GenerateRSAKeyPairWithAttributes(public, private, g.Bits)
	default:
		return nil, fault.New(fault.Invalid, "the signer makes keys of ECDSA with 256 or 384 bits and of RSA with 2048, 3072 or 4096")
	}
}

var hashes = map[string]crypto.Hash{signer.SHA256: crypto.SHA256, signer.SHA384: crypto.SHA384, signer.SHA512: crypto.SHA512}

// Sign signs a digest. It is NotFound if there is no such key, and Forbidden if that is not used.
func (t *Token) Sign(s signer.Sign) (signature []byte, err error) {
	hash, ok := hashes[s.Hash]
	if !ok || len(s.Digest) != hash.Size() {
		return nil, fault.New(fault.Invalid, "a digest of SHA-256, SHA-384 or SHA-512 is signed, of that hash's length")
	}
	if err := t.checkLabel(s.Label); err != nil {
		return nil, err
	}
	err = t.use(func(o *opened) error {
		key, err := t.lookUp(o, s)
		if err != nil {
			return err
		}
		signature, err = key.Sign(rand.Reader, s.Digest, hash)
		if !stale(err) {
			return err
		}
		// Somebody else has removed it, or put it there anew.
		o.found.Delete(ref{s.Label, string(s.ID)})
		if key, err = t.lookUp(o, s); err != nil {
			return err
		}
		signature, err = key.Sign(rand.Reader, s.Digest, hash)
		return err
	})
	return signature, err
}

func (t *Token) lookUp(o *opened, s signer.Sign) (crypto.Signer, error) {
	noted, ok := o.found.Load(ref{s.Label, string(s.ID)})
	if !ok {
		pairs, err := o.pairs(s.ID, s.Label)
		if err != nil {
			return nil, err
		}
		if len(pairs) == 0 {
			return nil, fault.New(fault.NotFound, "token %q has no key %s", t.cfg.Label, s.Label)
		}
		if _, noted, err = o.describe(pairs[0]); err != nil {
			return nil, err
		}
	}
	f := noted.(*found)
	if f.objection != "" {
		return nil, fault.New(fault.Forbidden, "key %s is not used: %s", s.Label, f.objection)
	}
	return f.key, nil
}

// Signer returns a key of the token as a crypto.Signer. It is NotFound if there is none of the label, a Conflict if there
// are several, and Forbidden if it is not used.
func (t *Token) Signer(label string) (crypto.Signer, error) {
	list, err := t.Keys(label)
	switch {
	case err != nil:
		return nil, err
	case label == "" || len(list.Keys) == 0:
		return nil, fault.New(fault.NotFound, "token %q has no key %s", t.cfg.Label, label)
	case len(list.Keys) > 1:
		return nil, fault.New(fault.Conflict, "token %q has %d keys %s", t.cfg.Label, len(list.Keys), label)
	case list.Keys[0].Objection != "":
		return nil, fault.New(fault.Forbidden, "key %s is not used: %s", label, list.Keys[0].Objection)
	}
	var key crypto.Signer
	err = t.use(func(o *opened) error {
		var err error
		key, err = t.lookUp(o, signer.Sign{Label: label, ID: list.Keys[0].ID})
		return err
	})
	return key, err
}

// Kind names the kind of a public key.
func Kind(pub crypto.PublicKey) string {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		return "ECDSA " + k.Curve.Params().Name
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", k.N.BitLen())
	default:
		return "unknown"
	}
}
