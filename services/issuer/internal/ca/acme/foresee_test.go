package acme_test

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/ca"
	"github.com/certctl/certctl/services/issuer/internal/ca/acme/dns/bindtest"
	"github.com/certctl/certctl/services/issuer/internal/ca/acme/pebbletest"
)

// guarded has names with and without CAA records. Pebble is pebble.letsencrypt.org there.
var guarded = map[string][]string{bindtest.Open: {
	`@ CAA 0 issue "other-ca.example"`, `ok CAA 0 issue "pebble.letsencrypt.org"`, `wild CAA 0 issue "pebble.letsencrypt.org"`,
	`wild CAA 0 issuewild ";"`, `web CAA 0 issue "pebble.letsencrypt.org; validationmethods=http-01"`,
	`www.ok A 127.0.0.1`, `alias CNAME www.acme.example.net.`, `_acme-challenge.ok CNAME xyz.acme.example.net.`,
}, bindtest.Other: {`www CAA 0 issue "pebble.letsencrypt.org"`}}

func preflight(t *testing.T, issuer ca.Issuer, names ...string) map[string]ca.Finding {
	t.Helper()
	findings, err := issuer.(ca.Preflighter).Preflight(t.Context(), request(t, names...).Names)
	if err != nil {
		t.Fatal(err)
	}
	by := map[string]ca.Finding{}
	for _, f := range findings {
		by[f.Name+" "+f.Check] = f
	}
	return by
}

func holdsFindings(t *testing.T, got map[string]ca.Finding, want map[string][2]string) {
	t.Helper()
	for of, w := range want {
		if f := got[of]; string(f.Verdict) != w[0] || !strings.Contains(f.Says, w[1]) {
			t.Errorf("%s: %s %q, want %s %q", of, f.Verdict, f.Says, w[0], w[1])
		}
	}
	if len(got) != len(want) {
		t.Errorf("found %v", slices.Sorted(maps.Keys(got)))
	}
}

func TestPreflight_SaysForEachNameWhatIsInTheWay(t *testing.T) {
	b := bindtest.Start(t, bindtest.Options{Records: guarded, Signed: true})
	s := pebbletest.Start(t, pebbletest.Options{DNS: b.Address})
	k := kind(s, b)
	got := preflight(t, opened(t, k, byUpdate(s, b, nil)), "example.com", "ok.example.com", "wild.example.com", "*.wild.example.com", "web.example.com",
		"alias.example.com", "free.acme.example.net", "a.failing.example", "a.bogus.example", "a.nowhere.test", "127.0.0.1")
	holdsFindings(t, got, map[string][2]string{
		"example.com caa":            {"forbidden", `Add this record: example.com. CAA 0 issue "pebble.letsencrypt.org"`},
		"example.com zone":           {"ok", "in the zone example.com"},
		"ok.example.com caa":         {"ok", "CAA records of ok.example.com allow it"},
		"ok.example.com zone":        {"ok", "is an alias: the proof is xyz.acme.example.net in the zone acme.example.net"},
		"wild.example.com caa":       {"ok", "allow it"},
		"wild.example.com zone":      {"ok", ""},
		"*.wild.example.com caa":     {"forbidden", `wild.example.com. CAA 0 issuewild "pebble.letsencrypt.org"`},
		"*.wild.example.com zone":    {"ok", "_acme-challenge.wild.example.com in"},
		"web.example.com caa":        {"forbidden", "does not allow names to be proven by dns-01"},
		"web.example.com zone":       {"ok", ""},
		"alias.example.com caa":      {"ok", "CAA records of alias.example.com allow it"}, // by way of the alias
		"alias.example.com zone":     {"ok", ""},
		"free.acme.example.net caa":  {"ok", "no CAA records"},
		"free.acme.example.net zone": {"ok", "in the zone acme.example.net"},
		"a.failing.example caa":      {"warning", "name servers do not answer"},
		"a.failing.example zone":     {"forbidden", "name servers do not answer"},
		"a.bogus.example caa":        {"warning", "DNSSEC"},
		"a.bogus.example zone":       {"forbidden", "DNSSEC"},
		"a.nowhere.test caa":         {"ok", "no CAA records"},
		"a.nowhere.test zone":        {"forbidden", "no zone above it can be seen from here"},
		"127.0.0.1 challenge_type":   {"forbidden", "http-01"},
	})
	byHTTP := map[string]any{
		"directory_url": s.Directory, "ca_certificate_pem": string(s.TLSRoot), "dns_resolvers": b.Address,
	}
	holdsFindings(t, preflight(t, opened(t, k, byHTTP), "www.ok.example.com", "web.example.com", "none.ok.example.com", "*.ok.example.com", "127.0.0.1"), map[string][2]string{
		"www.ok.example.com caa":          {"ok", ""},
		"www.ok.example.com address":      {"ok", "port 80 of 127.0.0.1"},
		"web.example.com caa":             {"ok", ""},
		"web.example.com address":         {"warning", "no such record"},
		"none.ok.example.com caa":         {"ok", ""},
		"none.ok.example.com address":     {"warning", "NXDOMAIN"},
		"*.ok.example.com challenge_type": {"forbidden", "dns-01"},
		"127.0.0.1 address":               {"ok", "port 80 of 127.0.0.1"},
	})
}

func TestPreflight_SparesTheCAAnOrderThatCAAForbids(t *testing.T) {
	b := bindtest.Start(t, bindtest.Options{Records: guarded})
	s := pebbletest.Start(t, pebbletest.Options{DNS: b.Address})
	var orders atomic.Int32
	directory := s.Between(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/order-plz") {
			orders.Add(1)
		}
		return false
	})
	k := kind(s, b)
	issuer := opened(t, k, byUpdate(s, b, map[string]any{"directory_url": directory}))
	_, err := issuer.Issue(t.Context(), request(t, "ok.example.com", "www.example.com"))
	if fault.CodeOf(err) != fault.Invalid || !strings.Contains(err.Error(), `example.com. CAA 0 issue "pebble.letsencrypt.org"`) || orders.Load() != 0 {
		t.Errorf("got %v, %d orders", err, orders.Load())
	}
	placed := request(t, "www.example.com")
	placed.Order = []byte(directory + "/an-order-that-was-placed-before")
	if _, err := issuer.Issue(t.Context(), placed); err != nil && strings.Contains(err.Error(), "CAA") {
		t.Errorf("an order that was placed before is not gone on with: %v", err)
	}
	orders.Store(0)
	if _, err := issuer.Issue(t.Context(), request(t, "ok.example.com")); err != nil || orders.Load() == 0 {
		t.Errorf("what is allowed: %v, %d orders", err, orders.Load())
	}
	// Pebble does not look at CAA records, so what is tried nevertheless is issued.
	for _, mode := range []string{"warn", "off"} {
		issuer = opened(t, kind(s, b), byUpdate(s, b, map[string]any{"preflight": mode}))
		if _, err := issuer.Issue(t.Context(), request(t, "www.example.com")); err != nil {
			t.Errorf("%s: %v", mode, err)
		}
	}
}

// A name that is only seen elsewhere, by a resolver that is only there, must be had all the same.
func TestPreflight_LetsNamesPassThatCannotBeSeenFromHere(t *testing.T) {
	b := bindtest.Start(t, bindtest.Options{})
	s := pebbletest.Start(t, pebbletest.Options{})
	k := kind(s, b)
	for _, resolver := range []string{b.Address, "127.0.0.1:1"} {
		config := map[string]any{"directory_url": s.Directory, "ca_certificate_pem": string(s.TLSRoot), "dns_resolvers": resolver}
		if _, err := opened(t, k, config).Issue(t.Context(), request(t, "host.inside.test")); err != nil {
			t.Errorf("resolver %s: %v", resolver, err)
		}
	}
}

func TestPreflight_ExplainsWhatTheCADoesNotBelieve(t *testing.T) {
	b := bindtest.Start(t, bindtest.Options{})
	s := pebbletest.Start(t, pebbletest.Options{DNS: b.Address})
	config := map[string]any{"directory_url": s.Directory, "ca_certificate_pem": string(s.TLSRoot), "dns_resolvers": b.Address}
	_, err := opened(t, kind(s, b), config).Issue(t.Context(), request(t, "none.example.com"))
	if fault.CodeOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "seen from here: none.example.com: there is no address (there is no such name (NXDOMAIN))") {
		t.Errorf("got %v", err)
	}
}
