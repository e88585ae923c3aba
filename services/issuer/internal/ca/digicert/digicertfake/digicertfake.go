// Package digicertfake is a stand-in for DigiCert's CertCentral, as far as the connector asks it: the Services API v2 with
// one account, two products, an organisation, orders, downloads and revocations.
//
// It is a fake, and no part of DigiCert. It follows what DigiCert documents of the API: the paths below /services/v2, the
// header X-DC-DEVKEY, the fields of orders (certificate, order_validity, organization, payment_method, skip_approval,
// alternative_order_id), the states needs_approval, pending, issued, rejected, canceled and revoked, the error bodies
// {"errors":[{"code","message"}]}, orders found by their alternative_order_id (which need not be unique), the download as
// pem_all, revocations that are done (204) or wait for approval (201), and 429 with request_limit_exceeded. That validity
// runs from midnight to the second before midnight is as its certificates show it. Where the documentation is silent, as
// about the codes of most errors, it is made up; so the connector goes by statuses. An order is decided when it has been
// looked at often enough, since a fake has no validation staff and a test no time.
package digicertfake

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"

	"github.com/certctl/certctl/libs/x509x"
)

// What every account has.
const (
	APIKey         = "fake-devkey-0123456789"
	OrganizationID = 112233
	Organization   = "Fake Company Inc."
	ContainerID    = 14
	ProductOV      = "ssl_basic"
	ProductDV      = "ssl_dv_geotrust"
)

// Server is a fake. Its methods may be called while it serves.
type Server struct {
	*httptest.Server
	// Root signs Issuing, which signs certificates.
	Root, Issuing *x509.Certificate
	key           *ecdsa.PrivateKey

	mu       sync.Mutex
	orders   []*order  // guarded by mu
	nextID   int64     // guarded by mu
	looks    int       // guarded by mu; after how many an order is decided
	approves bool      // guarded by mu; whether the key may skip approvals
	dropped  int       // guarded by mu; how many orders more are taken and not answered
	meddle   Meddler   // guarded by mu
	inactive bool      // guarded by mu; whether the organization is
	added    string    // guarded by mu; a name that every certificate gets besides
	revokes  []Revoked // guarded by mu
}

// Meddler answers a call in the place of the server; it returns false for those that it leaves alone.
type Meddler func(w http.ResponseWriter, r *http.Request) bool

// Revoked is a revocation that was asked for.
type Revoked struct{ Serial, Reason string }

type order struct {
	id, certificateID int64
	mark, status      string
	note              string
	looks             int
	request           orderRequest
	der               []byte
	serial            string
	revoked           bool
	placed            time.Time
}

// Start starts a server whose orders are decided at the second look. Close ends it.
func Start() (*Server, error) {
	s := &Server{nextID: 1000000, looks: 2, approves: true}
	rootKey, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return nil, err
	}
	if s.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	if s.Root, err = authority("Fake Global Root G9", &rootKey.PublicKey, nil, rootKey); err != nil {
		return nil, err
	}
	if s.Issuing, err = authority("Fake G9 TLS ECC SHA256 CA1", &s.key.PublicKey, s.Root, rootKey); err != nil {
		return nil, err
	}
	s.Server = httptest.NewServer(s.handler())
	return s, nil
}

func authority(name string, key *ecdsa.PublicKey, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: x509x.NewSerial(), Subject: pkix.Name{Country: []string{"US"}, Organization: []string{"Fake CertCentral"}, CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	if parent == nil {
		parent = template
	} else {
		template.MaxPathLenZero = true
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key, signer)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// BaseURL is what an issuer is set up with.
func (s *Server) BaseURL() string { return s.URL + "/services/v2" }

// DecideAfter has orders that are placed from now on decided when they have been looked at so often.
func (s *Server) DecideAfter(looks int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks = looks
}

// NeedApproval takes the right to skip approvals away from the key.
func (s *Server) NeedApproval() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.approves = false
}

// Deactivate deactivates the organization.
func (s *Server) Deactivate() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inactive = true
}

// AddName has certificates hold one more name, as a product may be set to do with www.
func (s *Server) AddName(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.added = name
}

// Drop has so many orders taken whose answers are lost, for the connection breaks.
func (s *Server) Drop(orders int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropped = orders
}

// Meddle lets a function answer calls first.
func (s *Server) Meddle(f Meddler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.meddle = f
}

// Orders tells how many orders were taken.
func (s *Server) Orders() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.orders)
}

// Approve approves every order that waits for it.
func (s *Server) Approve() {
	s.each(func(o *order) {
		if o.status == "needs_approval" {
			o.status = "pending"
		}
	})
}

// Decide gives every order that is not decided yet a state, with what was said about it.
func (s *Server) Decide(status, note string) {
	s.each(func(o *order) {
		if o.status == "pending" || o.status == "needs_approval" {
			o.status, o.note = status, note
		}
	})
}

func (s *Server) each(f func(*order)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.orders {
		f(o)
	}
}

// Revocations are those that were done, in order.
func (s *Server) Revocations() []Revoked {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Revoked(nil), s.revokes...)
}

// Limit has so many calls answered as ones too many.
func (s *Server) Limit(calls int, retryAfter string) {
	s.Meddle(func(w http.ResponseWriter, _ *http.Request) bool {
		if calls <= 0 {
			return false
		}
		calls--
		if retryAfter != "" {
			w.Header().Set("Retry-After", retryAfter)
		}
		Refuse(w, http.StatusTooManyRequests, "request_limit_exceeded", "Service unavailable, please limit request volume")
		return true
	})
}

// Refuse answers with an error as the server does.
func Refuse(w http.ResponseWriter, status int, code, message string) {
	answer(w, status, map[string]any{"errors": []map[string]string{{"code": code, "message": message}}})
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

func hexSerial(n *big.Int) string {
	text := strings.ToUpper(n.Text(16))
	if len(text)%2 == 1 {
		text = "0" + text
	}
	return text
}
