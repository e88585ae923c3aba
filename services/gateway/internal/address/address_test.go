package address

import (
	"net/http/httptest"
	"testing"
)

func TestOf_BelievesOnlyProxiesThatAreTrusted(t *testing.T) {
	trusted, err := ParseProxies([]string{"10.0.0.0/8", "2001:db8::7", ""})
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name, peer string
		forwarded  []string
		want       string
	}{
		{"no proxy", "192.0.2.1:99", nil, "192.0.2.1"},
		{"a stranger claims to be somebody", "192.0.2.1:99", []string{"198.51.100.1"}, "192.0.2.1"},
		{"a proxy", "10.1.1.1:99", []string{"198.51.100.1"}, "198.51.100.1"},
		{"a proxy's caller claims more", "10.1.1.1:99", []string{"203.0.113.9, 198.51.100.1"}, "198.51.100.1"},
		{"two proxies", "10.1.1.1:99", []string{"203.0.113.9, 198.51.100.1", "10.2.2.2"}, "198.51.100.1"},
		{"with a port", "[2001:db8::7]:99", []string{"198.51.100.1:4711"}, "198.51.100.1"},
		{"IPv4 in IPv6", "[::ffff:10.0.0.1]:99", []string{"[2001:db8::99]:1"}, "2001:db8::99"},
		{"a proxy that says nothing", "10.1.1.1:99", nil, "10.1.1.1"},
		{"nonsense", "10.1.1.1:99", []string{"198.51.100.1, unknown"}, "10.1.1.1"},
	}
	for _, c := range cases {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = c.peer
		r.Header["X-Forwarded-For"] = c.forwarded
		if got := trusted.Of(r); got.String() != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.RemoteAddr = "@"
	if got := trusted.Of(r); got.IsValid() {
		t.Errorf("of no address: %s", got)
	}
	if _, err := ParseProxies([]string{"proxy.example"}); err == nil {
		t.Error("a name was taken for a network")
	}
}
