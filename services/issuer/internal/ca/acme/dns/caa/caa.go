// Package caa says whether the CAA records of a name allow a CA to issue for it (RFC 8659), by a way of proof and for an
// account (RFC 8657). It asks nobody; who looks the records up decides which are those of the name.
package caa

import (
	"fmt"
	"slices"
	"strings"
)

const (
	issue        = "issue"
	issueWild    = "issuewild"
	critical     = 128
	accountURI   = "accounturi"
	validationBy = "validationmethods"
)

// others are the properties that are not about certificates for servers, or do not forbid.
var others = []string{"iodef", "issuemail", "issuevmc", "contactemail", "contactphone"}

// Record is a CAA record.
type Record struct {
	Flag       uint8
	Tag, Value string
}

// Ask is who wants to issue what.
type Ask struct {
	// Wildcard is whether it is for a name with a wildcard.
	Wildcard bool
	// Identities are the names by which the CA recognises itself, such as letsencrypt.org.
	Identities []string
	// Account is the URL of the account at the CA, Method how names are proven, such as dns-01.
	Account, Method string
}

// Objection says why the relevant records of a name forbid what is asked, and is empty if they allow it. No records
// allow everything.
func Objection(records []Record, ask Ask) string {
	var plain, wild []Record
	for _, r := range records {
		switch tag := strings.ToLower(r.Tag); {
		case tag == issue:
			plain = append(plain, r)
		case tag == issueWild:
			wild = append(wild, r)
		case r.Flag&critical != 0 && !slices.Contains(others, tag):
			return fmt.Sprintf("it has the property %q, which is marked critical and which no CA knows", r.Tag)
		}
	}
	asked := plain
	if ask.Wildcard && len(wild) > 0 {
		asked = wild
	}
	if len(asked) == 0 {
		return ""
	}
	var reasons []string
	for _, r := range asked {
		reason := one(r.Value, ask)
		if reason == "" {
			return ""
		}
		reasons = append(reasons, fmt.Sprintf("%s %q %s", strings.ToLower(r.Tag), r.Value, reason))
	}
	return strings.Join(reasons, "; ")
}

// one says why a record does not allow it.
func one(value string, ask Ask) string {
	parts := strings.Split(value, ";")
	issuer := strings.ToLower(strings.TrimSpace(parts[0]))
	if issuer == "" {
		return "allows nobody"
	}
	if !slices.ContainsFunc(ask.Identities, func(i string) bool { return strings.EqualFold(strings.TrimSuffix(i, "."), issuer) }) {
		return "allows another CA"
	}
	accounts := 0
	for _, part := range parts[1:] {
		if strings.TrimSpace(part) == "" {
			continue
		}
		tag, v, ok := strings.Cut(part, "=")
		tag, v = strings.ToLower(strings.TrimSpace(tag)), strings.TrimSpace(v)
		switch {
		case !ok:
			return "has a parameter that cannot be read"
		case tag == accountURI:
			accounts++
			if accounts > 1 || v != ask.Account {
				return "allows another account; this one is " + ask.Account
			}
		case tag == validationBy && !slices.ContainsFunc(strings.Split(v, ","), func(m string) bool { return strings.TrimSpace(m) == ask.Method }):
			return "does not allow names to be proven by " + ask.Method
		}
	}
	return ""
}

// Allowing is the record that would allow it, as a zone file has it.
func Allowing(domain string, ask Ask) string {
	tag := issue
	if ask.Wildcard {
		tag = issueWild
	}
	return fmt.Sprintf("%s. CAA 0 %s %q", domain, tag, ask.Identities[0])
}
