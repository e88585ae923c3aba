// Package nginxtest runs a real NGINX inside a test: with a configuration, a folder
// and a port of its own, as the current user. It is gone when the test ends.
//
// The binary is CERTCTL_NGINX_BIN, or the nginx of PATH or /usr/sbin. Without one the
// test fails and says so: nothing here can stand in for the server itself.
package nginxtest

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const patience = 20 * time.Second

// Server is an NGINX that serves one certificate.
type Server struct {
	// Binary is the program; Prefix its folder, with everything it uses.
	Binary, Prefix string
	// ConfigPath, CertPath, KeyPath and ChainPath are in Prefix. The last does not exist at first.
	ConfigPath, CertPath, KeyPath, ChainPath string
	// Address is where it answers, for ServerName.
	Address, ServerName string

	t    testing.TB
	stop func()
}

// Find returns the NGINX of this machine.
func Find(t testing.TB) string {
	t.Helper()
	for _, name := range []string{os.Getenv("CERTCTL_NGINX_BIN"), "nginx", "/usr/sbin/nginx", "/usr/local/sbin/nginx"} {
		if name == "" {
			continue
		}
		if path, err := exec.LookPath(name); err == nil {
			if path, err = filepath.Abs(path); err == nil {
				return path
			}
		}
	}
	t.Fatal("no NGINX was found: run `make peers`, or install one (apt-get install nginx), or set CERTCTL_NGINX_BIN")
	return ""
}

// Start starts a server that serves the given certificate.
func Start(t testing.TB, serverName string, certPEM, keyPEM []byte) *Server {
	t.Helper()
	prefix := t.TempDir()
	// Its workers may run as another user.
	if err := os.Chmod(prefix, 0o755); err != nil {
		t.Fatal(err)
	}
	s := &Server{
		Binary: Find(t), Prefix: prefix, ServerName: serverName, Address: freeAddress(t), t: t,
		ConfigPath: filepath.Join(prefix, "nginx.conf"), CertPath: filepath.Join(prefix, "server.crt"),
		KeyPath: filepath.Join(prefix, "server.key"), ChainPath: filepath.Join(prefix, "chain.crt"),
	}
	s.write(s.CertPath, certPEM, 0o644)
	s.write(s.KeyPath, keyPEM, 0o600)
	s.write(s.ConfigPath, []byte(s.config()), 0o644)
	s.run()
	return s
}

func (s *Server) config() string {
	version, err := exec.Command(s.Binary, "-V").CombinedOutput()
	if err != nil {
		s.t.Fatalf("%s -V: %v", s.Binary, err)
	}
	var temporary strings.Builder
	for module, directive := range map[string]string{
		"": "client_body_temp_path", "proxy": "proxy_temp_path", "fastcgi": "fastcgi_temp_path",
		"uwsgi": "uwsgi_temp_path", "scgi": "scgi_temp_path",
	} {
		if module == "" || !bytes.Contains(version, []byte("--without-http_"+module+"_module")) {
			fmt.Fprintf(&temporary, "  %s %s/tmp_%s;\n", directive, s.Prefix, directive)
		}
	}
	return fmt.Sprintf(`worker_processes 2;
pid %[1]s/nginx.pid;
error_log %[1]s/error.log;
events { worker_connections 512; }
http {
  access_log off;
%[2]s  include %[1]s/extra*.conf;
  server {
    listen %[3]s ssl;
    server_name %[4]s;
    ssl_certificate %[5]s;
    ssl_certificate_key %[6]s;
    location / { return 200 "served\n"; }
  }
}
`, s.Prefix, temporary.String(), s.Address, s.ServerName, s.CertPath, s.KeyPath)
}

func (s *Server) run() {
	s.t.Helper()
	cmd := exec.Command(s.Binary, "-p", s.Prefix, "-c", s.ConfigPath, "-e", "stderr", "-g", "daemon off;")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		s.t.Fatalf("start NGINX: %v", err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	s.stop = func() {
		_ = cmd.Process.Signal(os.Interrupt)
		select {
		case <-ended:
		case <-time.After(patience):
			_ = cmd.Process.Kill()
			<-ended
		}
	}
	s.t.Cleanup(s.Stop)
	deadline := time.After(patience)
	for {
		if _, err := s.Serial(s.t.Context()); err == nil {
			return
		}
		select {
		case <-ended:
			s.t.Fatalf("NGINX ended: %s", said.String())
		case <-deadline:
			s.t.Fatalf("NGINX does not answer: %s", said.String())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Stop ends the server.
func (s *Server) Stop() {
	if s.stop != nil {
		s.stop()
		s.stop = nil
	}
}

// Break makes the next test of the configuration fail; Mend undoes it.
func (s *Server) Break() { s.write(s.brokenPath(), []byte("no_such_directive on;\n"), 0o644) }

// Mend makes the configuration right again.
func (s *Server) Mend() {
	if err := os.Remove(s.brokenPath()); err != nil {
		s.t.Fatal(err)
	}
}

func (s *Server) brokenPath() string { return filepath.Join(s.Prefix, "extra_broken.conf") }

// Serial makes a handshake and returns the serial number of the leaf that is served.
func (s *Server) Serial(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	dialer := tls.Dialer{Config: &tls.Config{ServerName: s.ServerName, InsecureSkipVerify: true}}
	conn, err := dialer.DialContext(ctx, "tcp", s.Address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.Text(16), nil
}

// Hammer makes requests on new connections from several clients until stop is called,
// which returns how many were made and the errors of those that failed.
func (s *Server) Hammer(clients int) (stop func() (int, []error)) {
	type result struct {
		made   int
		failed []error
	}
	ctx, cancel := context.WithCancel(s.t.Context())
	results := make(chan result)
	for range clients {
		go func() {
			var r result
			for ctx.Err() == nil {
				if err := s.get(); err != nil {
					r.failed = append(r.failed, err)
				}
				r.made++
			}
			results <- r
		}()
	}
	return func() (made int, failed []error) {
		cancel()
		for range clients {
			r := <-results
			made += r.made
			failed = append(failed, r.failed...)
		}
		return made, failed
	}
}

func (s *Server) get() error {
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", s.Address,
		&tls.Config{ServerName: s.ServerName, InsecureSkipVerify: true})
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", s.ServerName); err != nil {
		return err
	}
	buf := make([]byte, 64)
	n, err := conn.Read(buf)
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(buf[:n], []byte("HTTP/1.1 200")) {
		return fmt.Errorf("answered %q", buf[:n])
	}
	return nil
}

func (s *Server) write(path string, data []byte, mode os.FileMode) {
	s.t.Helper()
	if err := os.WriteFile(path, data, mode); err != nil {
		s.t.Fatal(err)
	}
}

func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
