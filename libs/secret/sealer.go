// Package secret seals what must not lie open in a database or a file: CA keys, signing keys, credentials.
//
// Sealing is AES-256-GCM with a random nonce. Sealed data starts with a version byte and the id of the key that sealed
// it, so a Sealer that holds several keys opens what any of them has sealed and seals with the first: to rotate, put a
// new key in front, seal everything again, drop the old one. The caller's additional data is bound to the result: use
// it to say what the secret is and whose, so that sealed values cannot change places.
//
// One key may seal about four billion values before random nonces become unsafe. Nothing here protects against someone
// who can read both the key file and the sealed data; keep them in different places, and back both up.
package secret

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"errors"
	"fmt"
)

const (
	version   = 1
	idLen     = 8
	headerLen = 1 + idLen
)

var (
	// ErrKey means that the data was sealed with a key that the Sealer does not hold.
	ErrKey = errors.New("sealed with a key that is not held")
	// ErrCorrupt means that the data is not what Seal returned, or was sealed with other additional data.
	ErrCorrupt = errors.New("sealed data or its additional data has been altered")
)

type keyID [idLen]byte

// Sealer seals and unseals. It is safe for concurrent use.
type Sealer struct {
	current keyID
	aeads   map[keyID]cipher.AEAD
}

// New returns a Sealer that seals with the current key and unseals with any of those given.
func New(current Key, older ...Key) *Sealer {
	s := &Sealer{current: current.id(), aeads: make(map[keyID]cipher.AEAD, 1+len(older))}
	for _, k := range append([]Key{current}, older...) {
		s.aeads[k.id()] = k.aead()
	}
	return s
}

// Seal returns plain in sealed form, bound to aad.
func (s *Sealer) Seal(plain, aad []byte) ([]byte, error) {
	header := make([]byte, 0, headerLen+len(plain)+s.aeads[s.current].Overhead())
	header = append(header, version)
	header = append(header, s.current[:]...)
	return s.aeads[s.current].Seal(header, nil, plain, bind(header, aad)), nil
}

// Unseal returns what was sealed under the same aad. Its errors are ErrKey and ErrCorrupt.
func (s *Sealer) Unseal(sealed, aad []byte) ([]byte, error) {
	if len(sealed) < headerLen || sealed[0] != version {
		return nil, ErrCorrupt
	}
	id := keyID(sealed[1:headerLen])
	aead, ok := s.aeads[id]
	if !ok {
		return nil, fmt.Errorf("%w: %x", ErrKey, id)
	}
	plain, err := aead.Open(nil, nil, sealed[headerLen:], bind(sealed[:headerLen], aad))
	if err != nil {
		return nil, ErrCorrupt
	}
	return plain, nil
}

// Current reports whether sealed was sealed with the key that Seal uses now, that is, needs no new sealing.
func (s *Sealer) Current(sealed []byte) bool {
	return len(sealed) >= headerLen && sealed[0] == version && keyID(sealed[1:headerLen]) == s.current
}

func bind(header, aad []byte) []byte {
	return append(append(make([]byte, 0, len(header)+len(aad)), header...), aad...)
}

func (k Key) id() keyID {
	sum := sha256.Sum256(append([]byte("certctl sealing key id\x00"), k[:]...))
	return keyID(sum[:idLen])
}

func (k Key) aead() cipher.AEAD {
	block, err := aes.NewCipher(k[:])
	if err != nil {
		panic("secret: AES takes any key of 32 bytes: " + err.Error())
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic("secret: GCM takes AES: " + err.Error())
	}
	return aead
}
