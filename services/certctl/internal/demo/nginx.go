package demo

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"text/template"
	"time"

	"github.com/certctl/certctl/libs/x509x"
)

// nginx is a real NGINX, of this machine, with a configuration of its own.
type nginx struct {
	binary, prefix, config string
	cert, key              string
	address                string
	cmd                    *exec.Cmd
	ended                  chan struct{}
}

// findNGINX returns the first NGINX of those places where distributions put it.
func findNGINX(given string) (string, error) {
	if given != "" {
		return exec.LookPath(given)
	}
	if path, err := exec.LookPath("nginx"); err == nil {
		return filepath.Abs(path)
	}
	for _, path := range []string{"/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/local/nginx/sbin/nginx", "/opt/homebrew/bin/nginx"} {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", errors.New("no nginx was found; install the package nginx, or run make peers, which fetches it")
}

var nginxConfig = template.Must(template.New("nginx.conf").Parse(`daemon off;
pid {{.Prefix}}/nginx.pid;
error_log {{.Prefix}}/error.log warn;
worker_processes 1;
events { worker_connections 256; }
http {
    access_log off;
    client_body_temp_path {{.Prefix}}/tmp;
    proxy_temp_path       {{.Prefix}}/tmp;
    fastcgi_temp_path     {{.Prefix}}/tmp;
    uwsgi_temp_path       {{.Prefix}}/tmp;
    scgi_temp_path        {{.Prefix}}/tmp;
    server {
        listen {{.Address}} ssl;
        server_name {{.Name}};
        ssl_certificate     {{.Cert}};
        ssl_certificate_key {{.Key}};
        location / { return 200 "served by NGINX with a certificate from certctl\n"; }
    }
}
`))

// startNGINX starts NGINX with a certificate that it made up, as it is on many hosts.
func (s *story) startNGINX(ctx context.Context) (string, error) {
	binary, err := findNGINX(s.NGINXBinary)
	if err != nil {
		return "", err
	}
	address, err := freeAddress(ctx)
	if err != nil {
		return "", err
	}
	n := &nginx{
		binary: binary, prefix: s.path("nginx"), config: s.path("nginx", "nginx.conf"),
		cert: s.path("nginx", "www.crt"), key: s.path("nginx", "www.key"), address: address,
	}
	if err := n.configure(); err != nil {
		return "", err
	}
	n.cmd = exec.CommandContext(ctx, binary, "-p", n.prefix, "-c", n.config)
	n.cmd.Cancel = func() error { return n.cmd.Process.Signal(syscall.SIGQUIT) }
	n.cmd.WaitDelay = 5 * time.Second
	if err := n.cmd.Start(); err != nil {
		return "", fmt.Errorf("start %s: %w", binary, err)
	}
	n.ended = make(chan struct{})
	go func() {
		_ = n.cmd.Wait()
		close(n.ended)
	}()
	s.nginx = n
	err = within(ctx, 10*time.Second, func(ctx context.Context) error {
		_, err := n.leaf(ctx)
		return err
	})
	if err != nil {
		log, _ := os.ReadFile(filepath.Join(n.prefix, "error.log"))
		return "", fmt.Errorf("%w; its log says: %.500s", err, log)
	}
	return fmt.Sprintf("%s at https://%s with a self-signed certificate", binary, address), nil
}

func (n *nginx) configure() error {
	for _, dir := range []string{n.prefix, filepath.Join(n.prefix, "tmp")} {
		// Workers of an NGINX that root started run as somebody else.
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	cert, key, err := placeholder()
	if err != nil {
		return err
	}
	f, err := os.Create(n.config)
	if err != nil {
		return err
	}
	err = nginxConfig.Execute(f, map[string]string{
		"Prefix": n.prefix, "Address": n.address, "Name": commonName, "Cert": n.cert, "Key": n.key,
	})
	return errors.Join(err, f.Close(), os.WriteFile(n.cert, cert, 0o644), os.WriteFile(n.key, key, 0o600))
}

func placeholder() (cert, key []byte, err error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: x509x.NewSerial(), Subject: pkix.Name{CommonName: "placeholder"},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		return nil, nil, err
	}
	key, err = x509x.EncodePrivateKey(k)
	return x509x.EncodePEM(der), key, err
}

func freeAddress(ctx context.Context) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func (n *nginx) wait() {
	if n != nil && n.ended != nil {
		<-n.ended
	}
}
