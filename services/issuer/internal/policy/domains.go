package policy

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"github.com/certctl/certctl/libs/x509x"
)

// pattern is one entry of AllowedDomains: a host name, every name below one (below), or a range of addresses.
type pattern struct {
	text  string
	host  string
	below bool
	cidr  netip.Prefix
}

func parsePattern(s string) (pattern, string) {
	text := strings.TrimSuffix(strings.ToLower(strings.TrimSpace(s)), ".")
	if prefix, err := netip.ParsePrefix(text); err == nil {
		return pattern{text: s, cidr: prefix.Masked()}, ""
	}
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return pattern{text: s, cidr: netip.PrefixFrom(addr, addr.BitLen())}, ""
	}
	host, below := strings.CutPrefix(text, "*.")
	names, err := x509x.ParseNames(host, nil)
	if err != nil || len(names) != 1 || names[0].Kind != x509x.DNS || strings.Contains(host, "*") {
		return pattern{}, "is no host name such as example.com, no *.example.com, no address and no range of addresses such as 10.0.0.0/8"
	}
	return pattern{text: s, host: names[0].Value, below: below}, ""
}

// matches reports whether a host or an address fits the pattern.
func (p *pattern) matches(name string) bool {
	if addr, err := netip.ParseAddr(name); err == nil {
		return p.cidr.IsValid() && p.cidr.Contains(addr)
	}
	switch {
	case p.host == "":
		return false
	case p.below:
		return strings.HasSuffix(name, "."+p.host)
	default:
		return name == p.host
	}
}

// covered reports whether a wildcard name could serve a host that fits the pattern.
func (p *pattern) covered(name string) bool {
	parent, wildcard := strings.CutPrefix(name, "*.")
	if !wildcard || p.host == "" || p.below {
		// What a wildcard covers is below P exactly if the wildcard itself is, which matches tells.
		return false
	}
	_, rest, _ := strings.Cut(p.host, ".")
	return rest == parent
}

type allowedDomains struct{ allow, deny []pattern }

func readDomains(c *config) check {
	objection := func(s string) string {
		_, reason := parsePattern(s)
		return reason
	}
	parse := func(key string) []pattern {
		var out []pattern
		for _, s := range c.strings(key, objection) {
			p, _ := parsePattern(s)
			out = append(out, p)
		}
		return out
	}
	d := &allowedDomains{allow: parse("allow"), deny: parse("deny")}
	if isEmpty(c.of["allow"]) && isEmpty(c.of["deny"]) {
		c.object("allow", "must name at least one, or deny must")
	}
	return d
}

func (d *allowedDomains) find(f *Facts, object func(field, message string)) {
	for _, name := range f.SANs {
		host := hostOf(name)
		if p := d.denied(host); p != "" {
			object("sans", fmt.Sprintf("denies %s; %s is one", p, name))
			continue
		}
		if len(d.allow) > 0 && !d.allowed(host) {
			object("sans", fmt.Sprintf("allows %s; %s is none of them", some(texts(d.allow)), name))
		}
	}
}

func (d *allowedDomains) denied(host string) string {
	for i := range d.deny {
		if p := &d.deny[i]; p.matches(host) || p.covered(host) {
			return p.text
		}
	}
	return ""
}

func (d *allowedDomains) allowed(host string) bool {
	for i := range d.allow {
		if d.allow[i].matches(host) {
			return true
		}
	}
	return false
}

func texts(patterns []pattern) []string {
	out := make([]string, len(patterns))
	for i, p := range patterns {
		out[i] = p.text
	}
	return out
}

// hostOf is the part of a name that patterns are about: the host of a URI, the domain of a mail address, else all of it.
func hostOf(name string) string {
	if u, err := url.Parse(name); err == nil && u.Host != "" {
		return u.Hostname()
	}
	if _, domain, found := strings.Cut(name, "@"); found {
		return domain
	}
	return name
}
