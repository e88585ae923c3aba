// Package stepca issues certificates by a smallstep step-ca, over its own API rather than ACME: a request is signed
// for whoever holds a token that a JWK provisioner's key has signed.
//
// The CA is known by the fingerprint of its root, and nothing it says is believed before TLS has led there. The
// provisioner's key is opened once, with its password, and stays in this process. What comes back is held against what
// was asked for.
//
// Renewing is issuing again, with a new key: step-ca's own renewal wants the old key in a TLS handshake, and that never
// leaves its host. Lifetimes are the CA's to bound: one that is longer than its provisioner allows is Invalid.
package stepca

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca"
)

// Config says which CA, and in whose name.
type Config struct {
	// URL is the CA's, such as https://ca.example.org:9000.
	URL string
	// RootFingerprint is the SHA-256 of the root's DER in hex, as `step certificate fingerprint` prints it. Empty believes
	// whom this machine trusts.
	RootFingerprint string
	// Provisioner is the name of a provisioner of type JWK.
	Provisioner string
	// Key is its private key, as a JWK or as the encrypted JWE that step writes; empty takes the encrypted one that the
	// CA itself hands out.
	Key []byte
	// Password opens an encrypted key.
	Password []byte
	// Lifetime is the most that is asked for; zero leaves it to the request, and then to the provisioner.
	Lifetime time.Duration
}

// Authority is a step-ca. It is safe for concurrent use.
type Authority struct {
	api         *api
	clock       clock.Clock
	provisioner *provisioner
	lifetime    time.Duration
	chain       []*x509.Certificate
	root        *x509.Certificate
}

// Open connects to the CA, checks its root and opens the provisioner's key. Its error says which of these failed:
// Invalid if the configuration is wrong, Unavailable if the CA cannot be reached.
func Open(ctx context.Context, cfg Config, c clock.Clock) (*Authority, error) {
	base, err := url.Parse(cfg.URL)
	if err != nil || base.Scheme != "https" || base.Host == "" {
		return nil, fault.InvalidFields(fault.Field{Name: "url", Reason: "must be of the form https://host:port"})
	}
	base.Path, base.RawQuery = strings.TrimSuffix(base.Path, "/"), ""
	root, err := fetchRoot(ctx, base, cfg.RootFingerprint)
	if err != nil {
		return nil, err
	}
	a := &Authority{api: newAPI(base, root), clock: c, root: root, lifetime: cfg.Lifetime}
	if a.provisioner, err = a.open(ctx, cfg); err != nil {
		return nil, err
	}
	if a.chain, err = a.issuers(ctx); err != nil {
		return nil, err
	}
	return a, nil
}

// issuers asks for the certificates between leaf and root.
func (a *Authority) issuers(ctx context.Context) ([]*x509.Certificate, error) {
	var answer struct {
		Certificates []string `json:"crts"`
	}
	err := a.api.call(ctx, http.MethodGet, "/intermediates", nil, &answer)
	if err != nil {
		return nil, err
	}
	if len(answer.Certificates) == 0 {
		return []*x509.Certificate{a.root}, nil
	}
	chain, err := x509x.ParseCertificates([]byte(strings.Join(answer.Certificates, "\n")))
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "the CA's intermediate certificates cannot be read")
	}
	return append(chain, a.root), nil
}

// Chain implements [ca.Issuer].
func (a *Authority) Chain() []*x509.Certificate { return a.chain }

// signed is the CA's answer to a request.
type signed struct {
	Leaf  string   `json:"crt"`
	Above string   `json:"ca"`
	Chain []string `json:"certChain"`
}

// Issue implements [ca.Issuer].
func (a *Authority) Issue(ctx context.Context, r ca.Request) (ca.Issued, error) {
	r = r.Within(a.lifetime)
	now := a.clock.Now()
	named, err := subject(r)
	if err != nil {
		return ca.Issued{}, err
	}
	token, err := a.provisioner.token(a.api.base.String()+"/1.0/sign", named, r.Names.Values(), now)
	if err != nil {
		return ca.Issued{}, err
	}
	request := map[string]any{"csr": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: r.CSR.Raw})), "ott": token}
	if r.Lifetime > 0 {
		request["notAfter"] = now.Add(r.Lifetime).UTC().Format(time.RFC3339)
	}
	var answer signed
	if err := a.api.call(ctx, http.MethodPost, "/1.0/sign", request, &answer); err != nil {
		return ca.Issued{}, err
	}
	if len(answer.Chain) == 0 {
		answer.Chain = []string{answer.Leaf, answer.Above}
	}
	return ca.Accept(r, []byte(strings.Join(answer.Chain, "\n")), []*x509.Certificate{a.root}, now)
}

// maxSubject is X.520's upper bound of a common name.
const maxSubject = 64

// subject is the subject that the certificate gets: the request's, which step-ca compares, or else the first name that
// can be one.
func subject(r ca.Request) (string, error) {
	candidates := r.Names.Values()
	if cn := r.CSR.Subject.CommonName; cn != "" {
		candidates = []string{cn}
	}
	for _, name := range candidates {
		if len(name) <= maxSubject {
			return name, nil
		}
	}
	return "", fault.New(fault.Invalid,
		"step-ca makes the common name the subject, which has at most %d characters; send a request without a common name and with a shorter name among its alternative names", maxSubject)
}

// Revoke implements [ca.Revoker]. The CA tells of it in its CRL if it keeps one, and refuses to renew the certificate.
func (a *Authority) Revoke(ctx context.Context, r ca.Revocation) error {
	serial := r.Serial.String() // step-ca names serial numbers in decimal
	token, err := a.provisioner.token(a.api.base.String()+"/1.0/revoke", serial, nil, a.clock.Now())
	if err != nil {
		return err
	}
	err = a.api.call(ctx, http.MethodPost, "/1.0/revoke", map[string]any{
		"serial": serial, "ott": token, "reasonCode": r.Reason, "reason": "revoked by certctl", "passive": true,
	}, nil)
	var refused *refusal
	if errors.As(err, &refused) && strings.Contains(refused.message, "already revoked") {
		return nil
	}
	return err
}

const notAFingerprint = "must be the SHA-256 of the root certificate, 64 hex digits"

// normal returns a fingerprint in lower-case hex, nothing if it is none.
func normal(fingerprint string) string {
	fingerprint = strings.ToLower(strings.ReplaceAll(strings.TrimSpace(fingerprint), ":", ""))
	if len(fingerprint) != 64 || strings.Trim(fingerprint, "0123456789abcdef") != "" {
		return ""
	}
	return fingerprint
}

// trustedRoot asks a CA that this machine trusts for its root.
func trustedRoot(ctx context.Context, base *url.URL) (*x509.Certificate, error) {
	var answer struct {
		Certificates []string `json:"crts"`
	}
	trusting := withTLS(base, &tls.Config{MinVersion: tls.VersionTLS12})
	defer trusting.client.CloseIdleConnections()
	err := trusting.call(ctx, http.MethodGet, "/roots", nil, &answer)
	if _, unknown := errors.AsType[x509.UnknownAuthorityError](err); unknown {
		return nil, fault.InvalidFields(fault.Field{Name: SettingFingerprint, Reason: "is required: this machine does not trust the CA at " + base.Host})
	}
	if err != nil {
		return nil, err
	}
	certs, err := x509x.ParseCertificates([]byte(strings.Join(answer.Certificates, "\n")))
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "the CA's root certificate cannot be read")
	}
	return certs[0], nil
}

// fetchRoot asks for the root by its fingerprint, before the CA's TLS certificate can be verified, and believes only
// what has that fingerprint.
func fetchRoot(ctx context.Context, base *url.URL, fingerprint string) (*x509.Certificate, error) {
	if fingerprint == "" {
		return trustedRoot(ctx, base)
	}
	if fingerprint = normal(fingerprint); fingerprint == "" {
		return nil, fault.InvalidFields(fault.Field{Name: SettingFingerprint, Reason: notAFingerprint})
	}
	var answer struct {
		CA string `json:"ca"`
	}
	doubting := unverified(base)
	defer doubting.client.CloseIdleConnections()
	if err := doubting.call(ctx, http.MethodGet, "/root/"+fingerprint, nil, &answer); err != nil {
		var refused *refusal
		if errors.As(err, &refused) && refused.status == http.StatusNotFound {
			if refused.message == "" {
				return nil, fault.InvalidFields(fault.Field{Name: SettingURL, Reason: "leads to no step-ca: HTTP 404 is answered there"})
			}
			return nil, fault.InvalidFields(fault.Field{Name: "root_fingerprint", Reason: "is of no root of the CA at " + base.Host})
		}
		return nil, err
	}
	certs, err := x509x.ParseCertificates(bytes.TrimSpace([]byte(answer.CA)))
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "the CA's root certificate cannot be read")
	}
	if got := x509x.Fingerprint(certs[0].Raw); got != fingerprint {
		return nil, fault.New(fault.Unavailable, "the CA at %s shows a root with the fingerprint %s, which is not the one that it is known by", base.Host, got)
	}
	return certs[0], nil
}

func attempt(what string, err error) error { return fmt.Errorf("%s: %w", what, err) }
