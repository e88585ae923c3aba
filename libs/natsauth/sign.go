package natsauth

import (
	"crypto/ed25519"
	"fmt"
	"slices"

	"github.com/nats-io/nkeys"
)

// An agent's key also signs the nonce that a NATS server sends when the agent
// connects, and a hostile server may choose that nonce. Nonces arrive as JSON
// strings, so they are valid UTF-8; a first byte that never occurs in UTF-8 keeps a
// nonce from ever being a report.
const (
	commandDomain = "\xffcertctl command v1\x00"
	reportDomain  = "\xffcertctl report v1\x00"
)

// NewPlatformKey makes the Ed25519 key that signs commands to agents. Its public
// half, in nkey form, is what agents pin when they enrol.
func NewPlatformKey() (seed, public string, err error) {
	// The server prefix: a key of this kind signs no JWT that a server would accept.
	key, err := nkeys.CreateServer()
	if err != nil {
		return "", "", fmt.Errorf("make platform key: %w", err)
	}
	return export(key)
}

// Signer signs as the holder of one key. It is safe for concurrent use. To make it of a seed takes as long as a signature.
type Signer struct{ key ed25519.PrivateKey }

// NewSigner reads the seed of a key.
func NewSigner(seed string) (Signer, error) {
	_, raw, err := nkeys.DecodeSeed([]byte(seed))
	if err != nil {
		return Signer{}, fmt.Errorf("signing seed: %w", err)
	}
	return Signer{ed25519.NewKeyFromSeed(raw)}, nil
}

// Command signs the exact bytes of a command, as the platform.
func (s Signer) Command(payload []byte) []byte {
	return ed25519.Sign(s.key, separated(commandDomain, payload))
}

// Report signs the exact bytes of a report, as an agent.
func (s Signer) Report(payload []byte) []byte {
	return ed25519.Sign(s.key, separated(reportDomain, payload))
}

// SignCommand signs one command with the platform's seed. Who signs many has a [Signer].
func SignCommand(platformSeed string, payload []byte) ([]byte, error) {
	s, err := NewSigner(platformSeed)
	if err != nil {
		return nil, err
	}
	return s.Command(payload), nil
}

// VerifyCommand tells whether the holder of the platform's key signed these bytes as
// a command.
func VerifyCommand(platformKey string, payload, signature []byte) error {
	return verify(platformKey, commandDomain, payload, signature)
}

// SignReport signs one report with the agent's own seed.
func SignReport(agentSeed string, payload []byte) ([]byte, error) {
	s, err := NewSigner(agentSeed)
	if err != nil {
		return nil, err
	}
	return s.Report(payload), nil
}

// VerifyReport tells whether the holder of the agent's key signed these bytes as a
// report.
func VerifyReport(agentKey string, payload, signature []byte) error {
	return verify(agentKey, reportDomain, payload, signature)
}

// SignedBytes is what a report's signature is over, for who verifies many at once.
func SignedBytes(payload []byte) []byte { return separated(reportDomain, payload) }

// PublicKey reads an Ed25519 key from its nkey form.
func PublicKey(nkey string) (ed25519.PublicKey, error) {
	raw, err := nkeys.Decode(nkeys.Prefix(nkey), []byte(nkey))
	if err == nil && !nkeys.IsValidPublicKey(nkey) {
		err = nkeys.ErrInvalidPublicKey
	}
	if err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	return raw, nil
}

func verify(public, domain string, payload, signature []byte) error {
	key, err := nkeys.FromPublicKey(public)
	if err != nil {
		return fmt.Errorf("public key: %w", err)
	}
	if err := key.Verify(separated(domain, payload), signature); err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	return nil
}

func separated(domain string, payload []byte) []byte {
	return slices.Concat([]byte(domain), payload)
}
