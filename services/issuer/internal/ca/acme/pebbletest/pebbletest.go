// Package pebbletest runs a real ACME server for tests, Let's Encrypt's Pebble, with the DNS that it asks: on loopback,
// in a folder that goes with the test. It refuses some nonces, as real ones do now and then, and forgets what was proven.
package pebbletest

import (
	"bytes"
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca/catest"
)

// What an account is bound to, of a server that asks for it.
const (
	KeyID  = "kid-1"
	MACKey = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
)

// Blocked is a name that every server refuses.
const Blocked = "blocked.example"

const startWithin = 60 * time.Second

// Options are how a server differs.
type Options struct {
	// Bound has accounts be bound to external ones.
	Bound bool
	// Roots is how many chains it offers besides the first.
	Roots int
	// Nonces is how many of a hundred nonces it refuses; zero is 15.
	Nonces int
	// Reuse is how many of a hundred authorizations it remembers.
	Reuse int
	// Strict has it refuse what the protocol will not allow for much longer.
	Strict bool
	// DNS is who it asks for names, instead of a DNS of its own, as host:port.
	DNS string
}

// Server is a Pebble that runs until its test ends.
type Server struct {
	Directory string
	// HTTP is the address that it asks for HTTP-01, whatever the name.
	HTTP string
	// DNS is who it asks for names, and Records where that is told of them.
	DNS, Records string
	// TLSRoot is the certificate of the directory, in PEM.
	TLSRoot []byte

	management string
	options    Options
	dir        string
	t          testing.TB
	ca, names  *exec.Cmd
	log        *diary // of the CA
}

// Start makes a server and starts it.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	s := &Server{options: o, dir: t.TempDir(), t: t}
	ports := free(t, 5)
	address, records, own := ports[0], ports[1], ports[2]
	s.Directory, s.Records, s.HTTP, s.management = "https://"+address+"/dir", "http://"+records, ports[3], ports[4]
	if s.DNS = own; o.DNS != "" {
		s.DNS = o.DNS
	}
	s.write(address)
	s.names, _ = s.start(nil, "pebble-challtestsrv", "-http01", "", "-https01", "", "-doh", "", "-tlsalpn01", "",
		"-dnsserver", own, "-management", records, "-defaultIPv6", "")
	t.Cleanup(func() { stop(&s.names); s.Stop() })
	s.Run()
	return s
}

// Run starts the CA, after Stop again: it has forgotten everything then.
func (s *Server) Run() {
	s.t.Helper()
	s.ca, s.log = s.start([]string{
		"PEBBLE_VA_NOSLEEP=1", "PEBBLE_VA_ALWAYS_VALID=0", "PEBBLE_WFE_NONCEREJECT=" + strconv.Itoa(cmp.Or(s.options.Nonces, 15)),
		"PEBBLE_AUTHZREUSE=" + strconv.Itoa(s.options.Reuse), "PEBBLE_ALTERNATE_ROOTS=" + strconv.Itoa(s.options.Roots),
	}, "pebble", "-config", filepath.Join(s.dir, "pebble.json"), "-dnsserver", s.DNS, "-strict="+strconv.FormatBool(s.options.Strict))
	s.await(s.Directory)
	s.await("https://" + s.management + "/roots/0")
	s.await(s.Records + "/http-request-history")
}

// Stop ends the CA.
func (s *Server) Stop() { stop(&s.ca) }

func stop(cmd **exec.Cmd) {
	if *cmd != nil {
		_ = (*cmd).Process.Kill()
		_ = (*cmd).Wait()
		*cmd = nil
	}
}

// Issued counts the certificates that it has issued since it was started.
func (s *Server) Issued() int { return strings.Count(s.log.String(), "Issued certificate serial ") }

// diary is what a program says.
type diary struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

// Write implements [io.Writer].
func (d *diary) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.text.Write(p)
}

func (d *diary) String() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.text.String()
}

func (s *Server) start(env []string, program string, args ...string) (*exec.Cmd, *diary) {
	s.t.Helper()
	cmd := exec.Command(catest.Binary(s.t, program), args...)
	cmd.Env = env
	log := &diary{}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if s.t.Failed() {
			stop(&s.names)
			s.Stop()
			s.t.Logf("%s says:\n%s", program, log)
		}
	})
	return cmd, log
}

// write makes the directory's certificate and the configuration.
func (s *Server) write(address string) {
	s.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: x509x.NewSerial(), Subject: pkix.Name{CommonName: "Pebble's directory"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0), BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		s.t.Fatal(err)
	}
	s.TLSRoot = x509x.EncodePEM(der)
	private, err := x509x.EncodePrivateKey(key)
	if err != nil {
		s.t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(s.HTTP)
	if err != nil {
		s.t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		s.t.Fatal(err)
	}
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": address, "managementListenAddress": s.management, "certificate": filepath.Join(s.dir, "tls.crt"), "privateKey": filepath.Join(s.dir, "tls.key"),
		"httpPort": number, "tlsPort": number, "keyAlgorithm": "ecdsa", "domainBlocklist": []string{Blocked},
		"externalAccountBindingRequired": s.options.Bound, "externalAccountMACKeys": map[string]string{KeyID: MACKey},
		"profiles": map[string]any{
			"default":    map[string]any{"description": "90 days", "validityPeriod": 7776000},
			"shortlived": map[string]any{"description": "6 days", "validityPeriod": 518400},
		},
	}})
	if err != nil {
		s.t.Fatal(err)
	}
	for name, text := range map[string][]byte{"tls.crt": s.TLSRoot, "tls.key": private, "pebble.json": config} {
		if err := os.WriteFile(filepath.Join(s.dir, name), text, 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
}

// free finds n ports that are free now, all of them at once: asked for one after the other, two may be the same.
func free(t testing.TB, n int) []string {
	t.Helper()
	addresses := make([]string, n)
	for i := range addresses {
		listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		addresses[i] = listener.Addr().String()
	}
	return addresses
}
