package x509x

import (
	"cmp"
	"crypto/x509"
	"net"
	"net/mail"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/certctl/certctl/libs/fault"
)

// NameKind says in which part of the subject alternative names a name stands.
type NameKind string

const (
	// DNS is a host name, perhaps with a wildcard as its first label.
	DNS NameKind = "dns"
	// IP is an IPv4 or IPv6 address.
	IP NameKind = "ip"
	// Email is a mail address.
	Email NameKind = "email"
	// URI is a URI such as a SPIFFE id.
	URI NameKind = "uri"
	// Text is a common name that is none of the others.
	Text NameKind = "text"
)

// Name is one name of a certificate, in normal form.
type Name struct {
	Kind  NameKind
	Value string
}

// Names is the set of names of a certificate: the common name and the alternative ones, without a difference between
// them. It is sorted and holds each name once, so that equal sets are equal slices. Names are lower-case; addresses are
// in their shortest form. International names are expected in their ASCII form (punycode).
type Names []Name

// ParseNames returns the set of a common name and alternative names as people write them, the kind of each told by its
// form. Its error is Invalid and names the fields common_name and sans[i].
func ParseNames(commonName string, sans []string) (Names, error) {
	var names Names
	var bad []fault.Field
	add := func(field, s string) {
		n := nameOf(s)
		if reason := n.objection(); reason != "" {
			bad = append(bad, fault.Field{Name: field, Reason: reason})
			return
		}
		names = append(names, n)
	}
	if commonName != "" {
		add("common_name", commonName)
	}
	for i, s := range sans {
		add("sans["+strconv.Itoa(i)+"]", s)
	}
	if len(bad) > 0 {
		return nil, fault.InvalidFields(bad...)
	}
	return names.normal(), nil
}

// RequestNames returns the names that a request asks for. They are not checked; see Validate.
func RequestNames(csr *x509.CertificateRequest) Names {
	return collect(csr.Subject.CommonName, csr.DNSNames, csr.IPAddresses, csr.EmailAddresses, csr.URIs)
}

// CertificateNames returns the names that a certificate holds.
func CertificateNames(cert *x509.Certificate) Names {
	return collect(cert.Subject.CommonName, cert.DNSNames, cert.IPAddresses, cert.EmailAddresses, cert.URIs)
}

func collect(commonName string, dns []string, ips []net.IP, emails []string, uris []*url.URL) Names {
	var names Names
	if commonName != "" {
		n := nameOf(commonName)
		if n.objection() != "" {
			n = Name{Text, strings.ToLower(commonName)}
		}
		names = append(names, n)
	}
	for _, s := range dns {
		// Deployed agents put addresses and mail addresses among the DNS names.
		names = append(names, nameOf(s))
	}
	for _, ip := range ips {
		names = append(names, nameOf(ip.String()))
	}
	for _, s := range emails {
		names = append(names, Name{Email, strings.ToLower(s)})
	}
	for _, u := range uris {
		names = append(names, Name{URI, normalURI(u)})
	}
	return names.normal()
}

func (n Names) normal() Names {
	slices.SortFunc(n, func(a, b Name) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Value, b.Value))
	})
	return slices.Compact(n)
}

// Equal reports whether two sets hold the same names.
func (n Names) Equal(other Names) bool { return slices.Equal(n, other) }

// Minus returns the names of n that other lacks.
func (n Names) Minus(other Names) Names {
	return slices.DeleteFunc(slices.Clone(n), func(name Name) bool { return slices.Contains(other, name) })
}

// Values returns the names of the given kind, or of all kinds when none is given.
func (n Names) Values(kinds ...NameKind) []string {
	out := []string{}
	for _, name := range n {
		if len(kinds) == 0 || slices.Contains(kinds, name.Kind) {
			out = append(out, name.Value)
		}
	}
	return out
}

// Validate refuses a set with a name that no certificate may hold. The error is Invalid.
func (n Names) Validate() error {
	for _, name := range n {
		if reason := name.objection(); reason != "" {
			return fault.New(fault.Invalid, "the name %q is not accepted: %s", name.Value, reason)
		}
	}
	return nil
}

// nameOf tells a name's kind by its form and brings it into normal form. What is nothing else is DNS, valid or not.
func nameOf(s string) Name {
	s = strings.TrimSpace(s)
	if ip, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil && ip.Zone() == "" {
		return Name{IP, ip.Unmap().String()}
	}
	if strings.Contains(s, "://") || strings.HasPrefix(strings.ToLower(s), "urn:") {
		if u, err := url.Parse(s); err == nil {
			return Name{URI, normalURI(u)}
		}
	}
	if strings.Contains(s, "@") {
		return Name{Email, strings.ToLower(s)}
	}
	return Name{DNS, strings.TrimSuffix(strings.ToLower(s), ".")}
}

func normalURI(u *url.URL) string {
	v := *u
	v.Scheme, v.Host = strings.ToLower(v.Scheme), strings.ToLower(v.Host)
	return v.String()
}

// objection says why the name cannot stand in a certificate; it is empty when it can.
func (n Name) objection() string {
	switch n.Kind {
	case IP:
		return ""
	case Email:
		if a, err := mail.ParseAddress(n.Value); err != nil || a.Address != n.Value || !ascii(n.Value) {
			return "it is not a plain mail address"
		}
		return ""
	case URI:
		u, err := url.Parse(n.Value)
		if err != nil || u.Scheme == "" || u.User != nil || u.Host == "" && u.Opaque == "" || !ascii(n.Value) {
			return "it is not a plain URI with a host"
		}
		return ""
	case DNS:
		return hostObjection(n.Value)
	default:
		return "it is neither a host name, an address, a mail address nor a URI"
	}
}

func hostObjection(host string) string {
	switch {
	case host == "":
		return "it is empty"
	case len(host) > 253:
		return "a host name has at most 253 characters"
	case !ascii(host):
		return "write an international name in its ASCII form (punycode)"
	}
	labels := strings.Split(strings.TrimPrefix(host, "*."), ".")
	for _, label := range labels {
		if reason := labelObjection(label); reason != "" {
			return reason
		}
	}
	if last := labels[len(labels)-1]; strings.Trim(last, "0123456789") == "" {
		return "a host name does not end in a number"
	}
	return ""
}

func labelObjection(label string) string {
	switch {
	case label == "":
		return "it has an empty label"
	case len(label) > 63:
		return "a label has at most 63 characters"
	case label[0] == '-' || label[len(label)-1] == '-':
		return "a label neither starts nor ends with a hyphen"
	case strings.Contains(label, "*"):
		return "a wildcard is the whole first label"
	case strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "":
		return "a host name is made of letters, digits, hyphens and dots"
	}
	return ""
}

func ascii(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r > '~' || r < ' ' })
}
