package nginx_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/agent/internal/process"
	"github.com/certctl/certctl/services/agent/internal/target"
	"github.com/certctl/certctl/services/agent/internal/target/nginx"
	"github.com/certctl/certctl/services/agent/internal/target/nginx/nginxtest"
	"github.com/certctl/certctl/services/agent/internal/target/targettest"
)

const host = "www.example.test"

func TestNGINX_HoldsToWhatTargetsHoldTo(t *testing.T) {
	targettest.Run(t, func(t *testing.T, authority *targettest.Authority) targettest.Peer {
		before := authority.Bundle(host)
		server := start(t, before)
		return targettest.Peer{
			Kind: kind(server), Config: config(t, server), Before: before,
			Address: server.Address, ServerName: host,
			Break: server.Break, Mend: server.Mend,
			Leftovers: func() []string { return leftovers(t, server) },
		}
	})
}

func start(t *testing.T, b target.Bundle) *nginxtest.Server {
	t.Helper()
	return nginxtest.Start(t, host, x509x.EncodeCertificates(b.Chain...), b.KeyPEM)
}

func kind(s *nginxtest.Server) nginx.Kind {
	return nginx.Kind{Commands: process.Policy{Allowed: []string{s.Binary}}}
}

func config(t *testing.T, s *nginxtest.Server, changes ...func(*nginx.Config)) json.RawMessage {
	t.Helper()
	c := nginx.Config{
		CertPath: s.CertPath, KeyPath: s.KeyPath, Binary: s.Binary, ConfigPath: s.ConfigPath, Prefix: s.Prefix,
		VerifyAddress: s.Address,
	}
	for _, change := range changes {
		change(&c)
	}
	raw, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func leftovers(t *testing.T, s *nginxtest.Server) []string {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(s.Prefix, ".*"))
	if err != nil {
		t.Fatal(err)
	}
	return left
}

func TestNGINX_RefusesWhatItsHostDoesNotAllow(t *testing.T) {
	binary := nginxtest.Find(t)
	k := nginx.Kind{Commands: process.Policy{Allowed: []string{binary}}}
	tests := map[string]struct {
		config string
		want   string
	}{
		"no paths":                 {`{}`, "needs cert_path and key_path"},
		"no JSON":                  {`{"cert_path": 7}`, "cannot be read"},
		"a shell":                  {`{"cert_path":"/c","key_path":"/k","reload_command":"sh -c 'nginx -s reload'"}`, `"sh" is not allowed`},
		"two commands":             {`{"cert_path":"/c","key_path":"/k","reload_command":"nginx -t && nginx -s reload"}`, "without a shell"},
		"a directive":              {`{"cert_path":"/c","key_path":"/k","validate_command":"nginx -t -g 'load_module /tmp/x.so;'"}`, "nginx may"},
		"the whole configuration":  {`{"cert_path":"/c","key_path":"/k","validate_command":"nginx -T"}`, "nginx may"},
		"a stop":                   {`{"cert_path":"/c","key_path":"/k","reload_command":"nginx -s stop"}`, "nginx may"},
		"a log anywhere":           {`{"cert_path":"/c","key_path":"/k","validate_command":"nginx -e /etc/cron.d/x -t"}`, "nginx may"},
		"a binary anywhere":        {`{"cert_path":"/c","key_path":"/k","nginx_binary":"/tmp/nginx"}`, "not allowed"},
		"a binary by a detour":     {`{"cert_path":"/c","key_path":"/k","nginx_binary":"/usr/sbin/../../tmp/nginx"}`, "not allowed"},
		"a relative configuration": {`{"cert_path":"/c","key_path":"/k","config_path":"nginx.conf"}`, "not absolute"},
		"no port":                  {`{"cert_path":"/c","key_path":"/k","verify_address":"127.0.0.1"}`, "host:port"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := k.Open(json.RawMessage(tt.config))
			if err == nil {
				t.Fatal("accepted")
			}
			e := target.AsError(err)
			if !e.Permanent || e.State != target.Untouched || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %v (permanent %t), want one with %q", err, e.Permanent, tt.want)
			}
		})
	}
}

func TestNGINX_WritesChainKeyAndIssuersEachInItsFile(t *testing.T) {
	authority := targettest.NewAuthority(t)
	server := start(t, authority.Bundle(host))
	opened, err := kind(server).Open(config(t, server, func(c *nginx.Config) { c.ChainPath = server.ChainPath }))
	if err != nil {
		t.Fatal(err)
	}
	next := authority.Bundle(host)
	if _, err := opened.Deploy(t.Context(), next, &targettest.Progress{}); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string][]byte{
		server.CertPath:  x509x.EncodeCertificates(next.Chain...),
		server.KeyPath:   next.KeyPEM,
		server.ChainPath: x509x.EncodeCertificates(next.Chain[1:]...),
	} {
		if diff := cmp.Diff(string(want), read(t, path)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
	if diff := cmp.Diff(string(next.KeyPEM), string(opened.HoldsKey())); diff != "" {
		t.Errorf("the key that the target holds (-want +got):\n%s", diff)
	}
}

func TestNGINX_FailsNoRequestWhileItRenews(t *testing.T) {
	authority := targettest.NewAuthority(t)
	server := start(t, authority.Bundle(host))
	opened, err := kind(server).Open(config(t, server))
	if err != nil {
		t.Fatal(err)
	}
	stop := server.Hammer(4)
	const renewals = 5
	for range renewals {
		if _, err := opened.Deploy(t.Context(), authority.Bundle(host), &targettest.Progress{}); err != nil {
			t.Error(err)
		}
	}
	made, failed := stop()
	t.Logf("%d requests on new connections during %d renewals, %d failed", made, renewals, len(failed))
	if len(failed) > 0 {
		t.Errorf("%d of %d requests failed, the first: %v", len(failed), made, failed[0])
	}
	if made < 50 {
		t.Errorf("only %d requests were made", made)
	}
}

func TestNGINX_SaysWhyTheConfigurationTestFailed(t *testing.T) {
	authority := targettest.NewAuthority(t)
	server := start(t, authority.Bundle(host))
	server.Break()
	opened, err := kind(server).Open(config(t, server))
	if err != nil {
		t.Fatal(err)
	}
	_, err = opened.Deploy(t.Context(), authority.Bundle(host), &targettest.Progress{})
	if err == nil {
		t.Fatal("a broken configuration was accepted")
	}
	for _, want := range []string{"no_such_directive", "the configuration test failed"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error lacks %q: %v", want, err)
		}
	}
}

func TestNGINX_RestoresIfSomethingElseIsServed(t *testing.T) {
	authority := targettest.NewAuthority(t)
	before := authority.Bundle(host)
	server := start(t, before)
	other := start(t, authority.Bundle(host))
	// The files are those of one server, and what is looked at is another.
	opened, err := kind(server).Open(config(t, server, func(c *nginx.Config) { c.VerifyAddress = other.Address }))
	if err != nil {
		t.Fatal(err)
	}
	served, err := opened.Deploy(t.Context(), authority.Bundle(host), &targettest.Progress{})
	if err == nil || target.AsError(err).State != target.Restored || served == "" {
		t.Fatalf("deploy = %q, %v", served, err)
	}
	if got := read(t, server.CertPath); got != string(x509x.EncodeCertificates(before.Chain...)) {
		t.Error("the certificate that was there is not there again")
	}
	if want := []string{}; !slices.Equal(want, leftovers(t, server)) {
		t.Errorf("left behind: %v", leftovers(t, server))
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
