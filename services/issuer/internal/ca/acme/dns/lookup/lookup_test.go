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

func TestLocate_FollowsAliasesIntoOtherZones(t *testing.T) {
	s := bindtest.Start(t, bindtest.Options{Records: map[string][]string{bindtest.Open: {
		"_acme-challenge.www CNAME first", "first CNAME xyz.acme.example.net.", "a CNAME b", "b CNAME a", "_acme-challenge.apart NS ns1", "_acme-challenge.lost CNAME x.failing.example.",
	}}})
	r := lookup.New(s.Address)
	r.AuthorityPort = s.Port
	for name, want := range map[string][2]string{
		"_acme-challenge.WWW.example.com.": {"xyz.acme.example.net", bindtest.Other},
		"_acme-challenge.example.com":      {"_acme-challenge.example.com", bindtest.Open},
		// A proof may be a zone of its own, which its parent refers to.
		"_acme-challenge.apart.example.com":          {"_acme-challenge.apart.example.com", "_acme-challenge.apart.example.com"},
		"_acme-challenge.deep.down.acme.example.net": {"_acme-challenge.deep.down.acme.example.net", bindtest.Other},
	} {
		at, err := r.Locate(t.Context(), name, false)
		if err != nil || at.Name != want[0] || at.Zone != want[1] {
			t.Errorf("%s leads to %+v, %v", name, at, err)
		}
	}
	for _, name := range []string{"a.example.com", "_acme-challenge.lost.example.com"} {
		if at, err := r.Locate(t.Context(), name, true); err == nil {
			t.Errorf("%s leads to %+v", name, at)
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

// What a resolver has once been asked in vain it remembers, and would not see the record that is set next.
func TestLocate_LeavesNoMemoryOfAnAbsenceWithTheResolver(t *testing.T) {
	zones := bindtest.Start(t, bindtest.Options{Records: map[string][]string{bindtest.Open: {"_acme-challenge.alias CNAME one.acme.example.net."}}})
	cache := bindtest.Start(t, bindtest.Options{ForwardTo: zones.Address})
	r := lookup.New(cache.Address)
	r.AuthorityPort = zones.Port
	for name, ends := range map[string]string{"_acme-challenge.www.example.com": "_acme-challenge.www.example.com", "_acme-challenge.alias.example.com": "one.acme.example.net"} {
		at, err := r.Locate(t.Context(), name, true)
		if err != nil || at.Name != ends {
			t.Fatalf("%s leads to %+v, %v", name, at, err)
		}
		zones.Set(at.Name, "now")
		if got := r.Ask(t.Context(), name, dns.TypeTXT); !slices.Equal(got.Texts(), []string{"now"}) {
			t.Errorf("%s: the resolver has %s %q", name, got.Outcome, got.Texts())
		}
	}
	// It does remember what it was asked itself.
	if got := r.Ask(t.Context(), "never.example.com", dns.TypeTXT); got.Outcome != lookup.NoName {
		t.Fatalf("got %+v", got)
	}
	zones.Set("never.example.com", "now")
	if got := r.Ask(t.Context(), "never.example.com", dns.TypeTXT); got.Outcome != lookup.NoName {
		t.Errorf("this resolver remembers nothing, so the test shows nothing: %+v", got)
	}
}

func TestAskAt_LeavesServersAloneThatWereNotReached(t *testing.T) {
	listener, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.LocalAddr().String()
	_ = listener.Close()
	r := lookup.New(address)
	if got := r.AskAt(t.Context(), address, "example.com", dns.TypeTXT); got.Outcome != lookup.Silent {
		t.Fatalf("where nobody listens: %+v", got)
	}
	packets, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", address)
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: packets, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		_ = w.WriteMsg(new(dns.Msg).SetReply(q))
	})}
	up := make(chan struct{})
	server.NotifyStartedFunc = func() { close(up) }
	ended := make(chan error)
	go func() { ended <- server.ActivateAndServe() }()
	<-up
	defer func() {
		if err := server.Shutdown(); err != nil {
			t.Error(err)
		}
		<-ended
	}()
	if got := r.AskAt(t.Context(), address, "example.com", dns.TypeTXT); got.Outcome != lookup.Silent {
		t.Errorf("it was asked again: %+v", got)
	}
	// Somebody else asks it, and as a resolver it is always asked.
	if got := lookup.New().AskAt(t.Context(), address, "example.com", dns.TypeTXT); got.Outcome != lookup.NoData {
		t.Errorf("got %+v", got)
	}
	if got := r.Ask(t.Context(), "example.com", dns.TypeTXT); got.Outcome != lookup.NoData {
		t.Errorf("got %+v", got)
	}
}

func TestAsk_BearsThatTheNetworkLosesAPacket(t *testing.T) {
	packets, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer packets.Close()
	go func() {
		buffer := make([]byte, 512)
		// The first is lost.
		_, _, _ = packets.ReadFrom(buffer)
		n, from, err := packets.ReadFrom(buffer)
		q := new(dns.Msg)
		if err != nil || q.Unpack(buffer[:n]) != nil {
			return
		}
		text, err := new(dns.Msg).SetReply(q).Pack()
		if err == nil {
			_, _ = packets.WriteTo(text, from)
		}
	}()
	if got := lookup.New(packets.LocalAddr().String()).Ask(t.Context(), "example.com", dns.TypeTXT); got.Outcome != lookup.NoData {
		t.Errorf("got %+v", got)
	}
}
