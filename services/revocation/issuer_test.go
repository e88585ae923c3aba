package revocation_test

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/x509x"
)

// authority is a CA with its key.
type authority struct {
	t     *testing.T
	clock clock.Clock
	key   *ecdsa.PrivateKey
	cert  *x509.Certificate
}

func newAuthority(t *testing.T, c clock.Clock, name string) *authority {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: x509x.NewSerial(), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: c.Now().Add(-time.Hour), NotAfter: c.Now().Add(10 * 365 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	return &authority{t: t, clock: c, key: key, cert: create(t, template, template, key, key)}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func create(t *testing.T, template, parent *x509.Certificate, subject, signer *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &subject.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// leaf issues a certificate for a server.
func (a *authority) leaf() *x509.Certificate {
	a.t.Helper()
	return create(a.t, &x509.Certificate{
		SerialNumber: x509x.NewSerial(), Subject: pkix.Name{CommonName: "www.example.test"},
		NotBefore: a.clock.Now().Add(-time.Minute), NotAfter: a.clock.Now().Add(90 * 24 * time.Hour),
	}, a.cert, newKey(a.t), a.key)
}

func (a *authority) pem() string { return string(x509x.EncodeCertificates(a.cert)) }

// issuerService answers for CAs on the bus as the issuer service does.
type issuerService struct {
	t    *testing.T
	nc   *nats.Conn
	subs []*nats.Subscription

	mu          sync.Mutex
	authorities map[string]*authority // under mu, by issuer id
	signed      int                   // under mu: lists
	certified   int                   // under mu: responders
}

func (s *issuerService) put(id string, a *authority) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.authorities[id] = a
}

func (s *issuerService) counts() (signed, certified int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.signed, s.certified
}

// come begins to answer.
func (s *issuerService) come() {
	s.t.Helper()
	for operation, answer := range map[string]func(*authority, []byte) any{
		"signCRL": s.signCRL, "issueOCSPResponder": s.issueOCSPResponder,
	} {
		sub, err := s.nc.QueueSubscribe(subject.Operation("issuer", operation), "q", func(m *nats.Msg) {
			var about struct {
				IssuerID string `json:"issuer_id"`
				KeyID    string `json:"key_id"`
			}
			if err := json.Unmarshal(m.Data, &about); err != nil {
				s.t.Errorf("%s: %v", operation, err)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			var reply any = command.Reply[struct{}]{Fault: &command.Fault{Code: "precondition", Message: "it cannot do that"}}
			if a := s.authorities[cmp.Or(about.KeyID, about.IssuerID)]; a != nil {
				reply = answer(a, m.Data)
			}
			b, err := json.Marshal(reply)
			if err != nil {
				s.t.Error(err)
			}
			_ = m.Respond(b)
		})
		if err != nil {
			s.t.Fatal(err)
		}
		s.subs = append(s.subs, sub)
	}
	s.flush()
}

// leave stops answering, as an issuer service that is down.
func (s *issuerService) leave() {
	s.t.Helper()
	for _, sub := range s.subs {
		if err := sub.Unsubscribe(); err != nil {
			s.t.Fatal(err)
		}
	}
	s.subs = nil
	s.flush()
}

func (s *issuerService) flush() {
	if err := s.nc.FlushTimeout(patience); err != nil {
		s.t.Fatal(err)
	}
}

func (s *issuerService) signCRL(a *authority, request []byte) any {
	s.signed++
	var c command.SignCRL
	if err := json.Unmarshal(request, &c); err != nil {
		s.t.Error(err)
	}
	from, errFrom := time.Parse(time.RFC3339, c.ThisUpdate)
	to, errTo := time.Parse(time.RFC3339, c.NextUpdate)
	if errFrom != nil || errTo != nil || c.Entries == nil {
		s.t.Errorf("asked to sign %+v", c)
	}
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(c.Number), ThisUpdate: from.UTC(), NextUpdate: to.UTC(),
	}, a.cert, a.key)
	if err != nil {
		s.t.Error(err)
	}
	return command.Reply[command.SignedCRL]{Body: &command.SignedCRL{DER: der}}
}

func (s *issuerService) issueOCSPResponder(a *authority, request []byte) any {
	s.certified++
	var c command.IssueOCSPResponder
	if err := json.Unmarshal(request, &c); err != nil {
		s.t.Error(err)
	}
	csr, err := x509x.ParseCSR([]byte(c.CSRPEM))
	if err != nil {
		s.t.Error(err)
		return nil
	}
	template := &x509.Certificate{
		SerialNumber: x509x.NewSerial(), Subject: pkix.Name{CommonName: "OCSP"},
		NotBefore: a.clock.Now().Add(-time.Minute), NotAfter: a.clock.Now().Add(responderLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, csr.PublicKey, a.key)
	if err != nil {
		s.t.Error(err)
		return nil
	}
	responder, err := x509.ParseCertificate(der)
	if err != nil {
		s.t.Error(err)
		return nil
	}
	chain := string(x509x.EncodeCertificates(responder, a.cert))
	return command.Reply[command.OCSPResponder]{Body: &command.OCSPResponder{PEMChain: chain}}
}

const responderLife = 7 * 24 * time.Hour
