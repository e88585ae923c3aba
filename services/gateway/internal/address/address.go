// Package address tells from where a call comes.
//
// That is the other end of the connection, unless that is a proxy which the operator
// trusts: then it is what the proxy says. What anybody else writes into X-Forwarded-For
// is a claim, and counts for nothing.
package address

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
)

const forwardedFor = "X-Forwarded-For"

// Proxies are the networks of proxies whose word is taken.
type Proxies []netip.Prefix

// ParseProxies reads networks (10.0.0.0/8) and single addresses.
func ParseProxies(texts []string) (Proxies, error) {
	var all Proxies
	for _, text := range texts {
		if text == "" {
			continue
		}
		if a, err := netip.ParseAddr(text); err == nil {
			all = append(all, netip.PrefixFrom(a, a.BitLen()))
			continue
		}
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("%q is neither an address nor a network such as 10.0.0.0/8", text)
		}
		all = append(all, p.Masked())
	}
	return all, nil
}

// Of returns the address that a call comes from; the zero address if there is none that
// can be told.
func (p Proxies) Of(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	address := peer.Addr().Unmap()
	if !p.trusts(address) {
		return address
	}
	// Each proxy adds to the right where its own caller is: from there to the left the
	// list can be believed up to the first that is none of ours, and no further.
	lines := r.Header.Values(forwardedFor)
	for i := len(lines) - 1; i >= 0; i-- {
		for rest := lines[i]; rest != ""; {
			hop := rest
			rest = ""
			if comma := strings.LastIndexByte(hop, ','); comma >= 0 {
				rest, hop = hop[:comma], hop[comma+1:]
			}
			next, err := parse(strings.TrimSpace(hop))
			if err != nil {
				return address
			}
			if address = next; !p.trusts(address) {
				return address
			}
		}
	}
	return address
}

// parse reads an address, with or without a port.
func parse(s string) (netip.Addr, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return a.Unmap(), nil
	}
	ap, err := netip.ParseAddrPort(s)
	return ap.Addr().Unmap(), err
}

func (p Proxies) trusts(a netip.Addr) bool {
	for _, network := range p {
		if network.Contains(a) {
			return true
		}
	}
	return false
}
