package natsauth

import (
	"fmt"

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

// SignCommand signs the exact bytes of a command with the platform's seed.
func SignCommand(platformSeed string, payload []byte) ([]byte, error) {
	return sign(platformSeed, commandDomain, payload)
}

// VerifyCommand tells whether the holder of the platform's key signed these bytes as
// a command.
func VerifyCommand(platformKey string, payload, signature []byte) error {
	return verify(platformKey, commandDomain, payload, signature)
}

// SignReport signs the exact bytes of a report with the agent's own seed.
func SignReport(agentSeed string, payload []byte) ([]byte, error) {
	return sign(agentSeed, reportDomain, payload)
}

// VerifyReport tells whether the holder of the agent's key signed these bytes as a
// report.
func VerifyReport(agentKey string, payload, signature []byte) error {
	return verify(agentKey, reportDomain, payload, signature)
}

func sign(seed, domain string, payload []byte) ([]byte, error) {
	key, err := nkeys.FromSeed([]byte(seed))
	if err != nil {
		return nil, fmt.Errorf("signing seed: %w", err)
	}
	defer key.Wipe()
	signature, err := key.Sign(separated(domain, payload))
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return signature, nil
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
	return append([]byte(domain), payload...)
}
