package jwt

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/obs"
)

const (
	// freshFor is for how long keys are used before they are read again: a key that the
	// issuer has withdrawn is good that much longer.
	freshFor = 15 * time.Minute
	// goodFor is for how long keys are used that cannot be read again.
	goodFor = 24 * time.Hour
	// pause lies between two readings, however many tokens name keys that are not known.
	pause        = 30 * time.Second
	fetchTimeout = 5 * time.Second
	maxKeySet    = 1 << 20
	minRSABits   = 2048
	maxRedirects = 3
)

// keySet are the keys that an issuer publishes. It is safe for concurrent use.
type keySet struct {
	from   *url.URL
	client *http.Client
	clock  clock.Clock
	log    *slog.Logger

	reading sync.Mutex // held by whoever reads the keys

	mu    sync.Mutex
	keys  []jose.JSONWebKey // under mu
	read  time.Time         // under mu: when keys were read
	tried time.Time         // under mu: when that was tried last
}

func newKeySet(from *url.URL, c clock.Clock, log *slog.Logger) *keySet {
	return &keySet{from: from, clock: c, log: log, client: &http.Client{
		// Readings are far apart.
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true},
		Timeout:   fetchTimeout,
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects {
				return errors.New("too many redirects")
			}
			return trusted(r.URL)
		},
	}}
}

// candidates are the keys that a token with this header may be signed with.
func (s *keySet) candidates(ctx context.Context, header jose.Header) ([]any, error) {
	keys, read, tried := s.known()
	found := fitting(keys, header)
	now := s.clock.Now()
	if due := now.Sub(tried) >= pause; due && len(found) == 0 {
		s.reading.Lock()
		s.refresh(ctx, tried)
		s.reading.Unlock()
	} else if due && now.Sub(read) >= freshFor && s.reading.TryLock() {
		// One caller waits for the issuer; the others go on with the keys that there are.
		s.refresh(ctx, tried)
		s.reading.Unlock()
	}
	keys, read, _ = s.known()
	if len(keys) == 0 || now.Sub(read) >= goodFor {
		return nil, fault.New(fault.Unavailable, "the keys of the tokens' issuer cannot be read, so no token can be checked")
	}
	if found = fitting(keys, header); len(found) == 0 {
		return nil, fault.New(fault.Unauthenticated, "the token is signed with a key that its issuer does not publish")
	}
	return found, nil
}

func (s *keySet) known() (keys []jose.JSONWebKey, read, tried time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keys, s.read, s.tried
}

// refresh reads the keys, unless somebody has since the caller looked. What cannot be read
// leaves the keys as they were. The caller holds reading.
func (s *keySet) refresh(ctx context.Context, seen time.Time) {
	if _, _, tried := s.known(); !tried.Equal(seen) {
		return
	}
	// The keys are for all, whoever happens to wait for them.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTimeout)
	defer cancel()
	keys, err := s.fetch(ctx)
	if err != nil {
		s.log.Warn("the keys of the tokens' issuer cannot be read", "url", s.from.Redacted(), obs.KeyError, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tried = s.clock.Now()
	if err == nil {
		s.keys, s.read = keys, s.tried
	}
}

func (s *keySet) fetch(ctx context.Context) ([]jose.JSONWebKey, error) {
	body, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.NewDecoder(io.LimitReader(body, maxKeySet)).Decode(&set); err != nil {
		return nil, fmt.Errorf("read the key set: %w", err)
	}
	var keys []jose.JSONWebKey
	for _, raw := range set.Keys {
		var k jose.JSONWebKey
		// Keys of kinds that are not known here are for others.
		if err := k.UnmarshalJSON(raw); err == nil && k.Valid() && k.IsPublic() {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("the key set holds no public key that can be used")
	}
	return keys, nil
}

func (s *keySet) open(ctx context.Context) (io.ReadCloser, error) {
	if s.from.Scheme == "file" {
		return os.Open(s.from.Path)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.from.String(), nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/jwk-set+json, application/json")
	res, err := s.client.Do(r)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		res.Body.Close()
		return nil, fmt.Errorf("the issuer answers %s", res.Status)
	}
	return res.Body, nil
}

// fitting are the keys of a set that may have signed what has this header.
func fitting(keys []jose.JSONWebKey, header jose.Header) []any {
	var found []any
	for _, k := range keys {
		named := header.KeyID == "" || k.KeyID == header.KeyID
		signs := k.Use == "" || k.Use == "sig"
		if named && signs && (k.Algorithm == "" || k.Algorithm == header.Algorithm) && suits(k.Key, jose.SignatureAlgorithm(header.Algorithm)) {
			found = append(found, k.Key)
		}
	}
	return found
}

var (
	byRSA   = []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512}
	byCurve = map[jose.SignatureAlgorithm]int{jose.ES256: 256, jose.ES384: 384, jose.ES512: 521}
)

// suits reports whether a key is of the kind and strength that an algorithm takes
// (RFC 7518 section 3, RFC 8725 section 3.2).
func suits(key any, algorithm jose.SignatureAlgorithm) bool {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return slices.Contains(byRSA, algorithm) && k.N.BitLen() >= minRSABits
	case *ecdsa.PublicKey:
		return k.Params().BitSize == byCurve[algorithm]
	case ed25519.PublicKey:
		return algorithm == jose.EdDSA
	}
	return false
}
