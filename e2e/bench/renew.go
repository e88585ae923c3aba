package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// measureRenew times a renewal with a CSR of the caller's, one at a time on an idle
// system: when the answer is there, the new version is stored.
func measureRenew(ctx context.Context, b *bench) error {
	in, err := b.up(ctx, "renew")
	if err != nil {
		return err
	}
	defer in.stop()
	const name = "renew.bench.test"
	csr, err := request(name)
	if err != nil {
		return err
	}
	body := map[string]any{"id": "mc-renew", "common_name": name, "sans": []string{name}, "csr_pem": csr}
	if err := in.call(ctx, "POST", "/api/v1/certificates", body, nil); err != nil {
		return err
	}
	requests := make([]string, b.many(300))
	for i := range requests {
		if requests[i], err = request(name); err != nil {
			return err
		}
	}
	times, took, err := load(ctx, 1, len(requests), func(ctx context.Context, i int) error {
		var answer struct {
			Version *struct{} `json:"version"`
		}
		if err := in.call(ctx, "POST", "/api/v1/certificates/mc-renew/renew", map[string]string{"csr_pem": requests[i]}, &answer); err != nil {
			return err
		}
		if answer.Version == nil {
			return errors.New("the answer came before the version")
		}
		return nil
	})
	if err != nil {
		return err
	}
	r := figure("renew", "trigger to new version stored, idle system", times, took, 0)
	r.Rate = 0
	b.add(r)
	return nil
}

// site is an NGINX and the agent beside it.
type site struct {
	agent, nginx         *process
	address, cert, key   string
	agentID, certificate string
}

// measureServed times the whole way: trigger, key on the agent, signature, NGINX
// reloaded, and the new certificate seen in a handshake.
func measureServed(ctx context.Context, b *bench) error {
	in, err := b.up(ctx, "served")
	if err != nil {
		return err
	}
	defer in.stop()
	s, err := in.site(ctx, b)
	if err != nil {
		return err
	}
	defer s.agent.stop()
	defer s.nginx.stop()
	before, err := s.active(ctx, in, "")
	if err != nil {
		return err
	}
	in.settle(ctx)
	times := make([]time.Duration, 0, b.many(50))
	for range cap(times) {
		begun := time.Now()
		if err := in.call(ctx, "POST", "/api/v1/certificates/mc-served/renew", map[string]string{}, nil); err != nil {
			return err
		}
		if err := s.changed(ctx); err != nil {
			return err
		}
		times = append(times, time.Since(begun))
		if before, err = s.active(ctx, in, before); err != nil {
			return err
		}
	}
	r := figure("renew", "trigger to served by NGINX, through the leaf", sorted(times), time.Second, 0)
	r.Rate, r.Note = 0, fmt.Sprintf("agent %.0f MiB", s.agent.memory())
	b.add(r)
	return nil
}

func (in *installation) site(ctx context.Context, b *bench) (*site, error) {
	dir := filepath.Join(b.dir, "site")
	s := &site{cert: filepath.Join(dir, "www.crt"), key: filepath.Join(dir, "www.key")}
	nginx, err := s.startNGINX(ctx, dir)
	if err != nil {
		return nil, err
	}
	var token struct{ Token string }
	if err := in.call(ctx, "POST", "/api/v1/enrolment-tokens", map[string]any{}, &token); err != nil {
		return nil, err
	}
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "keys"), 0o700), os.Mkdir(filepath.Join(dir, "agent"), 0o700)); err != nil {
		return nil, err
	}
	s.agent, err = start(ctx, filepath.Join(dir, "agent.log"), []string{
		"CERTCTL_ENROLMENT_TOKEN=" + token.Token, "CERTCTL_LEAF_URL=" + in.leafURL, "CERTCTL_KEY_DIR=" + filepath.Join(dir, "keys"),
		"CERTCTL_AGENT_STATE_DIR=" + filepath.Join(dir, "agent"), "CERTCTL_AGENT_ALLOWED_COMMANDS=" + nginx, "CERTCTL_LOG_LEVEL=warn",
	}, filepath.Join(b.bin, "certctl-agent"))
	if err != nil {
		return nil, err
	}
	for s.agentID == "" {
		var agents struct{ Data []struct{ ID string } }
		if err := in.call(ctx, "GET", "/api/v1/agents", nil, &agents); err != nil {
			return nil, err
		}
		if len(agents.Data) > 0 {
			s.agentID = agents.Data[0].ID
		}
	}
	target := map[string]any{"id": "tgt-bench", "name": "bench", "type": "NGINX", "agent_id": s.agentID, "config": map[string]string{
		"cert_path": s.cert, "key_path": s.key, "nginx_binary": nginx, "prefix": dir, "config_path": filepath.Join(dir, "nginx.conf"),
		"verify_address": s.address, "server_name": "served.bench.test",
	}}
	if err := in.call(ctx, "POST", "/api/v1/targets", target, nil); err != nil {
		return nil, err
	}
	return s, in.call(ctx, "POST", "/api/v1/certificates", map[string]any{
		"id": "mc-served", "common_name": "served.bench.test", "target_ids": []string{"tgt-bench"},
	}, nil)
}

func (s *site) startNGINX(ctx context.Context, dir string) (string, error) {
	nginx, err := exec.LookPath("nginx")
	if err != nil {
		if nginx = "/usr/sbin/nginx"; os.Getenv("CERTCTL_NGINX_BIN") != "" {
			nginx = os.Getenv("CERTCTL_NGINX_BIN")
		}
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	s.address = listener.Addr().String()
	key, err := newKey()
	if err != nil {
		return "", err
	}
	placeholder, err := certificate("placeholder", key, nil, nil)
	if err != nil {
		return "", err
	}
	keyPEM, err := marshalKey(key)
	if err != nil {
		return "", err
	}
	config := fmt.Sprintf(`daemon off; pid %[1]s/pid; error_log %[1]s/error.log; worker_processes 1;
events {}
http { access_log off; client_body_temp_path %[1]s/t; proxy_temp_path %[1]s/t; fastcgi_temp_path %[1]s/t; uwsgi_temp_path %[1]s/t; scgi_temp_path %[1]s/t;
server { listen %[2]s ssl; ssl_certificate %[3]s; ssl_certificate_key %[4]s; location / { return 204; } } }
`, dir, s.address, s.cert, s.key)
	err = errors.Join(listener.Close(), os.MkdirAll(filepath.Join(dir, "t"), 0o755),
		os.WriteFile(s.cert, pemOf("CERTIFICATE", placeholder.Raw), 0o600), os.WriteFile(s.key, keyPEM, 0o600),
		os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(config), 0o600))
	if err != nil {
		return "", err
	}
	s.nginx, err = start(ctx, filepath.Join(dir, "nginx.log"), nil, nginx, "-p", dir, "-c", filepath.Join(dir, "nginx.conf"))
	return nginx, err
}

// active waits until the certificate is Active with another fingerprint than before.
func (s *site) active(ctx context.Context, in *installation, before string) (string, error) {
	for deadline := time.Now().Add(time.Minute); ; {
		var c struct {
			Status       string `json:"status"`
			StatusReason string `json:"status_reason"`
			Fingerprint  string `json:"fingerprint_sha256"`
		}
		if err := in.call(ctx, "GET", "/api/v1/certificates/mc-served", nil, &c); err != nil {
			return "", err
		}
		if c.Status == "Active" && c.Fingerprint != before {
			s.certificate = c.Fingerprint
			return c.Fingerprint, nil
		}
		if time.Now().After(deadline) {
			return "", fmt.Errorf("the certificate is %s after a minute: %s", c.Status, c.StatusReason)
		}
	}
}

// changed connects until another certificate is served than the one known.
func (s *site) changed(ctx context.Context) error {
	dialer := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, ServerName: "served.bench.test"}}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		conn, err := dialer.DialContext(ctx, "tcp", s.address)
		if err != nil {
			return err
		}
		leaf := conn.(*tls.Conn).ConnectionState().PeerCertificates[0]
		if err := conn.Close(); err != nil {
			return err
		}
		if fingerprint(leaf.Raw) != s.certificate {
			return nil
		}
	}
	return errors.New("the new certificate was not served within a minute")
}
