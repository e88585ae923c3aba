package rig

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"text/template"
	"time"

	"github.com/certctl/certctl/contracts/httpapi/client"
	"github.com/certctl/certctl/libs/x509x"
)

// NGINX is a real one, with a configuration of its own, that serves one or more names on
// one address, each with its own certificate.
type NGINX struct {
	Prefix, Config, Address string
	Sites                   []*Served

	binary string
	t      testing.TB
	cmd    *exec.Cmd
}

// Served is one name and where its certificate lies.
type Served struct {
	Name, CertFile, KeyFile string
	nginx                   *NGINX
}

// NGINXBinary finds nginx where distributions put it.
func NGINXBinary(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"nginx", "/usr/sbin/nginx", "/usr/local/sbin/nginx"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatal("no nginx was found; make peers fetches it")
	return ""
}

var nginxConfig = template.Must(template.New("nginx.conf").Parse(`daemon off;
pid {{.Prefix}}/nginx.pid;
error_log {{.Prefix}}/error.log warn;
worker_processes 1;
events { worker_connections 256; }
http {
    access_log off;
    server_names_hash_bucket_size 128;
    client_body_temp_path {{.Prefix}}/tmp;
    proxy_temp_path       {{.Prefix}}/tmp;
    fastcgi_temp_path     {{.Prefix}}/tmp;
    uwsgi_temp_path       {{.Prefix}}/tmp;
    scgi_temp_path        {{.Prefix}}/tmp;
{{- range .Sites}}
    server {
        listen {{$.Address}} ssl;
        server_name {{.Name}};
        ssl_certificate     {{.CertFile}};
        ssl_certificate_key {{.KeyFile}};
        location / { return 200 "{{.Name}}\n"; }
    }
{{- end}}
}
`))

// StartNGINX starts an NGINX with a certificate of its own making for each name.
func StartNGINX(t testing.TB, dir, name string, names ...string) *NGINX {
	t.Helper()
	prefix := filepath.Join(dir, name)
	n := &NGINX{Prefix: prefix, Config: filepath.Join(prefix, "nginx.conf"), Address: FreeAddress(t), binary: NGINXBinary(t), t: t}
	if err := os.MkdirAll(filepath.Join(prefix, "tmp"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, served := range names {
		// Each has a folder of its own, as is common, so that one can be filled up.
		at := filepath.Join(prefix, "tls", served)
		s := &Served{Name: served, CertFile: filepath.Join(at, "site.crt"), KeyFile: filepath.Join(at, "site.key"), nginx: n}
		n.Sites = append(n.Sites, s)
		cert, key := placeholder(t)
		if err := errors.Join(os.MkdirAll(at, 0o755), os.WriteFile(s.CertFile, cert, 0o644), os.WriteFile(s.KeyFile, key, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	n.WriteConfig("")
	n.cmd = exec.Command(n.binary, "-e", filepath.Join(prefix, "error.log"), "-p", prefix, "-c", n.Config)
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = n.cmd.Process.Signal(syscall.SIGTERM)
		_ = n.cmd.Wait()
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(prefix, "error.log"))
			t.Logf("%s printed last:\n%s", name, log[max(0, len(log)-1000):])
		}
	})
	for _, s := range n.Sites {
		Within(t, Patience, "NGINX serves "+s.Name, func() error { _, err := s.Leaf(t.Context()); return err })
	}
	return n
}

// WriteConfig writes the configuration, with something added to it.
func (n *NGINX) WriteConfig(added string) {
	n.t.Helper()
	f, err := os.Create(n.Config)
	if err != nil {
		n.t.Fatal(err)
	}
	_, err = f.WriteString(added)
	if err = errors.Join(err, nginxConfig.Execute(f, n), f.Close()); err != nil {
		n.t.Fatal(err)
	}
}

// Target makes a served name known to the platform.
func (in *Installation) Target(a *Agent, s *Served) client.Target {
	in.t.Helper()
	return Must[client.Target](in.t)(in.CreateTarget(in.t.Context(), client.TargetCreate{
		Name: s.Name, Type: "NGINX", AgentID: a.ID,
		Config: &map[string]any{
			"cert_path": s.CertFile, "key_path": s.KeyFile,
			"nginx_binary": s.nginx.binary, "prefix": s.nginx.Prefix, "config_path": s.nginx.Config,
			"verify_address": s.nginx.Address, "server_name": s.Name,
		},
	}))
}

// Leaf connects and returns the certificate that is served, good or not.
func (s *Served) Leaf(ctx context.Context) (*x509.Certificate, error) {
	chain, err := s.Chain(ctx)
	if err != nil {
		return nil, err
	}
	return chain[0], nil
}

// Chain is Leaf with all that is served.
func (s *Served) Chain(ctx context.Context) ([]*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	d := &tls.Dialer{NetDialer: &net.Dialer{}, Config: &tls.Config{ServerName: s.Name, InsecureSkipVerify: true}}
	conn, err := d.DialContext(ctx, "tcp", s.nginx.Address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates, nil
}

// Fingerprint is that of the certificate that is served.
func (s *Served) Fingerprint(t testing.TB) string {
	t.Helper()
	leaf, err := s.Leaf(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return x509x.Fingerprint(leaf.Raw)
}

func placeholder(t testing.TB) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: x509x.NewSerial(), Subject: pkix.Name{CommonName: "placeholder"},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	if key, err = x509x.EncodePrivateKey(k); err != nil {
		t.Fatal(err)
	}
	return x509x.EncodePEM(der), key
}

// CSR makes a key and a request for names, the first of which is the common name.
func CSR(t testing.TB, names ...string) string {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return SignCSR(t, k, names...)
}
