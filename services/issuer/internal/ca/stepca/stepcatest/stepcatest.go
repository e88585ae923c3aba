// Package stepcatest runs a real step-ca for tests: a root, an intermediate and a JWK provisioner whose key is
// encrypted with a password, on loopback, in a folder that goes with the test.
package stepcatest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca/catest"
)

// The provisioner of every server.
const (
	Provisioner = "certctl"
	Password    = "correct horse battery staple"
)

const startWithin = 60 * time.Second

// Server is a step-ca that runs until its test ends.
type Server struct {
	URL  string
	Root *x509.Certificate
	// Key is the provisioner's private key, encrypted with Password, as step writes it.
	Key []byte

	// Directory is where it speaks ACME, if it does.
	Directory string

	dir, binary string
	flags       []string
	t           testing.TB
	cmd         *exec.Cmd
}

// Start makes a CA and starts it.
func Start(t testing.TB) *Server { return start(t) }

// StartACME makes a CA that speaks ACME too. It asks the DNS at resolver for names, and every host for HTTP-01 at one port.
func StartACME(t testing.TB, resolver, port string) *Server {
	s := start(t, "--resolver", resolver, "--acme-http-port", port, "--insecure")
	s.Directory = s.URL + "/acme/acme/directory"
	return s
}

func start(t testing.TB, flags ...string) *Server {
	t.Helper()
	s := &Server{dir: t.TempDir(), binary: catest.Binary(t, "step-ca"), flags: flags, t: t}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	s.URL = "https://" + address
	s.write(address)
	t.Cleanup(s.Stop)
	s.Run()
	return s
}

// Run starts the server, after Stop again.
func (s *Server) Run() {
	s.t.Helper()
	s.cmd = exec.Command(s.binary, append(s.flags, filepath.Join(s.dir, "ca.json"))...)
	var log bytes.Buffer
	s.cmd.Stdout, s.cmd.Stderr = &log, &log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(s.Root)
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}}
	defer client.CloseIdleConnections()
	for deadline := time.Now().Add(startWithin); ; {
		req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.URL+"/health", http.NoBody)
		if err != nil {
			s.t.Fatal(err)
		}
		res, err := client.Do(req)
		if err == nil {
			_ = res.Body.Close()
			return
		}
		if time.Now().After(deadline) {
			s.Stop()
			s.t.Fatalf("step-ca did not start: %v\n%s", err, log.String())
		}
	}
}

// Stop ends the server.
func (s *Server) Stop() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	s.cmd = nil
}

// write makes keys, certificates and the configuration.
func (s *Server) write(address string) {
	s.t.Helper()
	rootKey, subKey, provisionerKey := s.key(), s.key(), s.key()
	s.Root = s.certificate("Step Root", rootKey, nil, rootKey)
	sub := s.certificate("Step Intermediate", subKey, s.Root, rootKey)
	public := jose.JSONWebKey{Key: provisionerKey.Public(), Algorithm: string(jose.ES256), Use: "sig"}
	thumbprint, err := public.Thumbprint(crypto.SHA256)
	if err != nil {
		s.t.Fatal(err)
	}
	public.KeyID = x509x.Fingerprint(thumbprint)[:32]
	private, err := jose.JSONWebKey{Key: provisionerKey, KeyID: public.KeyID, Algorithm: public.Algorithm, Use: "sig"}.MarshalJSON()
	if err != nil {
		s.t.Fatal(err)
	}
	encrypter, err := jose.NewEncrypter(jose.A256GCM, jose.Recipient{Algorithm: jose.PBES2_HS256_A128KW, Key: []byte(Password), PBES2Count: 10_000, PBES2Salt: []byte("0123456789abcdef")},
		(&jose.EncrypterOptions{}).WithContentType("jwk+json"))
	if err != nil {
		s.t.Fatal(err)
	}
	sealed, err := encrypter.Encrypt(private)
	if err != nil {
		s.t.Fatal(err)
	}
	compact, err := sealed.CompactSerialize()
	if err != nil {
		s.t.Fatal(err)
	}
	s.Key = []byte(compact)
	config, err := json.MarshalIndent(map[string]any{
		"root": filepath.Join(s.dir, "root.crt"), "crt": filepath.Join(s.dir, "sub.crt"), "key": filepath.Join(s.dir, "sub.key"),
		"address": address, "dnsNames": []string{"127.0.0.1"}, "logger": map[string]any{"format": "text"},
		"db":  map[string]any{"type": "badgerv2", "dataSource": filepath.Join(s.dir, "db")},
		"crl": map[string]any{"enabled": true, "generateOnRevoke": true},
		"authority": map[string]any{
			"backdate": "5m0s",
			"claims":   map[string]any{"maxTLSCertDuration": "2160h", "defaultTLSCertDuration": "24h"},
			"provisioners": []any{
				map[string]any{"type": "JWK", "name": Provisioner, "key": public, "encryptedKey": compact},
				map[string]any{"type": "ACME", "name": "acme"},
			},
		},
	}, "", "  ")
	if err != nil {
		s.t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(subKey)
	if err != nil {
		s.t.Fatal(err)
	}
	for name, text := range map[string][]byte{
		"root.crt": x509x.EncodePEM(s.Root.Raw), "sub.crt": x509x.EncodePEM(sub.Raw),
		"sub.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), "ca.json": config,
	} {
		if err := os.WriteFile(filepath.Join(s.dir, name), text, 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *Server) key() *ecdsa.PrivateKey {
	s.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	return key
}

func (s *Server) certificate(name string, key *ecdsa.PrivateKey, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) *x509.Certificate {
	s.t.Helper()
	template := &x509.Certificate{
		SerialNumber: x509x.NewSerial(), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(5, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	if parent == nil {
		parent = template
	} else {
		template.MaxPathLenZero = true
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		s.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		s.t.Fatal(err)
	}
	return cert
}

// Revoked tells whether the CA's own list holds a serial number.
func (s *Server) Revoked(serial *big.Int) bool {
	s.t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(s.Root)
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}}
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.URL+"/crl", http.NoBody)
	if err != nil {
		s.t.Fatal(err)
	}
	res, err := client.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	var der bytes.Buffer
	if _, err := der.ReadFrom(res.Body); err != nil {
		s.t.Fatal(err)
	}
	list, err := x509.ParseRevocationList(der.Bytes())
	if err != nil {
		s.t.Fatalf("HTTP %d: %v", res.StatusCode, err)
	}
	for _, e := range list.RevokedCertificateEntries {
		if e.SerialNumber.Cmp(serial) == 0 {
			return true
		}
	}
	return false
}
