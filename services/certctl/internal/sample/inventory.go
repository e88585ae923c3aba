// Package sample makes a small believable inventory for people who want to look around: certificates in every state, of
// some teams and environments, with real versions that a CA of its own has signed, and agents, targets and jobs.
//
// Nothing of it is alive: no agent answers, nothing renews by itself, and the CA's key is thrown away as soon as it has
// signed. Every id begins with or holds "sample", so that what is made up is told from what is not.
package sample

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"time"
)

const day = 24 * time.Hour

// lifetime is that of a sample version.
const lifetime = 90 * day

// Certificate is one of the inventory. NotAfter is zero if it has no version.
type Certificate struct {
	ID, Name, CommonName, Environment, OwnerID, TeamID, TargetID string
	Status, Reason                                               string
	CreatedAt                                                    time.Time
	Versions                                                     []Version
}

// Version is a certificate that was signed.
type Version struct {
	ID, Serial, Fingerprint, SPKI, PEMChain, CSR string
	NotBefore, NotAfter                          time.Time
}

// Inventory is all of it.
type Inventory struct {
	CAChain      string
	Certificates []Certificate
	Targets      []Target
}

// Target is a place that no agent really looks after.
type Target struct{ ID, Name, AgentID, Host string }

// team is who runs some applications.
type team struct {
	id, name, owner, email string
	applications           []string
}

var teams = []team{
	{"t-sample-shop", "Shop", "Ada Okafor", "ada@shop.example", []string{"www", "checkout", "search", "images"}},
	{"t-sample-payments", "Payments", "Jonas Lind", "jonas@payments.example", []string{"api", "ledger", "gateway"}},
	{"t-sample-platform", "Platform", "Mei Tanaka", "mei@platform.example", []string{"git", "ci", "registry", "metrics", "vault"}},
}

var environments = []string{"production", "staging", "test"}

// life is a state and how its certificate came to it: how old its newest version is, and how many it has had.
type life struct {
	status, reason string
	age            time.Duration // of the newest version; none if versions is zero
	versions       int
}

// lives are dealt out one after the other, most certificates being well.
var lives = []life{
	{"Active", "", 5 * day, 3},
	{"Active", "", 20 * day, 2},
	{"Active", "", 41 * day, 1},
	{"Expiring", "renewal is due", 70 * day, 2},
	{"Active", "", 12 * day, 4},
	{"Pending", "waits for the agent to make a key", 0, 0},
	{"Active", "", 33 * day, 1},
	{"RenewalInProgress", "waits for the agent to make a key", 75 * day, 1},
	{"Expired", "its agent has been away since before its renewal", 95 * day, 1},
	{"Active", "", 2 * day, 5},
	{"Failed", "nginx: [emerg] host not found in upstream \"backend\"", 80 * day, 1},
	{"Revoked", "superseded", 30 * day, 2},
	{"Active", "", 50 * day, 1},
	{"Archived", "", 60 * day, 1},
}

// New makes the inventory as it would be at a time.
func New(now time.Time) (*Inventory, error) {
	ca, err := newAuthority(now)
	if err != nil {
		return nil, err
	}
	inv := &Inventory{CAChain: encode("CERTIFICATE", ca.cert.Raw)}
	for _, t := range teams {
		for _, application := range t.applications {
			for e, environment := range environments {
				n := len(inv.Certificates)
				host := strings.ToLower(t.name) + ".example"
				if e > 0 {
					host = environment + "." + host
				}
				host = application + "." + host
				target := Target{ID: fmt.Sprintf("tgt-sample-%02d", n), Name: host + " (sample)", AgentID: agentID(n % agents), Host: host}
				c, err := ca.certificate(n, lives[n%len(lives)], t, environment, host, now)
				if err != nil {
					return nil, err
				}
				c.TargetID = target.ID
				inv.Targets, inv.Certificates = append(inv.Targets, target), append(inv.Certificates, c)
			}
		}
	}
	return inv, nil
}

// agents is how many there are.
const agents = 6

func agentID(n int) string { return fmt.Sprintf("agent-sample-%d", n) }

type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(now time.Time) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "certctl sample CA (trust it with nothing)"},
		NotBefore: now.Add(-3650 * day), NotAfter: now.Add(3650 * day),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &authority{key: key, cert: cert}, err
}

func (a *authority) certificate(n int, l life, t team, environment, host string, now time.Time) (Certificate, error) {
	c := Certificate{
		ID: fmt.Sprintf("mc-sample-%02d", n), Name: host, CommonName: host, Environment: environment,
		OwnerID: "o-" + t.id[2:], TeamID: t.id, Status: l.status, Reason: l.reason, CreatedAt: now.Add(-time.Hour),
	}
	for i := range l.versions {
		// A version is renewed when two thirds of its life are over.
		begun := now.Add(-l.age - time.Duration(l.versions-1-i)*2*lifetime/3)
		v, err := a.sign(fmt.Sprintf("cv-sample-%02d-%d", n, i), host, begun)
		if err != nil {
			return c, err
		}
		if i == 0 {
			c.CreatedAt = begun.Add(-time.Minute)
		}
		c.Versions = append(c.Versions, v)
	}
	return c, nil
}

func (a *authority) sign(id, host string, begun time.Time) (Version, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Version{}, err
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: host}, DNSNames: []string{host}}, key)
	if err != nil {
		return Version{}, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return Version{}, err
	}
	begun = begun.Truncate(time.Second)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: begun, NotAfter: begun.Add(lifetime), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, a.cert, key.Public(), a.key)
	if err != nil {
		return Version{}, err
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return Version{}, err
	}
	return Version{
		ID: id, Serial: serial.Text(16), Fingerprint: digest(der), SPKI: digest(spki),
		PEMChain: encode("CERTIFICATE", der), CSR: encode("CERTIFICATE REQUEST", request),
		NotBefore: begun, NotAfter: begun.Add(lifetime),
	}, nil
}

func encode(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
