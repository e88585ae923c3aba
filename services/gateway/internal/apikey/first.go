package apikey

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/certctl/certctl/libs/atomicfile"
	"github.com/certctl/certctl/libs/authn"
)

// FirstID is the id of the key that a fresh installation begins with.
const FirstID = "key-first-admin"

const existsRole = `SELECT EXISTS (SELECT FROM api_keys WHERE revoked_at IS NULL AND $1 = ANY (roles))`

// First makes sure that somebody can get in: unless a key of the role exists, it makes
// one and leaves it in file with mode 0600. The file is written before the key counts,
// so a crash between the two leaves a key that the next start makes good, never one
// that nobody has seen. It reports whether the key is new.
func (s *Store) First(ctx context.Context, file, role string) (bool, error) {
	var exists bool
	if err := s.pool.QueryRow(ctx, existsRole, role).Scan(&exists); err != nil {
		return false, fmt.Errorf("look for an API key with the role %s: %w", role, err)
	}
	if exists {
		return false, nil
	}
	key, err := loadOrWrite(file)
	if err != nil {
		return false, err
	}
	return s.CreateFirst(ctx, FirstID, key, role)
}

func loadOrWrite(file string) (string, error) {
	b, err := os.ReadFile(file)
	if err == nil {
		if key := strings.TrimSpace(string(b)); strings.HasPrefix(key, authn.KeyPrefix) {
			return key, nil
		}
		return "", fmt.Errorf("%s holds no API key; move it away", file)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read the first API key: %w", err)
	}
	key := authn.NewKey()
	if err := atomicfile.Write(file, []byte(key+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("write the first API key: %w", err)
	}
	return key, nil
}
