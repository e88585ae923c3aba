package chain

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// Checkpoint says, signed, what the end of the chain was at a time. Whoever keeps one
// can tell later whether anything before it was rewritten.
type Checkpoint struct {
	Head
	SignedAt  time.Time
	KeyID     Hash
	Signature []byte
}

// statement is what is signed: five lines, each ended by a line feed.
func (c *Checkpoint) statement() []byte {
	return fmt.Appendf(nil, "certctl audit checkpoint v1\n%d\n%s\n%s\n%s\n",
		c.Sequence, c.Hash, Time(c.SignedAt), c.KeyID)
}

// Sign makes the checkpoint of an end of the chain.
func Sign(key ed25519.PrivateKey, head Head, at time.Time) (Checkpoint, error) {
	public, err := PublicKeyOf(key)
	if err != nil {
		return Checkpoint{}, err
	}
	c := Checkpoint{Head: head, SignedAt: at.UTC().Truncate(time.Microsecond), KeyID: public.ID()}
	c.Signature = ed25519.Sign(key, c.statement())
	return c, nil
}

// PublicKey is a key that checkpoints are verified with, as SubjectPublicKeyInfo in DER.
type PublicKey []byte

// PublicKeyOf returns the public half of a key.
func PublicKeyOf(key ed25519.PrivateKey) (PublicKey, error) {
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("encode the key of checkpoints: %w", err)
	}
	return der, nil
}

const pemType = "PUBLIC KEY"

// ReadPublicKey reads a key from a PEM file.
func ReadPublicKey(text []byte) (PublicKey, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != pemType {
		return nil, errors.New("the file holds no public key in PEM")
	}
	if _, err := PublicKey(block.Bytes).parse(); err != nil {
		return nil, err
	}
	return block.Bytes, nil
}

// PEM is the key as a file.
func (k PublicKey) PEM() []byte { return pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: k}) }

// ID is the hash of the key, by which checkpoints name it.
func (k PublicKey) ID() Hash { return sha256.Sum256(k) }

func (k PublicKey) parse() (ed25519.PublicKey, error) {
	public, err := x509.ParsePKIXPublicKey(k)
	if err != nil {
		return nil, fmt.Errorf("read the key of checkpoints: %w", err)
	}
	key, ok := public.(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("the key of checkpoints is a %T, not Ed25519", public)
	}
	return key, nil
}

// Verify returns nil if the checkpoint was signed with this key.
func (k PublicKey) Verify(c *Checkpoint) error {
	key, err := k.parse()
	if err != nil {
		return err
	}
	if c.KeyID != k.ID() {
		return fmt.Errorf("checkpoint %d is signed with the key %s, not with %s", c.Sequence, c.KeyID, k.ID())
	}
	if !ed25519.Verify(key, c.statement(), c.Signature) {
		return fmt.Errorf("checkpoint %d bears a signature that its key has not made", c.Sequence)
	}
	return nil
}

// String is the hash in lower-case hex.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// Time is a time as it is hashed and signed.
func Time(t time.Time) string { return t.UTC().Format(timeLayout) }
