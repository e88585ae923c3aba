package pg

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
)

// A SCRAM-SHA-256 verifier, RFC 5803, in the form in which Postgres keeps it:
// SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>. Passwords are taken to be ASCII, which makes SASLprep
// the identity.
const (
	scramIterations = 4096
	scramSaltSize   = 16
)

func newVerifier(password string) (string, error) {
	salt := make([]byte, scramSaltSize)
	if _, err := rand.Read(salt); err != nil {
		return "", err
	}
	return verifier(password, salt, scramIterations)
}

func verifier(password string, salt []byte, iterations int) (string, error) {
	salted, err := pbkdf2.Key(sha256.New, password, salt, iterations, sha256.Size)
	if err != nil {
		return "", fmt.Errorf("derive key: %w", err)
	}
	stored := sha256.Sum256(mac(salted, "Client Key"))
	encode := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s",
		iterations, encode(salt), encode(stored[:]), encode(mac(salted, "Server Key"))), nil
}

// verifies reports whether stored is a verifier of password.
func verifies(stored, password string) bool {
	parts := strings.Split(stored, "$")
	if len(parts) != 3 || parts[0] != "SCRAM-SHA-256" {
		return false
	}
	iterations, salt, _ := strings.Cut(parts[1], ":")
	n, err := strconv.Atoi(iterations)
	if err != nil {
		return false
	}
	raw, err := base64.StdEncoding.DecodeString(salt)
	if err != nil {
		return false
	}
	again, err := verifier(password, raw, n)
	return err == nil && hmac.Equal([]byte(again), []byte(stored))
}

func mac(key []byte, message string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(message))
	return h.Sum(nil)
}
