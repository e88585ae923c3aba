package lookup

import (
	"context"
	"fmt"
	"net"
	"strings"

	"github.com/miekg/dns"
)

const (
	// maxAliases is more than any sane delegation needs, and ends a circle.
	maxAliases = 16
	// maxAsked is how many name servers of a zone are tried for one answer.
	maxAsked = 4
)

// Place is where the aliases of a name end, and the zone that this is in, empty if it cannot be told. Both are in lower
// case and without the dot at the end.
type Place struct{ Name, Zone string }

// Locate follows the aliases (CNAME) of a name that need not be there yet. Resolvers remember that a name is not there,
// for as long as its zone says, and a record that is set next would go unseen that long. So they are asked for the zone
// above a name, and its name servers for the name itself; the resolvers are asked for that only if byResolver allows it, where no
// name server can be reached. The error is why it cannot be told.
func (r *Resolver) Locate(ctx context.Context, name string, byResolver bool) (Place, error) {
	at := normal(name)
	for range maxAliases {
		answer, zone := r.fresh(ctx, at)
		if !answer.Outcome.Answered() && byResolver {
			answer = r.Ask(ctx, at, dns.TypeCNAME)
		}
		if !answer.Outcome.Answered() {
			return Place{}, fmt.Errorf("look whether %s is an alias: %s", at, answer.Says)
		}
		next := ""
		for _, rr := range answer.Records {
			if alias, ok := rr.(*dns.CNAME); ok && normal(alias.Hdr.Name) == at {
				next = normal(alias.Target)
			}
		}
		if next == "" {
			return Place{at, zone}, nil
		}
		at = next
	}
	return Place{}, fmt.Errorf("follow the aliases of %s: there are more than %d, or they go in a circle", name, maxAliases)
}

// fresh asks the name servers of the zone above a name whether it is an alias, and returns its zone.
func (r *Resolver) fresh(ctx context.Context, name string) (Answer, string) {
	zone, err := r.Zone(ctx, parent(name))
	if err != nil {
		return Answer{Outcome: Silent, Says: err.Error()}, ""
	}
	servers, err := r.Authorities(ctx, zone)
	if err != nil {
		return Answer{Outcome: Silent, Says: err.Error()}, zone
	}
	var last Answer
	for _, server := range servers[:min(len(servers), maxAsked)] {
		last = r.AskAt(ctx, server, name, dns.TypeCNAME)
		if !last.Outcome.Answered() {
			last.Says = server + ": " + last.Says
			continue
		}
		for _, rr := range last.Authority {
			// It is a zone of its own, which this server refers to.
			if ns, ok := rr.(*dns.NS); ok && normal(ns.Hdr.Name) == name {
				zone = name
			}
		}
		break
	}
	return last, zone
}

// Zone returns the zone that a name is in, by the start of authority that is nearest above it.
func (r *Resolver) Zone(ctx context.Context, name string) (string, error) {
	for at := normal(name); at != ""; at = parent(at) {
		answer := r.Ask(ctx, at, dns.TypeSOA)
		if !answer.Outcome.Answered() {
			return "", fmt.Errorf("find the zone of %s: %s: %s", name, at, answer.Says)
		}
		if zone := owner(answer, at); zone != "" {
			return zone, nil
		}
	}
	return "", fmt.Errorf("find the zone of %s: no zone above it can be seen from here", name)
}

// owner is the zone that an answer says a name is in. An answer by way of an alias is about the alias's target.
func owner(a Answer, name string) string {
	for _, rr := range a.Records {
		if _, alias := rr.(*dns.CNAME); alias {
			return ""
		}
	}
	for _, rr := range append(append([]dns.RR{}, a.Records...), a.Authority...) {
		// The root's is what is said of a name below which nothing is: that is nobody's zone.
		soa, ok := rr.(*dns.SOA)
		if !ok || normal(soa.Hdr.Name) == "" {
			continue
		}
		if dns.IsSubDomain(soa.Hdr.Name, dns.Fqdn(name)) {
			return normal(soa.Hdr.Name)
		}
	}
	return ""
}

// Authorities returns the addresses of the name servers of a zone, each as host:port.
func (r *Resolver) Authorities(ctx context.Context, zone string) ([]string, error) {
	answer := r.Ask(ctx, zone, dns.TypeNS)
	at := r.AuthorityPort
	if at == "" {
		at = port
	}
	var servers []string
	for _, rr := range answer.Records {
		ns, ok := rr.(*dns.NS)
		if !ok {
			continue
		}
		for _, address := range r.Addresses(ctx, ns.Ns) {
			servers = append(servers, net.JoinHostPort(address, at))
		}
	}
	if len(servers) == 0 {
		return nil, fmt.Errorf("find the name servers of %s: %s", zone, answer.Says)
	}
	return servers, nil
}

// Addresses are those of a host, of both families.
func (r *Resolver) Addresses(ctx context.Context, host string) []string {
	var all []string
	for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA} {
		for _, rr := range r.Ask(ctx, host, kind).Records {
			switch rr := rr.(type) {
			case *dns.A:
				all = append(all, rr.A.String())
			case *dns.AAAA:
				all = append(all, rr.AAAA.String())
			}
		}
	}
	return all
}

// Texts are the values of TXT records at a name in an answer; a value that came in pieces is put together.
func (a Answer) Texts() []string {
	var all []string
	for _, rr := range a.Records {
		if txt, ok := rr.(*dns.TXT); ok {
			all = append(all, strings.Join(txt.Txt, ""))
		}
	}
	return all
}

// Within reports whether a name is in a zone or is its top.
func Within(zone, name string) bool { return dns.IsSubDomain(dns.Fqdn(zone), dns.Fqdn(name)) }

// normal is a name in lower case, without the dot at its end.
func normal(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

func parent(name string) string {
	_, above, _ := strings.Cut(name, ".")
	return above
}
