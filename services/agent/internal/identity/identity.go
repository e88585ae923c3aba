// Package identity is who an agent is: the nkey it made itself, and what it was given
// when it enrolled.
//
// The seed is written before anybody is told of its public half, so an enrolment
// whose answer was lost is repeated with the same key and not with a new one. The
// seed never leaves the host; it proves the agent to its leaf and signs its reports.
// The platform's key is pinned once, at enrolment: no message can replace it.
//
// A Store is safe for concurrent use.
package identity

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/natsauth"
	"github.com/certctl/certctl/services/agent/internal/atomicfile"
)

const (
	seedFile     = "agent.nk"
	identityFile = "identity.json"
)

// Identity is what the platform gave to an agent.
type Identity struct {
	AgentID string `json:"agent_id"`
	SiteID  string `json:"site_id"`
	// PlatformKey verifies orders.
	PlatformKey string `json:"platform_key"`
	// UserJWT opens the leaf. It is renewed, everything else stays.
	UserJWT string `json:"user_jwt"`
}

// Store is an identity and the folder that holds it.
type Store struct {
	dir    string
	seed   string
	public string

	mu      sync.RWMutex
	current Identity // guarded by mu
}

// Open reads the identity in a folder, and makes a key if there is none.
func Open(dir string) (*Store, error) {
	s := &Store{dir: dir}
	seed, err := os.ReadFile(filepath.Join(dir, seedFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = s.makeKey()
	case err == nil:
		s.seed = strings.TrimSpace(string(seed))
		s.public, err = natsauth.Credentials{Seed: s.seed}.PublicKey()
	}
	if err != nil {
		return nil, fmt.Errorf("agent key: %w", err)
	}
	s.current, err = Read(dir)
	return s, err
}

// Read returns the identity in a folder without opening it; it is zero if there is
// none.
func Read(dir string) (Identity, error) {
	var id Identity
	text, err := os.ReadFile(filepath.Join(dir, identityFile))
	if errors.Is(err, fs.ErrNotExist) {
		return id, nil
	}
	if err != nil {
		return id, fmt.Errorf("agent identity: %w", err)
	}
	if err := json.Unmarshal(text, &id); err != nil {
		return id, fmt.Errorf("agent identity: %s: %w", filepath.Join(dir, identityFile), err)
	}
	return id, nil
}

func (s *Store) makeKey() error {
	seed, public, err := natsauth.NewUserKey()
	if err != nil {
		return err
	}
	if err := atomicfile.Write(filepath.Join(s.dir, seedFile), []byte(seed+"\n"), 0o600); err != nil {
		return err
	}
	s.seed, s.public = seed, public
	return nil
}

// PublicKey is the public half of the agent's nkey.
func (s *Store) PublicKey() string { return s.public }

// Current is the identity; it is zero before enrolment.
func (s *Store) Current() Identity {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.current
}

// Adopt makes the reply to an enrolment this host's identity.
func (s *Store) Adopt(reply command.EnrolReply) error {
	if !subject.Token(reply.AgentID) || !subject.Token(reply.SiteID) {
		return fmt.Errorf("adopt identity: %q of %q cannot name an agent", reply.AgentID, reply.SiteID)
	}
	if !nkeys.IsValidPublicServerKey(reply.PlatformKey) {
		return errors.New("adopt identity: the reply holds no platform key")
	}
	id := Identity{AgentID: reply.AgentID, SiteID: reply.SiteID, PlatformKey: reply.PlatformKey, UserJWT: reply.UserJWT}
	if err := s.check(id); err != nil {
		return fmt.Errorf("adopt identity: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.store(id)
}

// Renew replaces the JWT.
func (s *Store) Renew(userJWT string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := s.current
	id.UserJWT = userJWT
	if err := s.check(id); err != nil {
		return fmt.Errorf("renew identity: %w", err)
	}
	return s.store(id)
}

// check refuses a JWT that would not open anything to this agent.
func (s *Store) check(id Identity) error {
	claims, err := jwt.DecodeUserClaims(id.UserJWT)
	if err != nil {
		return fmt.Errorf("user JWT: %w", err)
	}
	if claims.Subject != s.public {
		return errors.New("user JWT: it is for another key")
	}
	if claims.Name != id.AgentID {
		return fmt.Errorf("user JWT: it is for %q", claims.Name)
	}
	return nil
}

// store puts an identity on disk before anybody sees it. The caller holds mu.
func (s *Store) store(id Identity) error {
	text, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		return fmt.Errorf("store identity: %w", err)
	}
	if err := atomicfile.Write(filepath.Join(s.dir, identityFile), append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("store identity: %w", err)
	}
	s.current = id
	return nil
}

// SignNonce answers the leaf's challenge.
func (s *Store) SignNonce(nonce []byte) ([]byte, error) {
	key, err := nkeys.FromSeed([]byte(s.seed))
	if err != nil {
		return nil, fmt.Errorf("agent key: %w", err)
	}
	defer key.Wipe()
	return key.Sign(nonce)
}

// SignReport signs what the agent has to tell.
func (s *Store) SignReport(payload []byte) (command.Signed, error) {
	signature, err := natsauth.SignReport(s.seed, payload)
	if err != nil {
		return command.Signed{}, err
	}
	return command.Signed{Payload: payload, Signature: signature, KeyID: s.public}, nil
}

// Validity is when the JWT was issued and when it ends; the end is zero if it does
// not end.
func (id Identity) Validity() (issued, expires time.Time, err error) {
	claims, err := jwt.DecodeUserClaims(id.UserJWT)
	if err != nil {
		return issued, expires, fmt.Errorf("user JWT: %w", err)
	}
	if claims.Expires > 0 {
		expires = time.Unix(claims.Expires, 0).UTC()
	}
	return time.Unix(claims.IssuedAt, 0).UTC(), expires, nil
}

// Enrolled reports whether there is an identity that can still open the leaf.
func (id Identity) Enrolled(now time.Time) bool {
	if id.AgentID == "" {
		return false
	}
	_, expires, err := id.Validity()
	return err == nil && (expires.IsZero() || now.Before(expires))
}
