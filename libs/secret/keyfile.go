package secret

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/certctl/certctl/libs/atomicfile"
)

const maxKeyFile = 16 << 10

// Key is a sealing key. It prints as a placeholder.
type Key [32]byte

// String hides the key.
func (Key) String() string { return "[sealing key]" }

// GoString hides the key.
func (Key) GoString() string { return "[sealing key]" }

// NewKey returns a random key.
func NewKey() Key {
	var k Key
	// crypto/rand.Read never returns an error; it ends the process instead.
	_, _ = rand.Read(k[:])
	return k
}

// Open returns a Sealer with the keys of a key file: one a line, in base64, the current one first. It refuses a file
// that others may read: the mode must be 0600 or stricter, or 0640 if root owns the file (as a mounted secret has it).
func Open(path string) (*Sealer, error) {
	keys, err := readKeys(path)
	if err != nil {
		return nil, fmt.Errorf("sealing key %s: %w", path, err)
	}
	return New(keys[0], keys[1:]...), nil
}

// LoadOrCreateKey does as Open and, if there is no such file, first makes one with a fresh key and mode 0600. When it
// returns, the file will survive a power failure. Of several processes that start at once all get the same key.
func LoadOrCreateKey(path string) (*Sealer, error) {
	s, err := Open(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	if err := createKey(path); err != nil {
		return nil, fmt.Errorf("create sealing key %s: %w", path, err)
	}
	return Open(path)
}

func readKeys(path string) ([]Key, error) {
	b, err := ReadPrivate(path, maxKeyFile)
	if err != nil {
		return nil, err
	}
	return parseKeys(b)
}

// ReadPrivate reads a file of at most limit bytes that holds a secret. It refuses one that others may read, by the rule of
// Open. Its errors name neither the path, but for one that cannot be opened, nor anything of what it holds.
func ReadPrivate(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > limit {
		return nil, fmt.Errorf("is no file of at most %d bytes", limit)
	}
	if !private(info) {
		return nil, fmt.Errorf("may be read by others (mode %04o); chmod it to 0600", info.Mode().Perm())
	}
	b := make([]byte, info.Size())
	if _, err := f.ReadAt(b, 0); err != nil {
		return nil, err
	}
	return b, nil
}

func parseKeys(b []byte) ([]Key, error) {
	var keys []Key
	for i, line := range bytes.Split(b, []byte("\n")) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		raw, err := base64.StdEncoding.DecodeString(string(line))
		if err != nil || len(raw) != len(Key{}) {
			return nil, fmt.Errorf("line %d is not a key of 32 bytes in base64", i+1)
		}
		keys = append(keys, Key(raw))
	}
	if len(keys) == 0 {
		return nil, errors.New("holds no key")
	}
	return keys, nil
}

// createKey writes a temporary file and links it into place, so that the name never shows half a key, and so that a
// second creator finds the name taken.
func createKey(path string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".sealing-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	k := NewKey()
	_, err = f.WriteString(base64.StdEncoding.EncodeToString(k[:]) + "\n")
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return atomicfile.SyncDir(dir)
}
