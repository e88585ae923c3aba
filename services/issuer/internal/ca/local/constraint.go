package local

import (
	"crypto/x509"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/x509x"
)

// Constraints are the names that a CA, and all CAs below it, may issue for (RFC 5280 section 4.2.1.10). A kind of name of
// which nothing is permitted is free, but for what is excluded.
type Constraints struct {
	PermittedDNS, ExcludedDNS []string
	PermittedIP, ExcludedIP   []*net.IPNet
}

// constraintsOf are those of a CA's certificate that can be set here.
func constraintsOf(c *x509.Certificate) Constraints {
	return Constraints{
		PermittedDNS: c.PermittedDNSDomains, ExcludedDNS: c.ExcludedDNSDomains,
		PermittedIP: c.PermittedIPRanges, ExcludedIP: c.ExcludedIPRanges,
	}
}

func (n *Constraints) none() bool {
	return len(n.PermittedDNS)+len(n.ExcludedDNS)+len(n.PermittedIP)+len(n.ExcludedIP) == 0
}

// constrain writes them into a CA's certificate.
func (n *Constraints) constrain(t *x509.Certificate) {
	t.PermittedDNSDomainsCritical = !n.none()
	t.PermittedDNSDomains, t.ExcludedDNSDomains = n.PermittedDNS, n.ExcludedDNS
	t.PermittedIPRanges, t.ExcludedIPRanges = n.PermittedIP, n.ExcludedIP
}

// constrained tells whether a CA's certificate limits the names below it.
func constrained(c *x509.Certificate) bool {
	n := constraintsOf(c)
	return !n.none() || len(c.PermittedURIDomains)+len(c.ExcludedURIDomains) > 0
}

// admit refuses a name that one of the CAs of a chain must not issue for, and says which one and why. Verifiers would
// refuse the certificate. The error is Invalid.
func admit(chain []*x509.Certificate, names x509x.Names) error {
	for _, name := range names {
		for _, c := range chain {
			if reason := forbids(c, name); reason != "" {
				return fault.New(fault.Invalid, "%s cannot be issued for: the CA certificate %s %s", name.Value, c.Subject, reason)
			}
		}
	}
	return nil
}

// forbids says which constraint of a CA's certificate a name breaks, nothing if it breaks none.
func forbids(c *x509.Certificate, name x509x.Name) string {
	switch name.Kind {
	case x509x.DNS:
		return judge("DNS domains", c.PermittedDNSDomains, c.ExcludedDNSDomains, text,
			func(domain string) bool { return within(name.Value, domain) },
			func(domain string) bool { return reaches(name.Value, domain) })
	case x509x.IP:
		ip := net.ParseIP(name.Value)
		contains := func(n *net.IPNet) bool { return n.Contains(ip) }
		return judge("IP ranges", c.PermittedIPRanges, c.ExcludedIPRanges, (*net.IPNet).String, contains, contains)
	case x509x.URI:
		if len(c.PermittedURIDomains)+len(c.ExcludedURIDomains) == 0 {
			return ""
		}
		uri, err := url.Parse(name.Value)
		if err != nil || uri.Hostname() == "" || net.ParseIP(uri.Hostname()) != nil {
			return "limits the hosts of URIs, and it has none"
		}
		host := func(domain string) bool { return hostWithin(uri.Hostname(), domain) }
		return judge("URI domains", c.PermittedURIDomains, c.ExcludedURIDomains, text, host, host)
	default:
		return ""
	}
}

func text(s string) string { return s }

// judge says which constraints of one kind a name breaks. An excluded one counts also if it is permitted.
func judge[T any](kind string, permitted, excluded []T, show func(T) string, permits, excludes func(T) bool) string {
	for _, e := range excluded {
		if excludes(e) {
			return fmt.Sprintf("excludes %s (name constraints, excluded %s)", show(e), kind)
		}
	}
	if len(permitted) == 0 {
		return ""
	}
	shown := make([]string, len(permitted))
	for i, p := range permitted {
		if permits(p) {
			return ""
		}
		shown[i] = show(p)
	}
	return fmt.Sprintf("permits only %s (name constraints, permitted %s)", strings.Join(shown, ", "), kind)
}

// within tells whether a host name, or every name that a wildcard stands for, lies in a domain: the domain itself and what
// is below it, or with a leading dot only what is below it.
func within(name, domain string) bool {
	name, domain = strings.ToLower(name), strings.ToLower(strings.TrimSuffix(domain, "."))
	if domain == "" {
		return true
	}
	if strings.HasPrefix(domain, ".") {
		return strings.HasSuffix(name, domain)
	}
	return name == domain || strings.HasSuffix(name, "."+domain)
}

// reaches tells whether a host name, or one that a wildcard stands for, lies in a domain. A wildcard stands for one label.
func reaches(name, domain string) bool {
	if within(name, domain) {
		return true
	}
	above, wildcard := strings.CutPrefix(strings.ToLower(name), "*.")
	if !wildcard {
		return false
	}
	// With a leading dot the domain's own name is not meant, and what is below it has a label too many.
	label, rest, _ := strings.Cut(strings.ToLower(domain), ".")
	return label != "" && rest == above
}

// hostWithin is the rule for hosts of URIs: without a leading dot a constraint is one host.
func hostWithin(host, domain string) bool {
	if strings.HasPrefix(domain, ".") {
		return within(host, domain)
	}
	return strings.EqualFold(host, domain)
}
