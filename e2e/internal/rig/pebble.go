package rig

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/libs/x509x"
)

// Pebble is Let's Encrypt's ACME server for tests, which finds every name on this machine.
type Pebble struct {
	*Program
	Directory string
	// HTTP is where it asks for HTTP-01, whatever the name.
	HTTP string
	// Root is what the directory's TLS certificate leads to, in PEM.
	Root string
	// CA is what the certificates that it issues lead to.
	CA *x509.Certificate
}

// StartPebble starts one, with the DNS that it asks.
func StartPebble(t testing.TB, dir string) *Pebble {
	t.Helper()
	at := filepath.Join(dir, "pebble")
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	address, management, names := FreeAddress(t), FreeAddress(t), FreeAddress(t)
	p := &Pebble{Directory: "https://" + address + "/dir", HTTP: FreeAddress(t)}
	p.write(t, at, address, management)
	dns := NewProgram(t, dir, "challtestsrv", "")
	dns.Path = authority(t, "pebble-challtestsrv")
	dns.Args = []string{
		"-http01", "", "-https01", "", "-doh", "", "-tlsalpn01", "", "-dnsserver", names, "-management", FreeAddress(t), "-defaultIPv6", "",
	}
	dns.Start()
	p.Program = NewProgram(t, dir, "pebble", "", "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=15", "PEBBLE_AUTHZREUSE=0")
	p.Path = authority(t, "pebble")
	p.Args = []string{"-config", filepath.Join(at, "pebble.json"), "-dnsserver", names}
	p.Start()
	p.answer(t, p.Directory)
	chain, err := x509x.ParseCertificates(p.answer(t, "https://"+management+"/roots/0"))
	if err != nil {
		t.Fatal(err)
	}
	p.CA = chain[0]
	return p
}

// answer waits until Pebble answers, and returns what.
func (p *Pebble) answer(t testing.TB, url string) (body []byte) {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(p.Root))
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
	}}
	Within(t, Patience, url+" is answered", func() error {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
		if err != nil {
			return err
		}
		body, err = Raw(client.Do(req))
		return err
	})
	return body
}

// write makes the directory's certificate and the configuration.
func (p *Pebble) write(t testing.TB, at, address, management string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: x509x.NewSerial(), Subject: pkix.Name{CommonName: "Pebble's directory"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509x.EncodePrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	p.Root = strings.TrimSpace(string(x509x.EncodePEM(der)))
	_, port, _ := net.SplitHostPort(p.HTTP)
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": address, "managementListenAddress": management, "certificate": filepath.Join(at, "tls.crt"), "privateKey": filepath.Join(at, "tls.key"),
		"httpPort": number, "tlsPort": number, "keyAlgorithm": "ecdsa",
		"profiles": map[string]any{"default": map[string]any{"description": "90 days", "validityPeriod": 7776000}},
	}})
	err = errors.Join(
		err, os.WriteFile(filepath.Join(at, "tls.crt"), []byte(p.Root+"\n"), 0o600),
		os.WriteFile(filepath.Join(at, "tls.key"), private, 0o600), os.WriteFile(filepath.Join(at, "pebble.json"), config, 0o600),
	)
	if err != nil {
		t.Fatal(err)
	}
}

// Issued counts the certificates that it has issued.
func (p *Pebble) Issued() int { return strings.Count(p.Output(), "Issued certificate serial ") }

// authority finds a CA's program where make builds it, else on PATH.
func authority(t testing.TB, name string) string {
	t.Helper()
	if built, err := filepath.Abs(filepath.Join("..", ".bin", name)); err == nil {
		if _, err := os.Stat(built); err == nil {
			return built
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatal(name + " is not there; make authorities builds it")
	}
	return path
}
