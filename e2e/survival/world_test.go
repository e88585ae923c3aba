package survival

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// world is an installation whose parts run apart: certctl with its private Postgres and
// NATS, the issuer, a leaf on this host and one that is a process of its own, and an
// agent with an NGINX at each leaf.
type world struct {
	t       *testing.T
	dir     string
	dataDir string
	api     *api

	certctl, issuer, leaf *process
	agents, nginxes       []*process
	targets               []target
}

// target is one server of an NGINX.
type target struct {
	id, address string
}

// quick shortens what waits for hours in production, so that a storm fits into minutes.
var quick = []string{
	"CERTCTL_DEPLOYMENT_ORDER_DEADLINE=4s", "CERTCTL_DEPLOYMENT_RETRY_BASE=500ms", "CERTCTL_DEPLOYMENT_RETRY_CAP=4s",
	"CERTCTL_DEPLOYMENT_MAX_ATTEMPTS=50", "CERTCTL_DEPLOYMENT_SWEEP_INTERVAL=1s",
	"CERTCTL_CSR_DEADLINE=40s", "CERTCTL_SCHEDULER_JOB_PROCESSOR_INTERVAL=2s", "CERTCTL_LOG_LEVEL=warn",
}

func newWorld(t *testing.T, targetsPerAgent int) *world {
	t.Helper()
	dir := t.TempDir()
	for d := dir; strings.HasPrefix(d, os.TempDir()) && d != os.TempDir(); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	w := &world{t: t, dir: dir, dataDir: filepath.Join(dir, "data")}
	port, leafPort := freePort(t), freePort(t)
	w.certctl = newProcess(t, dir, "certctl", append([]string{
		"CERTCTL_DATA_DIR=" + w.dataDir, "CERTCTL_SERVER_PORT=" + port, "CERTCTL_NATS_LISTEN=127.0.0.1:" + freePort(t),
		"CERTCTL_NATS_LEAF_LISTEN=127.0.0.1:" + freePort(t), "CERTCTL_LOCAL_LEAF_LISTEN=127.0.0.1:" + leafPort,
	}, quick...), "certctl", "up", "--without", "issuer")
	w.certctl.start()
	w.startIssuer()
	w.api = &api{url: "http://127.0.0.1:" + port, client: &http.Client{}}
	w.signIn()
	w.addAgent("site-local", "127.0.0.1:"+leafPort, targetsPerAgent)
	w.addSite(targetsPerAgent)
	return w
}

// startIssuer runs the issuer apart, with credentials of its own.
func (w *world) startIssuer() {
	w.t.Helper()
	creds := filepath.Join(w.dir, "issuer-credentials")
	eventually(w.t, time.Minute, "the issuer's credentials", func(ctx context.Context) error {
		return w.admin(ctx, "credentials", "issuer", creds)
	})
	env, err := os.ReadFile(filepath.Join(creds, "env"))
	if err != nil {
		w.t.Fatal(err)
	}
	w.issuer = newProcess(w.t, w.dir, "issuer", append(strings.Fields(string(env)), quick...), "issuer")
	w.issuer.start()
}

func (w *world) admin(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, filepath.Join(binaries, "certctl"), append([]string{"admin"}, args...)...)
	cmd.Env = append(os.Environ(), "CERTCTL_DATA_DIR="+w.dataDir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("certctl admin %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

func (w *world) signIn() {
	w.t.Helper()
	eventually(w.t, time.Minute, "readiness", func(ctx context.Context) error {
		key, err := os.ReadFile(filepath.Join(w.dataDir, "admin.key"))
		if err != nil {
			return err
		}
		w.api.key = strings.TrimSpace(string(key))
		return w.api.call(ctx, "GET", "/ready", nil, nil)
	})
}

// addSite makes a site with a leaf of its own and an agent.
func (w *world) addSite(targets int) {
	w.t.Helper()
	var site struct{ ID, Token string }
	if err := w.api.call(w.t.Context(), "POST", "/api/v1/sites", map[string]string{"name": "apart"}, &site); err != nil {
		w.t.Fatal(err)
	}
	address := "127.0.0.1:" + freePort(w.t)
	w.leaf = newProcess(w.t, w.dir, "leaf", []string{
		"CERTCTL_LEAF_TOKEN=" + site.Token, "CERTCTL_LEAF_GATEWAY_URL=" + w.api.url,
		"CERTCTL_LEAF_DATA_DIR=" + filepath.Join(w.dir, "leaf"), "CERTCTL_LEAF_LISTEN=" + address,
		"CERTCTL_LEAF_RECONNECT_DELAY=500ms", "CERTCTL_LEAF_LOG_LEVEL=warn",
	}, "certctl-leaf")
	w.leaf.start()
	w.addAgent(site.ID, address, targets)
}

// addAgent enrols an agent at a leaf, and describes an NGINX beside it.
func (w *world) addAgent(siteID, leaf string, targets int) {
	w.t.Helper()
	n := len(w.agents)
	dir := filepath.Join(w.dir, fmt.Sprintf("host-%d", n))
	servers := w.startNGINX(dir, targets)
	var token struct{ Token string }
	if err := w.api.call(w.t.Context(), "POST", "/api/v1/enrolment-tokens", map[string]string{"site_id": siteID}, &token); err != nil {
		w.t.Fatal(err)
	}
	name := fmt.Sprintf("agent-%d", n)
	agent := newProcess(w.t, w.dir, name, []string{
		"CERTCTL_AGENT_NAME=" + name, "CERTCTL_KEY_DIR=" + filepath.Join(dir, "keys"), "CERTCTL_AGENT_STATE_DIR=" + filepath.Join(dir, "state"),
		"CERTCTL_LEAF_URL=nats://" + leaf, "CERTCTL_ENROLMENT_TOKEN=" + token.Token,
		"CERTCTL_AGENT_ALLOWED_COMMANDS=" + nginxBinary(w.t), "CERTCTL_LOG_LEVEL=warn",
	}, "certctl-agent")
	agent.start()
	w.agents = append(w.agents, agent)
	var agentID string
	eventually(w.t, time.Minute, name+" online", func(ctx context.Context) error {
		agents, err := all[struct{ ID, Name, Status string }](ctx, w.api, "/api/v1/agents", map[string][]string{})
		if err != nil {
			return err
		}
		for _, a := range agents {
			if a.Name == name && a.Status == "Online" {
				agentID = a.ID
				return nil
			}
		}
		return errors.New("not there yet")
	})
	for i, address := range servers {
		t := target{id: fmt.Sprintf("tgt-%d-%d", n, i), address: address}
		err := w.api.call(w.t.Context(), "POST", "/api/v1/targets", map[string]any{
			"id": t.id, "name": t.id, "type": "NGINX", "agent_id": agentID, "config": map[string]string{
				"cert_path": filepath.Join(dir, fmt.Sprintf("%d.crt", i)), "key_path": filepath.Join(dir, fmt.Sprintf("%d.key", i)),
				"nginx_binary": nginxBinary(w.t), "prefix": dir, "config_path": filepath.Join(dir, "nginx.conf"),
				"verify_address": address, "server_name": t.id + ".survival.test",
			},
		}, nil)
		if err != nil {
			w.t.Fatal(err)
		}
		w.targets = append(w.targets, t)
	}
}

func nginxBinary(t *testing.T) string {
	t.Helper()
	for _, path := range []string{os.Getenv("CERTCTL_NGINX_BIN"), "nginx", "/usr/sbin/nginx", "/usr/local/sbin/nginx"} {
		if found, err := exec.LookPath(path); path != "" && err == nil {
			return found
		}
	}
	t.Fatal("no nginx was found; make peers fetches one")
	return ""
}

// startNGINX runs an NGINX with one TLS server a target, each with a placeholder.
func (w *world) startNGINX(dir string, servers int) []string {
	w.t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, "tmp"), 0o755); err != nil {
		w.t.Fatal(err)
	}
	var config strings.Builder
	fmt.Fprintf(&config, "daemon off; pid %[1]s/pid; error_log %[1]s/error.log; worker_processes 1;\nevents {}\nhttp { access_log off;", dir)
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&config, " %s_temp_path %s/tmp;", kind, dir)
	}
	var addresses []string
	for i := range servers {
		address := "127.0.0.1:" + freePort(w.t)
		cert, key := filepath.Join(dir, fmt.Sprintf("%d.crt", i)), filepath.Join(dir, fmt.Sprintf("%d.key", i))
		placeholder(w.t, cert, key)
		fmt.Fprintf(&config, "\nserver { listen %s ssl; ssl_certificate %s; ssl_certificate_key %s; location / { return 204; } }", address, cert, key)
		addresses = append(addresses, address)
	}
	config.WriteString("\n}\n")
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(config.String()), 0o600); err != nil {
		w.t.Fatal(err)
	}
	p := newProcess(w.t, w.dir, "nginx-"+filepath.Base(dir), nil, nginxBinary(w.t), "-p", dir, "-c", file)
	p.start()
	w.nginxes = append(w.nginxes, p)
	return addresses
}

func placeholder(t *testing.T, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), Subject: pkix.Name{CommonName: "placeholder"}}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(
		os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o600),
		os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	if err != nil {
		t.Fatal(err)
	}
}

// served is the fingerprint of the certificate that a target answers with.
func served(ctx context.Context, address string) (string, error) {
	dialer := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}} // what is served is the question
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	sum := sha256.Sum256(conn.(*tls.Conn).ConnectionState().PeerCertificates[0].Raw)
	return hex.EncodeToString(sum[:]), nil
}

// csr makes a signing request with a key of its own.
func csr(t *testing.T, name string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}
