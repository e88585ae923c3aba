// Package vaultfake is a stand-in for a HashiCorp Vault or an OpenBao, as far as the connector asks one: the PKI secrets
// engine with one role, token and AppRole authentication, namespaces and policies, over TLS, with the paths, status codes
// and error bodies of the real one. It is a fake: it is not the real server, and tests against it prove that the
// connector keeps to the protocol as its documentation and source have it, and no more.
package vaultfake

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"sync"
	"time"

	"github.com/certctl/certctl/libs/x509x"
)

// What every server has.
const (
	Mount     = "pki/web"
	Namespace = "team-a"
	Token     = "hvs.fake-token"
	RoleID    = "fake-role-id"
	SecretID  = "fake-secret-id"
	RoleName  = "web"
)

// Role says what may be issued, in the words of the engine.
type Role struct {
	UseCSRCommonName, UseCSRSANs, RequireCN bool
	TTL, MaxTTL, NotBeforeDuration          time.Duration
	// Forbidden is a name that the role does not allow.
	Forbidden string
}

// Server is a fake. Its methods may be called while it serves.
type Server struct {
	*httptest.Server
	// Root signs Issuing, which signs certificates.
	Root, Issuing *x509.Certificate
	key           *ecdsa.PrivateKey

	mu           sync.Mutex
	role         Role                                          // guarded by mu
	tokens       map[string]bool                               // guarded by mu; whether a policy lets it sign
	certificates map[string]*issued                            // guarded by mu; by serial number with colons
	logins       int                                           // guarded by mu
	meddle       func(w http.ResponseWriter, path string) bool // guarded by mu
}

type issued struct {
	revoked time.Time
}

// Start starts a server with a role as docs/how-to/issuers.md has it. Close ends it.
func Start() (*Server, error) {
	s := &Server{
		role:   Role{TTL: 24 * time.Hour, MaxTTL: 90 * 24 * time.Hour, NotBeforeDuration: 5 * time.Minute},
		tokens: map[string]bool{Token: true}, certificates: map[string]*issued{},
	}
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	if s.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	if s.Root, err = authority("Vault Root", &rootKey.PublicKey, nil, rootKey); err != nil {
		return nil, err
	}
	if s.Issuing, err = authority("Vault Issuing", &s.key.PublicKey, s.Root, rootKey); err != nil {
		return nil, err
	}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	// It has nothing to say of clients that do not trust it.
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.StartTLS()
	return s, nil
}

func authority(name string, key *ecdsa.PublicKey, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: x509x.NewSerial(), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(5, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key, signer)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// Trust is the PEM of the certificate that the server's TLS shows.
func (s *Server) Trust() string { return string(x509x.EncodePEM(s.Certificate().Raw)) }

// SetRole changes the role.
func (s *Server) SetRole(change func(*Role)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.role)
}

// Expire makes every token that was given for the AppRole worthless.
func (s *Server) Expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens = map[string]bool{Token: s.tokens[Token]}
}

// Deny takes the right to sign away from Token, which stays valid.
func (s *Server) Deny() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens[Token] = false
}

// Logins tells how often an AppRole has logged in.
func (s *Server) Logins() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.logins
}

// Revoked tells whether a certificate is revoked.
func (s *Server) Revoked(serial *big.Int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.certificates[colons(serial)]
	return c != nil && !c.revoked.IsZero()
}

// Meddle lets a function answer calls first; it returns false for those that it leaves alone.
func (s *Server) Meddle(f func(w http.ResponseWriter, path string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.meddle = f
}

// Seal has the server answer as a sealed one does, until it is unsealed.
func (s *Server) Seal(sealed bool) {
	if !sealed {
		s.Meddle(nil)
		return
	}
	s.Meddle(func(w http.ResponseWriter, _ string) bool {
		Refuse(w, http.StatusServiceUnavailable, "Vault is sealed")
		return true
	})
}

// Refuse answers with errors as the server does.
func Refuse(w http.ResponseWriter, status int, errors ...string) {
	answer(w, status, map[string]any{"errors": append([]string{}, errors...)})
}

func answer(w http.ResponseWriter, status int, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		status, text = http.StatusInternalServerError, []byte(err.Error())
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(text)
}

// data answers as a read or a write of a secrets engine does.
func data(w http.ResponseWriter, data map[string]any, warnings ...string) {
	answer(w, http.StatusOK, map[string]any{
		"request_id": "00000000-0000-4000-8000-000000000000", "lease_id": "", "renewable": false, "lease_duration": 0,
		"data": data, "wrap_info": nil, "warnings": warnings, "auth": nil,
	})
}
