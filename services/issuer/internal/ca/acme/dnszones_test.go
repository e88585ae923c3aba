package acme_test

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/ca"
	"github.com/certctl/certctl/services/issuer/internal/ca/acme"
	"github.com/certctl/certctl/services/issuer/internal/ca/acme/dns/bindtest"
	"github.com/certctl/certctl/services/issuer/internal/ca/acme/pebbletest"
	"github.com/certctl/certctl/services/issuer/internal/registry"
)

// kind are ACME issuers in a network with a BIND.
func kind(s *pebbletest.Server, b *bindtest.Server) *acme.Kind {
	return &acme.Kind{Deps: newDeps(), HTTP: &acme.Listener{Address: s.HTTP}, DNS: &acme.Hooks{}, AuthorityPort: b.Port}
}

// byUpdate are the settings of an issuer that proves names by updates of a BIND's zones.
func byUpdate(s *pebbletest.Server, b *bindtest.Server, more map[string]any) map[string]any {
	config := map[string]any{
		"directory_url": s.Directory, "ca_certificate_pem": string(s.TLSRoot), "challenge_type": "dns-01", "dns_resolvers": []any{b.Address},
		"dns_provider": "rfc2136", "dns_rfc2136_nameserver": b.Address, "dns_rfc2136_tsig_key": bindtest.Key, "dns_rfc2136_tsig_secret": b.Secret,
		"dns_propagation_timeout_seconds": 60.0,
	}
	maps.Copy(config, more)
	return config
}

func opened(t *testing.T, k *acme.Kind, config map[string]any) ca.Issuer {
	t.Helper()
	made, err := k.Make(registry.Issuer{}, config)
	if err != nil {
		t.Fatal(err)
	}
	issuer, _, err := k.Open(t.Context(), registry.Issuer{ID: "iss-test", Config: made.Config})
	if err != nil {
		t.Fatal(err)
	}
	return issuer
}

// delegated has the proofs of a name in another zone.
var delegated = map[string][]string{bindtest.Open: {"_acme-challenge.www CNAME xyz.acme.example.net."}}

func TestZones_ProveWildcardsAndDelegatedNamesAndLeaveNothingBehind(t *testing.T) {
	b := bindtest.Start(t, bindtest.Options{Records: delegated})
	s := pebbletest.Start(t, pebbletest.Options{DNS: b.Address})
	k := kind(s, b)
	issuer := opened(t, k, byUpdate(s, b, nil))
	names := []string{"example.com", "*.example.com", "www.example.com", "*.www.example.com", "deep.down.example.com", "acme.example.net"}
	// Orders at the same time share names, and keep each other's proofs.
	var wg sync.WaitGroup
	for range 3 {
		r := request(t, names...)
		wg.Go(func() {
			issued, err := issuer.Issue(t.Context(), r)
			if err != nil || len(issued.ChainPEM) == 0 {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, name := range []string{"example.com", "www.example.com", "deep.down.example.com", "acme.example.net"} {
		if left := b.Texts("_acme-challenge." + name); left != nil {
			t.Errorf("at %s is left %q", name, left)
		}
	}
	if left := b.Texts("xyz.acme.example.net"); left != nil {
		t.Errorf("at the alias's target is left %q", left)
	}
}

func TestZones_SayWhatIsWrongWithTheProvider(t *testing.T) {
	b := bindtest.Start(t, bindtest.Options{Records: map[string][]string{bindtest.Open: {
		"_acme-challenge.lost CNAME x.failing.example.", "_acme-challenge.locked CNAME x.locked.example.",
	}}})
	s := pebbletest.Start(t, pebbletest.Options{DNS: b.Address})
	k := kind(s, b)
	const another = "c29tZXRoaW5nIGVsc2Ugc29tZXRoaW5nIGVsc2UgISE="
	for says, c := range map[string]struct {
		config map[string]any
		name   string
		zones  bool // whether the test of the connection sees it only if it knows the zone
	}{
		"the secret is another (BADSIG)": {map[string]any{"dns_rfc2136_tsig_secret": another}, "www.example.com", false},
		"it knows no key of this name":   {map[string]any{"dns_rfc2136_tsig_key": "other.certctl.test"}, "www.example.com", false},
		"cannot be asked":                {map[string]any{"dns_rfc2136_nameserver": "127.0.0.1:1", "dns_zones": "example.com"}, "www.example.com", false},
		"refuses to update":              {map[string]any{}, "locked.example.com", true},
		"look whether x.failing.example": {map[string]any{}, "lost.example.com", true},
	} {
		issuer := opened(t, k, byUpdate(s, b, c.config))
		_, err := issuer.Issue(t.Context(), request(t, c.name))
		if _, answered := errors.AsType[*ca.Unproven](err); !answered {
			t.Errorf("%s: it counts against the CA: %v", says, err)
		}
		if fault.CodeOf(err) != fault.Unavailable || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), another) {
			t.Errorf("%s: issue says %v", says, err)
		}
		if err = issuer.(ca.Tester).Test(t.Context()); (err == nil) != c.zones || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%s: the test says %v", says, err)
		}
	}
	for zone, good := range map[string]bool{bindtest.Open: true, bindtest.Other: true, bindtest.Locked: false, "elsewhere.test": false} {
		err := opened(t, k, byUpdate(s, b, map[string]any{"dns_zones": zone})).(ca.Tester).Test(t.Context())
		if (err == nil) != good || err != nil && !strings.Contains(err.Error(), zone) {
			t.Errorf("zone %s: the test says %v", zone, err)
		}
	}
}

func TestZones_OnlyThoseThatAreNamedAreWrittenTo(t *testing.T) {
	b := bindtest.Start(t, bindtest.Options{Records: delegated})
	s := pebbletest.Start(t, pebbletest.Options{DNS: b.Address})
	issuer := opened(t, kind(s, b), byUpdate(s, b, map[string]any{"dns_zones": []any{bindtest.Other}}))
	if _, err := issuer.Issue(t.Context(), request(t, "www.example.com")); err != nil {
		t.Error(err)
	}
	_, err := issuer.Issue(t.Context(), request(t, "example.com"))
	if err == nil || !strings.Contains(err.Error(), "dns_zones (acme.example.net)") || !strings.Contains(err.Error(), "CNAME") {
		t.Errorf("of another zone: %v", err)
	}
}

func TestZones_AreCancelledWhileTheyWaitAndWithdraw(t *testing.T) {
	b := bindtest.Start(t, bindtest.Options{})
	s := pebbletest.Start(t, pebbletest.Options{DNS: b.Address})
	issuer := opened(t, kind(s, b), byUpdate(s, b, map[string]any{"dns_propagation_wait_seconds": 240.0, "dns_propagation_timeout_seconds": 0.0}))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	r := request(t, "www.example.com")
	go func() {
		_, err := issuer.Issue(ctx, r)
		done <- err
	}()
	for b.Texts("_acme-challenge.www.example.com") == nil && t.Context().Err() == nil {
		if len(done) > 0 {
			t.Fatal(<-done)
		}
	}
	cancel()
	if err := <-done; fault.CodeOf(err) != fault.Unavailable && !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if left := b.Texts("_acme-challenge.www.example.com"); left != nil {
		t.Errorf("left %q", left)
	}
}

func TestScripts_AreToldWhereAnAliasLeads(t *testing.T) {
	b := bindtest.Start(t, bindtest.Options{Records: delegated})
	s := pebbletest.Start(t, pebbletest.Options{DNS: b.Address})
	diary := filepath.Join(t.TempDir(), "diary")
	program := filepath.Join(t.TempDir(), "present")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho $CERTCTL_DNS_FQDN $CERTCTL_DNS_TARGET >>"+diary+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	k := kind(s, b)
	k.DNS = &acme.Hooks{SetUp: program, Resolver: b.Address}
	issuer := opened(t, k, map[string]any{"directory_url": s.Directory, "ca_certificate_pem": string(s.TLSRoot), "challenge_type": "dns-01"})
	if _, err := issuer.Issue(t.Context(), request(t, "www.example.com", "api.example.com")); err == nil {
		t.Error("nobody has set a record")
	}
	text, err := os.ReadFile(diary)
	lines := slices.Sorted(strings.Lines(string(text)))
	want := []string{
		"_acme-challenge.api.example.com _acme-challenge.api.example.com\n", "_acme-challenge.www.example.com xyz.acme.example.net\n",
	}
	if err != nil || !slices.Equal(lines, want) {
		t.Errorf("%v: the program was told %q", err, lines)
	}
}
