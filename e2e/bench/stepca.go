package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// stepCA is a signing CA to be measured beside certctl: it keeps a record of what it
// issued, and has no inventory, jobs, audit or agents.
type stepCA struct {
	*process
	url, fingerprint string
	key              *ecdsa.PrivateKey
	client           *http.Client
}

func measureStepCA(ctx context.Context, b *bench) error {
	binary := filepath.Join(filepath.Dir(b.bin), ".bin", "step-ca")
	if _, err := os.Stat(binary); err != nil {
		b.add(result{Measure: "stepca", Case: "not measured", Note: "step-ca is not there; make bench builds it"})
		return nil
	}
	ca, err := startStepCA(ctx, binary, filepath.Join(b.dir, "stepca"))
	if err != nil {
		return err
	}
	defer ca.stop()
	for _, c := range clientCounts {
		ready := make([][]byte, b.many(c.requests))
		for i := range ready {
			if ready[i], err = ca.request(fmt.Sprintf("c%d-%d.bench.test", c.clients, i)); err != nil {
				return err
			}
		}
		before := ca.settle(ctx)
		times, took, err := load(ctx, c.clients, len(ready), func(ctx context.Context, i int) error { return ca.sign(ctx, ready[i]) })
		if err != nil {
			return err
		}
		after := ca.settle(ctx)
		b.add(figure("step-ca", fmt.Sprintf("sign over its API, %d clients", c.clients), times, took, after-before))
	}
	return nil
}

func startStepCA(ctx context.Context, binary, dir string) (*stepCA, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		return nil, err
	}
	ca := &stepCA{url: "https://" + address}
	roots, err := ca.write(dir, address)
	if err != nil {
		return nil, err
	}
	ca.client = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		MaxIdleConnsPerHost: 64, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
	}}
	if ca.process, err = start(ctx, filepath.Join(dir, "log"), nil, binary, filepath.Join(dir, "ca.json")); err != nil {
		return nil, err
	}
	deadline := time.Now().Add(startWithin)
	for {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, ca.url+"/health", http.NoBody)
		if err != nil {
			return nil, err
		}
		res, err := ca.client.Do(r)
		if err == nil {
			return ca, res.Body.Close()
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("step-ca did not start: %w", err)
		}
	}
}

// write makes a root, an intermediate and a configuration with one JWK provisioner.
func (ca *stepCA) write(dir, address string) (*x509.CertPool, error) {
	rootKey, err := newKey()
	if err != nil {
		return nil, err
	}
	root, err := certificate("Bench Root", rootKey, nil, nil)
	if err != nil {
		return nil, err
	}
	subKey, err := newKey()
	if err != nil {
		return nil, err
	}
	sub, err := certificate("Bench Intermediate", subKey, root, rootKey)
	if err != nil {
		return nil, err
	}
	if ca.key, err = newKey(); err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(subKey)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(root.Raw)
	ca.fingerprint = hex.EncodeToString(sum[:])
	config, err := json.Marshal(map[string]any{
		"root": filepath.Join(dir, "root.crt"), "crt": filepath.Join(dir, "sub.crt"), "key": filepath.Join(dir, "sub.key"),
		"address": address, "dnsNames": []string{"127.0.0.1"}, "logger": map[string]any{"format": "text"},
		"db": map[string]any{"type": "badgerv2", "dataSource": filepath.Join(dir, "db")},
		"authority": map[string]any{"disableIssuedAtCheck": true, "provisioners": []any{map[string]any{
			"type": "JWK", "name": "bench", "key": ca.jwk(),
		}}},
	})
	pool := x509.NewCertPool()
	pool.AddCert(root)
	return pool, errors.Join(err,
		os.WriteFile(filepath.Join(dir, "root.crt"), pemOf("CERTIFICATE", root.Raw), 0o600),
		os.WriteFile(filepath.Join(dir, "sub.crt"), pemOf("CERTIFICATE", sub.Raw), 0o600),
		os.WriteFile(filepath.Join(dir, "sub.key"), pemOf("PRIVATE KEY", keyDER), 0o600),
		os.WriteFile(filepath.Join(dir, "ca.json"), config, 0o600))
}

func newKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func certificate(name string, key *ecdsa.PrivateKey, parent *x509.Certificate, parentKey crypto.Signer) (*x509.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
	}
	if parent == nil {
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func (ca *stepCA) jwk() map[string]any {
	point, err := ca.key.PublicKey.Bytes()
	if err != nil {
		panic(err) // a P-256 key that was just made has coordinates
	}
	encode := base64.RawURLEncoding.EncodeToString
	return map[string]any{"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": "bench", "x": encode(point[1:33]), "y": encode(point[33:])}
}

// request is the body of a call to sign, with its one-time token.
func (ca *stepCA) request(name string) ([]byte, error) {
	csr, err := request(name)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	encode := base64.RawURLEncoding.EncodeToString
	head, err := json.Marshal(map[string]any{"alg": "ES256", "kid": "bench", "typ": "JWT"})
	if err != nil {
		return nil, err
	}
	claims, err := json.Marshal(map[string]any{
		"iss": "bench", "aud": ca.url + "/1.0/sign", "sub": name, "sans": []string{name}, "sha": ca.fingerprint,
		"nbf": now.Unix() - 10, "iat": now.Unix() - 10, "exp": now.Add(5 * time.Minute).Unix(), "jti": rand.Text(),
	})
	if err != nil {
		return nil, err
	}
	signed := encode(head) + "." + encode(claims)
	digest := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, ca.key, digest[:])
	if err != nil {
		return nil, err
	}
	signature := append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	return json.Marshal(map[string]string{"csr": csr, "ott": signed + "." + encode(signature)})
}

func (ca *stepCA) sign(ctx context.Context, body []byte) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, ca.url+"/1.0/sign", bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	res, err := ca.client.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusCreated {
		return fmt.Errorf("step-ca: HTTP %d: %.300s", res.StatusCode, text)
	}
	return nil
}
