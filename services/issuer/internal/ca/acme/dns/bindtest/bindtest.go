// Package bindtest runs a real DNS server for tests, BIND: on loopback, in a folder that goes with the test, with zones
// that are updated by a key.
package bindtest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/certctl/certctl/services/issuer/internal/ca/acme/dns/lookup"
)

// The key that may update zones.
const (
	Key       = "acme.certctl.test"
	Algorithm = "hmac-sha256"
)

const startWithin = 60 * time.Second

// The zones that every server has. Each has its server as its name server, and besides that what Options say.
const (
	// Open may be updated, its TXT records only.
	Open = "example.com"
	// Other may be updated altogether.
	Other = "acme.example.net"
	// Locked may not be updated.
	Locked = "locked.example"
	// Failing has name servers that do not answer.
	Failing = "failing.example"
	// Bogus is one whose signatures are wrong, of a server that has it Signed.
	Bogus = "bogus.example"
)

// Options are how a server differs.
type Options struct {
	// Records are put into zones, one a line, as zone files have them.
	Records map[string][]string
	// Signed has Bogus served, by a second server, to one that expects it signed.
	Signed bool
	// ForwardTo makes it a resolver, without zones, that asks another server and remembers the answers.
	ForwardTo string
	// behind is of a server that serves Bogus.
	behind bool
}

// Server is a BIND that runs until its test ends.
type Server struct {
	// Address is who answers, as host:port.
	Address string
	// Port is that of Address.
	Port string
	// Secret is the key's, in base64.
	Secret string
	t      testing.TB
	dir    string
}

// Start makes a server and starts it.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	ports := free(t, 3)
	address := ports[0]
	_, port, _ := net.SplitHostPort(address)
	secret := make([]byte, 32)
	_, _ = rand.Read(secret)
	s := &Server{Address: address, Port: port, Secret: base64.StdEncoding.EncodeToString(secret), t: t, dir: t.TempDir()}
	behind := ports[1] // where nobody is
	if o.Signed {
		behind = Start(t, Options{behind: true}).Address
	}
	s.write("named.conf", s.config(o, ports[2], behind))
	s.write("root.zone", "$TTL 60\n@ SOA ns. root. 1 60 60 60 60\n@ NS ns.\nns. A 127.0.0.1\n"+
		delegation(Failing)+delegation(Bogus))
	for _, zone := range []string{Open, Other, Locked, Bogus} {
		s.write(zone+".zone", "$TTL 60\n$ORIGIN "+zone+".\n@ SOA ns1 root 1 60 60 60 60\n@ NS ns1\nns1 A 127.0.0.1\n"+
			strings.Join(o.Records[zone], "\n")+"\n")
	}
	s.run()
	return s
}

func delegation(zone string) string {
	return zone + ". NS ns1." + zone + ".\nns1." + zone + ". A 127.0.0.1\n"
}

func (s *Server) config(o Options, nobody, behind string) string {
	forward := func(zone, to string) string {
		host, port, _ := net.SplitHostPort(to)
		return fmt.Sprintf("zone %q { type forward; forward only; forwarders { %s port %s; }; };\n", zone, host, port)
	}
	primary := func(zone, file, more string) string {
		return fmt.Sprintf("zone %q { type primary; file %q; %s };\n", zone, file, more)
	}
	validation, zones := "no", forward(Failing, nobody)
	if o.Signed {
		validation = "yes"
		zones += fmt.Sprintf("trust-anchors { %q static-key 257 3 13 %q; };\n", Bogus, anchor(s.t))
	}
	if o.behind {
		zones += primary(Bogus, Bogus+".zone", "")
	} else {
		zones += forward(Bogus, behind)
	}
	options := fmt.Sprintf(`
options {
	directory %q; pid-file none; session-keyfile "session.key"; listen-on port %s { 127.0.0.1; }; listen-on-v6 { none; };
	recursion yes; allow-recursion { 127.0.0.1; }; allow-query-cache { 127.0.0.1; }; dnssec-validation %s; notify no; empty-zones-enable no; minimal-responses no;
	resolver-query-timeout 2000; servfail-ttl 0; prefetch 0;
%s};
controls { };
key %q { algorithm %s; secret %q; };
`, s.dir, s.Port, validation, forwarders(o.ForwardTo), Key, Algorithm, s.Secret)
	if o.ForwardTo != "" {
		return options
	}
	return options +
		primary(".", "root.zone", "") +
		primary(Open, Open+".zone", fmt.Sprintf("update-policy { grant %q zonesub TXT; };", Key)) +
		primary(Other, Other+".zone", fmt.Sprintf("allow-update { key %q; };", Key)) +
		primary(Locked, Locked+".zone", "") + zones
}

func forwarders(to string) string {
	if to == "" {
		return ""
	}
	host, port, _ := net.SplitHostPort(to)
	return fmt.Sprintf("\tforward only; forwarders { %s port %s; };\n", host, port)
}

// anchor is a key that nothing is signed by.
func anchor(t testing.TB) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(point[1:])
}

func (s *Server) write(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *Server) run() {
	s.t.Helper()
	cmd := exec.Command(binary(s.t), "-g", "-n", "1", "-c", filepath.Join(s.dir, "named.conf"))
	log := &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if s.t.Failed() {
			s.t.Logf("named says:\n%s", log)
		}
	})
	resolver := lookup.New(s.Address)
	for end := time.Now().Add(startWithin); ; {
		answer := resolver.Ask(s.t.Context(), Open, dns.TypeSOA)
		if answer.Outcome == lookup.Found {
			return
		}
		if time.Now().After(end) {
			s.t.Fatalf("named does not answer: %s\n%s", answer.Says, log)
		}
	}
}

// Texts are the values of a name's TXT records.
func (s *Server) Texts(name string) []string {
	s.t.Helper()
	return lookup.New(s.Address).AskAt(s.t.Context(), s.Address, name, dns.TypeTXT).Texts()
}

// Set sets a TXT record, as the key may.
func (s *Server) Set(name, value string) {
	s.t.Helper()
	zone, err := lookup.New(s.Address).Zone(s.t.Context(), name)
	if err != nil {
		s.t.Fatal(err)
	}
	m := new(dns.Msg).SetUpdate(dns.Fqdn(zone))
	m.Insert([]dns.RR{&dns.TXT{Hdr: dns.RR_Header{Name: dns.Fqdn(name), Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 60}, Txt: []string{value}}})
	m.SetTsig(dns.Fqdn(Key), dns.Fqdn(Algorithm), 300, time.Now().Unix())
	client := &dns.Client{Net: "tcp", TsigSecret: map[string]string{dns.Fqdn(Key): s.Secret}}
	reply, err := lookup.Exchange(s.t.Context(), client, s.Address, m)
	if err != nil || reply.Rcode != dns.RcodeSuccess {
		s.t.Fatal(err, reply)
	}
}

// binary finds the server where make peers has unpacked it, or the machine's.
func binary(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"named", "/usr/sbin/named", "/usr/local/sbin/named"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatal("named is not there; make peers fetches it")
	return ""
}

// free finds n ports that are free now, for both protocols, all of them at once: asked for one after the other, two may be
// the same.
func free(t testing.TB, n int) (addresses []string) {
	t.Helper()
	for len(addresses) < n {
		listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		address := listener.Addr().String()
		packets, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", address)
		if err == nil {
			defer packets.Close()
			addresses = append(addresses, address)
		}
	}
	return addresses
}
