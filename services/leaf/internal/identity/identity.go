// Package identity keeps who a leaf is: its own key, made on this host, and what it
// was given for it when it enrolled.
//
// Everything is in one file with mode 0600, replaced whole at each change, so that a
// leaf starts, and authenticates its agents, however long the hub has been away. The
// key is on disk before its public half is sent anywhere: an enrolment that was cut
// short is repeated with the same key.
package identity

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/nats-io/nkeys"

	"github.com/certctl/certctl/libs/atomicfile"
	"github.com/certctl/certctl/libs/natsauth"
)

const fileName = "identity.json"

// Identity is a leaf's key and what was given for it.
type Identity struct {
	SiteID string `json:"site_id"`
	// Seed is the leaf's own nkey and never leaves the host.
	Seed string `json:"seed"`
	// LeafJWT is for the link to the hub. It is renewed daily and expires.
	LeafJWT string `json:"leaf_jwt,omitempty"`
	// RelayJWT is for the leaf's connection to its own server. It does not expire.
	RelayJWT    string `json:"relay_jwt,omitempty"`
	OperatorJWT string `json:"operator_jwt,omitempty"`
	// AccountKey names account EDGE, AccountJWT is its newest JWT that reached here.
	AccountKey string   `json:"account_key,omitempty"`
	AccountJWT string   `json:"account_jwt,omitempty"`
	HubURLs    []string `json:"hub_urls,omitempty"`
}

// Enrolled tells whether the leaf has been given all that it needs.
func (i Identity) Enrolled() bool {
	return i.LeafJWT != "" && i.RelayJWT != "" && i.OperatorJWT != "" && i.AccountJWT != ""
}

// PublicKey is the public half of the leaf's key.
func (i Identity) PublicKey() (string, error) {
	return natsauth.Credentials{Seed: i.Seed}.PublicKey()
}

// Sign signs the nonce of a server.
func (i Identity) Sign(nonce []byte) ([]byte, error) {
	key, err := nkeys.FromSeed([]byte(i.Seed))
	if err != nil {
		return nil, fmt.Errorf("leaf key: %w", err)
	}
	defer key.Wipe()
	return key.Sign(nonce)
}

// Store is the identity on disk. It is safe for concurrent use.
type Store struct {
	path string

	mu      sync.RWMutex
	current Identity // guarded by mu; always what the file holds
}

// Open reads the identity of a site's leaf from a directory, or begins one with a new
// key. A directory that holds another site's identity is refused.
func Open(dir, siteID string) (*Store, error) {
	s := &Store{path: filepath.Join(dir, fileName)}
	data, err := os.ReadFile(s.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		seed, _, err := natsauth.NewUserKey()
		if err != nil {
			return nil, fmt.Errorf("leaf identity: %w", err)
		}
		return s, s.write(Identity{SiteID: siteID, Seed: seed})
	case err != nil:
		return nil, fmt.Errorf("leaf identity: %w", err)
	}
	if err := json.Unmarshal(data, &s.current); err != nil {
		return nil, fmt.Errorf("leaf identity %s: %w", s.path, err)
	}
	if s.current.SiteID != siteID {
		return nil, fmt.Errorf("leaf identity %s is that of site %s, not of %s", s.path, s.current.SiteID, siteID)
	}
	return s, nil
}

// Current is the newest identity.
func (s *Store) Current() Identity {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.current
}

// Update changes the identity. Nobody sees the change before it is on disk, and if
// change or the disk fails there is none.
func (s *Store) Update(change func(*Identity) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.current
	if err := change(&next); err != nil {
		return err
	}
	return s.write(next)
}

// write is called with mu held, or before the store is shared.
func (s *Store) write(next Identity) error {
	data, err := json.MarshalIndent(next, "", "  ")
	if err != nil {
		return fmt.Errorf("leaf identity: %w", err)
	}
	if err := atomicfile.Write(s.path, data, 0o600); err != nil {
		return fmt.Errorf("leaf identity: %w", err)
	}
	s.current = next
	return nil
}
