// Package keystore makes private keys and keeps them on the host they were made on.
//
// A key begins as a candidate, <certificate>.key.<job>-<attempt>, and becomes
// <certificate>.key only once a certificate for it is being served. So an order to
// make a key, sent again or answered late, never harms the key of the certificate that
// is in use. The key that it replaces is kept as <certificate>.previous.<hash>, so that an
// older certificate can take the place of the newest; of those the latest three stay. All
// files have mode 0600, are PKCS #8 in PEM, and are whole or not there.
//
// Nothing here hands a key to the bus. A Store is safe for concurrent use by one
// process.
package keystore

import (
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/agent/internal/atomicfile"
)

const (
	suffix = ".key"
	// previous stands before the hash of the public key of a key that was in use.
	previous = ".previous."
	// maxCandidates of one certificate. More than one may be under way: the order of an
	// attempt that was given up may still be answered with a certificate.
	maxCandidates = 4
	// maxPrevious is how many certificates back one can go.
	maxPrevious = 3
)

// Spec is the kind of key to make. Zero values are an ECDSA key on P-256, an RSA key
// of 2048 bits.
type Spec struct {
	Algorithm string
	Bits      int
}

// Store is a folder of keys.
type Store struct {
	dir string

	mu sync.Mutex // serializes changes of the folder
}

// Key is a private key.
type Key struct {
	Signer crypto.Signer
	PEM    []byte
	path   string
}

// Stored reports whether the key is a store's, and not one that was found elsewhere.
func (k Key) Stored() bool { return k.path != "" }

// Open makes the folder if there is none.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("key folder: %w", err)
	}
	if err := atomicfile.Sweep(dir); err != nil {
		return nil, fmt.Errorf("key folder: %w", err)
	}
	return &Store{dir: dir}, nil
}

// Make returns the candidate key of one attempt at a job, and makes it the first time
// it is asked. The oldest candidates of the certificate are deleted when there are too
// many. The error is fault.Invalid if there is no such kind of key.
func (s *Store) Make(certificateID, jobID string, attempt int, spec Spec) (Key, error) {
	if !subject.Token(certificateID) || !subject.Token(jobID) {
		return Key{}, fault.New(fault.Invalid, "certificate %q of job %q cannot name a key", certificateID, jobID)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	path := filepath.Join(s.dir, certificateID+suffix+"."+jobID+"-"+strconv.Itoa(attempt))
	key, err := load(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	signer, err := spec.generate()
	if err != nil {
		return Key{}, err
	}
	text, err := x509x.EncodePrivateKey(signer)
	if err != nil {
		return Key{}, err
	}
	if err := atomicfile.Write(path, text, 0o600); err != nil {
		return Key{}, fmt.Errorf("keep key: %w", err)
	}
	return Key{Signer: signer, PEM: text, path: path}, s.prune(certificateID+suffix+".", maxCandidates)
}

func (spec Spec) generate() (crypto.Signer, error) {
	switch spec.Algorithm {
	case "", x509x.ECDSA:
		curve, ok := map[int]elliptic.Curve{0: elliptic.P256(), 256: elliptic.P256(), 384: elliptic.P384(), 521: elliptic.P521()}[spec.Bits]
		if !ok {
			return nil, fault.New(fault.Invalid, "no ECDSA key has %d bits; 256, 384 and 521 are accepted", spec.Bits)
		}
		return ecdsa.GenerateKey(curve, rand.Reader)
	case x509x.RSA:
		bits := cmp.Or(spec.Bits, x509x.MinRSABits)
		if bits < x509x.MinRSABits || bits > x509x.MaxRSABits {
			return nil, fault.New(fault.Invalid, "an RSA key of %d bits is not made; %d to %d are accepted", bits, x509x.MinRSABits, x509x.MaxRSABits)
		}
		return rsa.GenerateKey(rand.Reader, bits)
	case x509x.Ed25519:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	default:
		return nil, fault.New(fault.Invalid, "the key algorithm %q is none of ECDSA, RSA and Ed25519", spec.Algorithm)
	}
}

// Find returns the key of a certificate that belongs to a public key. The error wraps
// fs.ErrNotExist if the store has none.
func (s *Store) Find(certificateID string, public crypto.PublicKey) (Key, error) {
	return s.find(certificateID, func(p crypto.PublicKey) bool { return x509x.SameKey(p, public) })
}

// FindHash returns the key of a certificate whose SubjectPublicKeyInfo has the SHA-256, in
// lower-case hex. The error is like that of Find.
func (s *Store) FindHash(certificateID, hash string) (Key, error) {
	return s.find(certificateID, func(p crypto.PublicKey) bool {
		info, err := x509.MarshalPKIXPublicKey(p)
		return err == nil && x509x.SPKIHash(info) == hash
	})
}

func (s *Store) find(certificateID string, suits func(crypto.PublicKey) bool) (Key, error) {
	if !subject.Token(certificateID) {
		return Key{}, fault.New(fault.Invalid, "the certificate %q cannot name a key", certificateID)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	candidates, err := s.files(certificateID + suffix + ".")
	if err != nil {
		return Key{}, err
	}
	former, err := s.files(certificateID + previous)
	if err != nil {
		return Key{}, err
	}
	var broken []error
	for _, path := range slices.Concat([]string{s.active(certificateID)}, candidates, former) {
		key, err := load(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			broken = append(broken, err)
		case suits(key.Signer.Public()):
			return key, nil
		}
	}
	if len(broken) > 0 {
		return Key{}, fmt.Errorf("keys of %s: %w", certificateID, errors.Join(broken...))
	}
	return Key{}, fmt.Errorf("keys of %s: %w", certificateID, fs.ErrNotExist)
}

// Promote makes a key that Find returned the key of its certificate in use, keeps the
// one that was, and deletes the candidates that are older. It may be repeated.
func (s *Store) Promote(certificateID string, key Key) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	active := s.active(certificateID)
	if key.path == active {
		return nil
	}
	made, err := os.Stat(key.path)
	if err != nil {
		return fmt.Errorf("promote key: %w", err)
	}
	if err := s.keep(certificateID); err != nil {
		return fmt.Errorf("promote key: %w", err)
	}
	if err := atomicfile.Rename(key.path, active); err != nil {
		return fmt.Errorf("promote key: %w", err)
	}
	candidates, err := s.files(certificateID + suffix + ".")
	if err != nil {
		return err
	}
	errs := []error{s.prune(certificateID+previous, maxPrevious)}
	for _, path := range candidates {
		if modified(path).Before(made.ModTime()) {
			errs = append(errs, atomicfile.Remove(path))
		}
	}
	return errors.Join(errs...)
}

// keep copies the key in use to where former ones are. One that cannot be read is of no
// use to anybody, and must not be in the way of the next.
func (s *Store) keep(certificateID string) error {
	key, err := load(s.active(certificateID))
	if err != nil {
		return nil //nolint:nilerr // there is nothing to keep
	}
	public, err := x509.MarshalPKIXPublicKey(key.Signer.Public())
	if err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(s.dir, certificateID+previous+x509x.SPKIHash(public)[:16]), key.PEM, 0o600)
}

func (s *Store) active(certificateID string) string {
	return filepath.Join(s.dir, certificateID+suffix)
}

// files lists the paths of the keys whose names begin with prefix, newest first.
func (s *Store) files(prefix string) ([]string, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("key folder: %w", err)
	}
	var paths []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) {
			paths = append(paths, filepath.Join(s.dir, e.Name()))
		}
	}
	slices.SortFunc(paths, func(a, b string) int { return modified(b).Compare(modified(a)) })
	return paths, nil
}

// prune deletes all but the newest of the keys whose names begin with prefix.
func (s *Store) prune(prefix string, most int) error {
	paths, err := s.files(prefix)
	if err != nil || len(paths) <= most {
		return err
	}
	var errs []error
	for _, path := range paths[most:] {
		errs = append(errs, atomicfile.Remove(path))
	}
	return errors.Join(errs...)
}

func modified(path string) time.Time {
	info, err := os.Stat(path)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

func load(path string) (Key, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Key{}, err
	}
	signer, err := x509x.ParsePrivateKey(text)
	if err != nil {
		return Key{}, fmt.Errorf("%s: %w", path, err)
	}
	return Key{Signer: signer, PEM: text, path: path}, nil
}
