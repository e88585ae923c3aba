package lookup_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/certctl/certctl/services/issuer/internal/ca/acme/dns/bindtest"
	"github.com/certctl/certctl/services/issuer/internal/ca/acme/dns/lookup"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAsk_TellsApartWhatIsToBeMendedInDifferentPlaces(t *testing.T) {
	s := bindtest.Start(t, bindtest.Options{Signed: true})
	r := lookup.New(s.Address)
	for name, want := range map[string]lookup.Outcome{
		"ns1." + bindtest.Open: lookup.Found, bindtest.Open: lookup.NoData, "none." + bindtest.Open: lookup.NoName, "nowhere.test": lookup.NoName,
		"www." + bindtest.Failing: lookup.Failed, "ns1." + bindtest.Bogus: lookup.Bogus,
	} {
		if got := r.Ask(t.Context(), name, dns.TypeA); got.Outcome != want || got.Says == "" {
			t.Errorf("%s: %s (%s), want %s", name, got.Outcome, got.Says, want)
		}
	}
	if got := lookup.New("127.0.0.1:1").Ask(t.Context(), bindtest.Open, dns.TypeA); got.Outcome != lookup.Silent {
		t.Errorf("where nobody listens: %+v", got)
	}
	// The next is asked if one is away.
	if got := lookup.New("127.0.0.1:1", s.Address).Ask(t.Context(), bindtest.Open, dns.TypeSOA); got.Outcome != lookup.Found {
		t.Errorf("with another resolver: %+v", got)
	}
}

func TestTargetAndZone_FollowAliasesIntoOtherZones(t *testing.T) {
	s := bindtest.Start(t, bindtest.Options{Records: map[string][]string{bindtest.Open: {
		"_acme-challenge.www CNAME first", "first CNAME xyz.acme.example.net.", "a CNAME b", "b CNAME a", "_acme-challenge.lost CNAME x.failing.example.",
	}}})
	r := lookup.New(s.Address)
	r.AuthorityPort = s.Port
	for name, want := range map[string][2]string{
		"_acme-challenge.WWW.example.com.":           {"xyz.acme.example.net", bindtest.Other},
		"_acme-challenge.example.com":                {"_acme-challenge.example.com", bindtest.Open},
		"_acme-challenge.deep.down.acme.example.net": {"_acme-challenge.deep.down.acme.example.net", bindtest.Other},
	} {
		at, err := r.Target(t.Context(), name)
		if err != nil || at != want[0] {
			t.Errorf("%s leads to %q, %v", name, at, err)
		}
		zone, err := r.Zone(t.Context(), at)
		if err != nil || zone != want[1] {
			t.Errorf("%s is in zone %q, %v", at, zone, err)
		}
	}
	for _, name := range []string{"a.example.com", "_acme-challenge.lost.example.com"} {
		if at, err := r.Target(t.Context(), name); err == nil {
			t.Errorf("%s leads to %s", name, at)
		}
	}
	// An alias is in the zone that it stands in, not in that of what it is an alias of.
	if zone, err := r.Zone(t.Context(), "_acme-challenge.www.example.com"); err != nil || zone != bindtest.Open {
		t.Errorf("zone %q, %v", zone, err)
	}
	if zone, err := r.Zone(t.Context(), "www.nowhere.test"); err == nil {
		t.Errorf("found zone %q", zone)
	}
	if servers, err := r.Authorities(t.Context(), bindtest.Other); err != nil || !slices.Equal(servers, []string{s.Address}) {
		t.Errorf("%v, %v", servers, err)
	}
}

func TestExchange_EndsWithItsContext(t *testing.T) {
	hears, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer hears.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		// It has been asked, and will not answer.
		_, _, _ = hears.ReadFrom(make([]byte, 512))
		cancel()
	}()
	question := new(dns.Msg).SetQuestion("example.com.", dns.TypeA)
	_, err = lookup.Exchange(ctx, &dns.Client{Timeout: time.Hour}, hears.LocalAddr().String(), question)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
