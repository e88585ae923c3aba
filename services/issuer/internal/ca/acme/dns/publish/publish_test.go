package publish_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/ca/acme/dns/bindtest"
	"github.com/certctl/certctl/services/issuer/internal/ca/acme/dns/lookup"
	"github.com/certctl/certctl/services/issuer/internal/ca/acme/dns/provider"
	"github.com/certctl/certctl/services/issuer/internal/ca/acme/dns/publish"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// notes is a provider that only takes notes, of records that nobody will see.
type notes struct {
	mu    sync.Mutex
	lines map[string]bool // guarded by mu
	fails string          // the name whose record cannot be set
	most  int
}

func (n *notes) note(line string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lines[line] = true
}

func (n *notes) all() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Sorted(maps.Keys(n.lines))
}

func (n *notes) Add(_ context.Context, at publish.Place, value string) error {
	if at.Name == n.fails {
		return errors.New("no")
	}
	n.note("add " + at.Zone + " " + at.Name + " " + value)
	return nil
}

func (n *notes) Remove(_ context.Context, at publish.Place, value string) error {
	n.note("remove " + at.Name + " " + value)
	return nil
}

func (*notes) Test(context.Context, []string) error { return nil }

func (n *notes) Most() int { return n.most }

// resolver asks a BIND, and the name servers that it tells of at its port.
func resolver(b *bindtest.Server) *lookup.Resolver {
	r := lookup.New(b.Address)
	r.AuthorityPort = b.Port
	return r
}

func TestPublish_TakesBackEverythingIfOneRecordCannotBeSet(t *testing.T) {
	b := bindtest.Start(t, bindtest.Options{})
	n := &notes{lines: map[string]bool{}, fails: "b.example.com", most: 2}
	p := publish.Publisher{Provider: n, Resolver: resolver(b)}
	_, err := p.Publish(t.Context(), []publish.Record{{Name: "a.example.com", Value: "1"}, {Name: "b.example.com", Value: "2"}})
	if fault.CodeOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "b.example.com could not be set") {
		t.Errorf("got %v", err)
	}
	all := n.all()
	if !slices.Contains(all, "remove a.example.com 1") || !slices.Contains(all, "remove b.example.com 2") {
		t.Errorf("%q", all)
	}
}

func TestPublish_RefusesMoreValuesThanANameHolds(t *testing.T) {
	b := bindtest.Start(t, bindtest.Options{Records: map[string][]string{bindtest.Open: {"a CNAME x", "b CNAME x", "c CNAME x"}}})
	n := &notes{lines: map[string]bool{}, most: 2}
	p := publish.Publisher{Provider: n, Resolver: resolver(b)}
	_, err := p.Publish(t.Context(), []publish.Record{{Name: "a.example.com", Value: "1"}, {Name: "b.example.com", Value: "2"}, {Name: "c.example.com", Value: "3"}})
	if err == nil || !strings.Contains(err.Error(), "x.example.com holds 2 values") || len(n.all()) != 0 {
		t.Errorf("%v, %q", err, n.all())
	}
}

func TestPublish_SaysWhatIsSeenInsteadOfARecord(t *testing.T) {
	b := bindtest.Start(t, bindtest.Options{Records: map[string][]string{bindtest.Open: {"a TXT old"}}})
	n := &notes{lines: map[string]bool{}, most: 2}
	for _, byResolver := range []bool{false, true} {
		p := publish.Publisher{Provider: n, Resolver: resolver(b), Watch: publish.Watch{Timeout: 50 * time.Millisecond, ByResolver: byResolver}}
		for name, says := range map[string]string{"a.example.com": `it has ["old"]`, "none.example.com": "NXDOMAIN"} {
			_, err := p.Publish(t.Context(), []publish.Record{{Name: name, Value: "new"}})
			if err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), b.Address) {
				t.Errorf("by resolver %v: %s: %v", byResolver, name, err)
			}
		}
	}
	if !slices.Contains(n.all(), "remove a.example.com new") {
		t.Errorf("%q", n.all())
	}
}

// Where a firewall hides the name servers, the resolvers are as good.
func TestPublish_AsksTheResolversWhereNoNameServerIsReached(t *testing.T) {
	b := bindtest.Start(t, bindtest.Options{})
	r := lookup.New(b.Address)
	r.AuthorityPort = "1"
	p := publish.Publisher{
		Provider: &provider.Update{Server: b.Address, Key: bindtest.Key, Secret: b.Secret, Algorithm: bindtest.Algorithm},
		Resolver: r, Watch: publish.Watch{Timeout: time.Minute},
	}
	withdraw, err := p.Publish(t.Context(), []publish.Record{{Name: "a.example.com", Value: "1"}})
	if err != nil {
		t.Fatal(err)
	}
	withdraw()
	if left := b.Texts("a.example.com"); left != nil {
		t.Errorf("left %q", left)
	}
}

func TestPlace_IsInTheInnermostZoneThatIsNamed(t *testing.T) {
	b := bindtest.Start(t, bindtest.Options{})
	p := publish.Publisher{Provider: &notes{}, Resolver: resolver(b), Zones: []string{"example.com", "eu.example.com", "com"}}
	for name, zone := range map[string]string{"a.example.com": "example.com", "a.eu.example.com": "eu.example.com", "aeu.example.com": "example.com", "eu.example.com": "eu.example.com"} {
		at, err := p.Place(t.Context(), name)
		if err != nil || at.Zone != zone || at.Name != name {
			t.Errorf("%s: %+v, %v", name, at, err)
		}
	}
	if at := (publish.Place{Zone: "example.com", Name: "_acme-challenge.www.example.com"}); at.Relative() != "_acme-challenge.www" {
		t.Errorf("relative %q", at.Relative())
	}
	if at := (publish.Place{Zone: "example.com", Name: "example.com"}); at.Relative() != "" {
		t.Errorf("relative %q", at.Relative())
	}
}
