package token_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/testkit/signertest"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca/catest"
	"github.com/certctl/certctl/services/issuer/internal/ca/token"
)

var digest = sha256.Sum256([]byte("x"))

func client(t testing.TB, socket string) *token.Client {
	t.Helper()
	c := token.New(socket)
	t.Cleanup(c.Close)
	return c
}

func obtain(t testing.TB, c *token.Client, label string) crypto.Signer {
	t.Helper()
	key, err := c.Obtain(t.Context(), label, x509x.ECDSA, 256)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func signs(t *testing.T, key crypto.Signer) {
	t.Helper()
	signature, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil || !ecdsa.VerifyASN1(key.Public().(*ecdsa.PublicKey), digest[:], signature) {
		t.Errorf("signature %x: %v", signature, err)
	}
}

func TestKey_IsMadeOnceAndFoundAgain(t *testing.T) {
	s := signertest.Start(t)
	c := client(t, s.Socket)
	key := obtain(t, c, "ca")
	signs(t, key)
	if !x509x.SameKey(obtain(t, c, "ca").Public(), key.Public()) {
		t.Error("a second key was made")
	}
	found, err := c.Find(t.Context(), "ca", key.Public())
	if err != nil {
		t.Fatal(err)
	}
	signs(t, found)
	for label, code := range map[string]fault.Code{"ca": fault.Conflict, "other": fault.NotFound} {
		if _, err := c.Find(t.Context(), label, catest.NewKey(t, "ECDSA P-256").Public()); fault.CodeOf(err) != code {
			t.Errorf("%s: %v", label, err)
		}
	}
	if listed := s.Do("keys"); !strings.Contains(listed, "ECDSA P-256") || strings.Count(listed, "\n") != 2 {
		t.Errorf("listed %s", listed)
	}
}

func TestKey_SignsDigestsOfSHA2ByPKCS1Only(t *testing.T) {
	s := signertest.Start(t)
	key, err := client(t, s.Socket).Obtain(t.Context(), "ca", x509x.RSA, 2048)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil || rsa.VerifyPKCS1v15(key.Public().(*rsa.PublicKey), crypto.SHA256, digest[:], signature) != nil {
		t.Errorf("signature %x: %v", signature, err)
	}
	for _, opts := range []crypto.SignerOpts{crypto.SHA1, crypto.Hash(0), &rsa.PSSOptions{Hash: crypto.SHA256}} {
		if _, err := key.Sign(rand.Reader, digest[:], opts); err == nil {
			t.Errorf("%#v is signed", opts)
		}
	}
}

func TestKey_OutlivesCrashesOfTheSigner(t *testing.T) {
	s := signertest.Start(t)
	key := obtain(t, client(t, s.Socket), "ca")
	signs(t, key)
	s.Kill()
	_, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if fault.CodeOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "certctl-signer is not running") {
		t.Errorf("while it is away: %v", err)
	}
	s.Run()
	signs(t, key)
	// With connections that were open before, and are of no use any more.
	s.Kill()
	s.Run()
	signs(t, key)
}

// Between the issuer and the signer stands somebody who hangs up on the first signature, as a signer does that is killed.
func TestKey_IsAskedAgainWhenTheSignerStopsBeforeItHasAnswered(t *testing.T) {
	s := signertest.Start(t)
	between, err := new(net.ListenConfig).Listen(t.Context(), "unix", s.Socket+".between")
	if err != nil {
		t.Fatal(err)
	}
	through := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", s.Socket)
	}}
	defer through.CloseIdleConnections()
	proxy := &httputil.ReverseProxy{Transport: through, Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host = "http", "signer"
	}}
	var signatures atomic.Int32
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/sign" && signatures.Add(1) == 1 {
			c, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				err = c.Close()
			}
			if err != nil {
				t.Error(err)
			}
			return
		}
		proxy.ServeHTTP(w, r)
	})}
	go func() { _ = server.Serve(between) }()
	defer server.Close()
	signs(t, obtain(t, client(t, s.Socket+".between"), "ca"))
	if n := signatures.Load(); n != 2 {
		t.Errorf("asked %d times", n)
	}
}

// Killed again and again while many sign: each gets the key's signature or is told that the signer is away, and all do
// once it stays.
func TestKey_SignsForManyWhileTheSignerComesAndGoes(t *testing.T) {
	s := signertest.Start(t)
	key := obtain(t, client(t, s.Socket), "ca")
	const each, signed = 8, 50
	var wg sync.WaitGroup
	var stays atomic.Bool
	wg.Go(func() {
		for range 5 {
			s.Kill()
			s.Run()
		}
		stays.Store(true)
	})
	for range each {
		wg.Go(func() {
			for n := 0; n < signed; {
				stayed := stays.Load()
				signature, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
				switch {
				case err == nil && ecdsa.VerifyASN1(key.Public().(*ecdsa.PublicKey), digest[:], signature):
					n++
				case err == nil:
					t.Errorf("not the key's signature: %x", signature)
					return
				case stayed || fault.CodeOf(err) != fault.Unavailable:
					t.Errorf("%v", err)
					return
				default:
				}
			}
		})
	}
	wg.Wait()
}

func TestSigner_IsForOneUserOnly(t *testing.T) {
	s := signertest.Start(t)
	info, err := os.Stat(s.Socket)
	if err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("the socket has mode %s: %v", info.Mode(), err)
	}
}

func TestSigner_SaysWhatIsWrong(t *testing.T) {
	s := signertest.Start(t)
	c := client(t, s.Socket)
	key := obtain(t, c, "ca")
	reason := func() string {
		t.Helper()
		_, err := c.Find(t.Context(), "ca", key.Public())
		if fault.CodeOf(err) != fault.Unavailable {
			t.Errorf("not Unavailable: %v", err)
		}
		return fault.From(err).Message
	}
	restart := func(env ...string) {
		s.Kill()
		s.Run(env...)
	}
	s.Token.WritePIN(t, "000000")
	restart()
	if why := reason(); !strings.Contains(why, "the PIN in") {
		t.Errorf("wrong PIN: %s", why)
	}
	s.Token.WritePIN(t, "271828")
	if _, err := c.Find(t.Context(), "ca", key.Public()); err != nil {
		t.Errorf("the right PIN again, without a restart: %v", err)
	}
	putBack := s.Token.TakeOut(t)
	restart()
	if why := reason(); !strings.Contains(why, "is not present") {
		t.Errorf("no token: %s", why)
	}
	putBack()
	if _, err := c.Find(t.Context(), "ca", key.Public()); err != nil {
		t.Errorf("put back, without a restart: %v", err)
	}
	restart("CERTCTL_SIGNER_MODULE=/nowhere.so")
	if why := reason(); !strings.Contains(why, "cannot be loaded") {
		t.Errorf("no module: %s", why)
	}
	s.Kill()
	if why := reason(); !strings.Contains(why, "is not running") || !strings.Contains(why, s.Socket) {
		t.Errorf("killed: %s", why)
	}
	s.Run()
	signs(t, key)
}

func TestClient_SaysWhoDoesNotAnswer(t *testing.T) {
	dir, err := os.MkdirTemp("", "socket-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	for name, tt := range map[string]struct{ answer, want string }{
		"nobody":  {"", "certctl-signer is not running"},
		"hang up": {"-", "serves another user"},
		"other":   {"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno", "is no certctl-signer"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, name)
			if tt.answer != "" {
				l, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				go answer(l, strings.Trim(tt.answer, "-"))
			}
			_, err := client(t, path).Find(t.Context(), "ca", catest.NewKey(t, "ECDSA P-256").Public())
			if fault.CodeOf(err) != fault.Unavailable || !strings.Contains(fault.From(err).Message, tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

// answer answers every request with a text, and hangs up.
func answer(l net.Listener, text string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = c.Read(make([]byte, 4096))
		_, _ = io.WriteString(c, text)
		_ = c.Close()
	}
}

func BenchmarkSign(b *testing.B) {
	for name, kind := range map[string]struct {
		algorithm string
		bits      int
	}{"ECDSA-P256": {x509x.ECDSA, 256}, "ECDSA-P384": {x509x.ECDSA, 384}, "RSA-3072": {x509x.RSA, 3072}} {
		b.Run(name, func(b *testing.B) {
			s := signertest.Start(b)
			key, err := client(b, s.Socket).Obtain(b.Context(), "ca", kind.algorithm, kind.bits)
			if err != nil {
				b.Fatal(err)
			}
			b.SetParallelism(4)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := key.Sign(rand.Reader, digest[:], crypto.SHA256); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "signatures/s")
		})
	}
}
