package httpx_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"io/fs"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/certctl/certctl/libs/httpx"
	"github.com/certctl/certctl/libs/x509x"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, l httpx.Listener) *httpx.Server {
	t.Helper()
	l.Log = quiet()
	s, err := httpx.Open(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// serve runs s until the test ends it.
func serve(t *testing.T, s *httpx.Server, h http.HandlerFunc) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, h) }()
	return func() error {
		cancel()
		return <-done
	}
}

func get(t *testing.T, client *http.Client, url string) (*http.Response, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return client.Do(r)
}

func TestOpen_RefusesPlainHTTPOffLoopback(t *testing.T) {
	for _, address := range []string{":0", "0.0.0.0:0", "[::]:0", "192.0.2.1:80"} {
		_, err := httpx.Open(t.Context(), httpx.Listener{Address: address, Log: quiet()})
		if err == nil || !strings.Contains(err.Error(), "configure TLS") {
			t.Errorf("%s: err = %v", address, err)
		}
	}
	for _, l := range []httpx.Listener{{Address: "127.0.0.1:0"}, {Address: "localhost:0"}, {Address: "0.0.0.0:0", Public: true}} {
		if err := serve(t, open(t, l), http.NotFound)(); err != nil {
			t.Errorf("%s: %v", l.Address, err)
		}
	}
}

func TestOpen_SaysWhenThePortIsTaken(t *testing.T) {
	s := open(t, httpx.Listener{Address: "127.0.0.1:0"})
	stop := serve(t, s, http.NotFound)
	if _, err := httpx.Open(t.Context(), httpx.Listener{Address: s.Addr().String(), Log: quiet()}); err == nil {
		t.Error("the port was given twice")
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestServe_LetsRequestsFinish(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	s := open(t, httpx.Listener{Address: "127.0.0.1:0"})
	stop := serve(t, s, func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-leave
		if r.Context().Err() == nil {
			_, _ = io.WriteString(w, "finished")
		}
	})
	client := &http.Client{}
	defer client.CloseIdleConnections()
	answered := make(chan string, 1)
	go func() {
		resp, err := get(t, client, s.URL())
		if err != nil {
			answered <- err.Error()
			return
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		answered <- string(b)
	}()
	<-entered
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	// The listener closes first; only then is it certain that the end was announced while the request ran.
	untilRefused(t, s.Addr().String())
	close(leave)
	if got := <-answered; got != "finished" {
		t.Errorf("the request under way got %q", got)
	}
	if err := <-stopped; err != nil {
		t.Errorf("Serve = %v", err)
	}
}

func untilRefused(t *testing.T, addr string) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for time.Now().Before(deadline) {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
		if err != nil {
			return
		}
		_ = conn.Close()
	}
	t.Fatal("still listening")
}

func TestServe_CutsOffRequestsThatDoNotFinish(t *testing.T) {
	entered := make(chan struct{})
	s := open(t, httpx.Listener{Address: "127.0.0.1:0", DrainTimeout: time.Millisecond})
	stop := serve(t, s, func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
	})
	client := &http.Client{}
	defer client.CloseIdleConnections()
	go func() {
		if resp, err := get(t, client, s.URL()); err == nil {
			_ = resp.Body.Close()
		}
	}()
	<-entered
	if err := stop(); err == nil || !strings.Contains(err.Error(), "drain") {
		t.Errorf("Serve = %v, want to hear that a request was cut off", err)
	}
}

func TestServe_SpeaksTLS13Only(t *testing.T) {
	cert, pool := serverCertificate(t)
	s := open(t, httpx.Listener{Address: "127.0.0.1:0", TLS: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}})
	stop := serve(t, s, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) })
	for version, want := range map[uint16]bool{tls.VersionTLS12: false, tls.VersionTLS13: true} {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MaxVersion: version}, ForceAttemptHTTP2: true}
		resp, err := get(t, &http.Client{Transport: transport}, s.URL())
		if (err == nil) != want {
			t.Errorf("%s: err = %v", tls.VersionName(version), err)
		}
		if err == nil {
			if resp.ProtoMajor != 2 {
				t.Errorf("protocol %s, want HTTP/2", resp.Proto)
			}
			_ = resp.Body.Close()
		}
		transport.CloseIdleConnections()
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestServe_EndsAtOnceWhenItsContextHasEnded(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := open(t, httpx.Listener{Address: "127.0.0.1:0"})
	cancel()
	if err := s.Serve(ctx, http.NotFoundHandler()); err != nil {
		t.Error(err)
	}
}

func TestStreaming_LiftsTheLimitsThroughTheMiddleware(t *testing.T) {
	s := open(t, httpx.Listener{Address: "127.0.0.1:0"})
	lifted := make(chan error, 1)
	h := stack(quiet(), 10, func(w http.ResponseWriter, _ *http.Request) { lifted <- httpx.Streaming(w) })
	stop := serve(t, s, h.ServeHTTP)
	client := &http.Client{}
	resp, err := get(t, client, s.URL())
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	client.CloseIdleConnections()
	if err := <-lifted; err != nil {
		t.Error(err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestTLSFromFiles_FollowsTheFiles(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	if _, err := httpx.TLSFromFiles(certFile, keyFile); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without files: err = %v", err)
	}
	first, _ := serverCertificate(t)
	second, _ := serverCertificate(t)
	start := time.Now().Add(-time.Hour)
	write(t, certFile, x509x.EncodeCertificates(first.Leaf), start)
	write(t, keyFile, privatePEM(t, first), start)
	config, err := httpx.TLSFromFiles(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	serves := func(when string, want tls.Certificate) {
		got, err := config.GetCertificate(nil)
		if err != nil || !got.Leaf.Equal(want.Leaf) {
			t.Errorf("%s another certificate is served (err = %v)", when, err)
		}
	}
	serves("at first", first)
	write(t, certFile, x509x.EncodeCertificates(second.Leaf), start.Add(time.Minute))
	serves("with only the certificate replaced", first)
	write(t, keyFile, privatePEM(t, second), start.Add(time.Minute))
	serves("with both replaced", second)
	if err := os.Remove(keyFile); err != nil {
		t.Fatal(err)
	}
	serves("with the key gone", second)
}

func write(t *testing.T, path string, content []byte, changed time.Time) {
	t.Helper()
	if err := errors.Join(os.WriteFile(path, content, 0o600), os.Chtimes(path, changed, changed)); err != nil {
		t.Fatal(err)
	}
}

func privatePEM(t *testing.T, cert tls.Certificate) []byte {
	t.Helper()
	text, err := x509x.EncodePrivateKey(cert.PrivateKey.(crypto.Signer))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func serverCertificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, pool
}
