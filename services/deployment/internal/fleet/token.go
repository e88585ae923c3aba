// Package fleet holds the rules of what the service knows of the world outside: sites,
// agents, the tokens by which both join, and the targets that agents look after.
//
// Everything here is a function of values. A token's secret is random and only its
// hash is kept; whatever a host tells of itself is cleaned before it is stored.
package fleet

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/libs/fault"
)

// Whom a token may make.
const (
	TokenOfAgent = "agent"
	TokenOfSite  = "site"
)

// Bounds of the life of an agent's token, and the life of a site's.
const (
	MinTokenLife     = time.Minute
	MaxTokenLife     = 7 * 24 * time.Hour
	DefaultTokenLife = time.Hour
	SiteTokenLife    = 7 * 24 * time.Hour
)

const tokenPrefix = "cet_"

// Token is what is kept of a one-time token.
type Token struct {
	ID        string
	Kind      string
	SiteID    string
	Hash      [32]byte
	ExpiresAt time.Time
}

// NewSecret returns 256 random bits as text.
func NewSecret() string {
	var b [32]byte
	// crypto/rand.Read never returns an error; it ends the process instead.
	_, _ = rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// HashSecret is the form in which a secret is kept.
func HashSecret(secret string) [32]byte { return sha256.Sum256([]byte(secret)) }

// EncodeToken is the text that an operator carries to the new host.
func EncodeToken(t command.EnrolmentToken) (string, error) {
	b, err := json.Marshal(t)
	if err != nil {
		return "", fmt.Errorf("encode token %s: %w", t.ID, err)
	}
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(b), nil
}

// DecodeToken reads what [EncodeToken] wrote.
func DecodeToken(text string) (command.EnrolmentToken, error) {
	var t command.EnrolmentToken
	encoded, found := strings.CutPrefix(strings.TrimSpace(text), tokenPrefix)
	if !found {
		return t, badToken("an enrolment token begins with " + tokenPrefix)
	}
	b, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		return t, badToken("is cut off or altered")
	}
	if err := json.Unmarshal(b, &t); err != nil || t.ID == "" || t.SiteID == "" || t.Secret == "" {
		return t, badToken("is cut off or altered")
	}
	return t, nil
}

func badToken(why string) error {
	return fault.InvalidFields(fault.Field{Name: "token", Reason: why})
}
