// Package preflight looks, before a CA is asked, for what would keep it from issuing: CAA records that forbid it, names
// that are not there, zones that cannot be found.
//
// What it sees it sees from here, and a CA may see more or less: only what is certain to fail forbids, all else warns.
package preflight

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"

	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca"
	"github.com/certctl/certctl/services/issuer/internal/ca/acme/dns/caa"
	"github.com/certctl/certctl/services/issuer/internal/ca/acme/dns/lookup"
	"github.com/certctl/certctl/services/issuer/internal/ca/acme/dns/publish"
)

// abreast is how many names are looked at at a time.
const abreast = 8

// What is looked at, as findings name it.
const (
	CAA     = "caa"
	Address = "address"
	Zone    = "zone"
	Method  = "challenge_type"
)

// Plan is how names are to be proven, and to whom.
type Plan struct {
	Resolver *lookup.Resolver
	// Method is how names are proven; Objection says why a name can never be proven so, and is empty if it can.
	Method    string
	Objection func(x509x.Name) string
	// Identities are the CA's names in CAA records; without any those are not looked at. Account is the URL of the account.
	Identities []string
	Account    string
	// Place finds where the record of a name is to be set; nil if somebody else sets it.
	Place func(ctx context.Context, name string) (publish.Place, error)
	// Deciding has only that be looked at which may forbid.
	Deciding bool
}

// look is one run.
type look struct {
	Plan
	// silent is set when the resolvers have not answered: they are not asked for each name again.
	silent atomic.Bool
}

// Look looks at names and returns the findings in their order.
func Look(ctx context.Context, p Plan, names x509x.Names) []ca.Finding {
	l := &look{Plan: p}
	each := make([][]ca.Finding, len(names))
	var g errgroup.Group
	g.SetLimit(abreast)
	for i, name := range names {
		g.Go(func() error {
			each[i] = l.name(ctx, name)
			return nil
		})
	}
	_ = g.Wait()
	var all []ca.Finding
	for _, f := range each {
		all = append(all, f...)
	}
	return all
}

func (l *look) name(ctx context.Context, name x509x.Name) []ca.Finding {
	is := func(check string, verdict ca.Verdict, format string, a ...any) ca.Finding {
		return ca.Finding{Name: name.Value, Check: check, Verdict: verdict, Says: fmt.Sprintf(format, a...)}
	}
	if reason := l.Objection(name); reason != "" {
		return []ca.Finding{is(Method, ca.Forbids, "%s", reason)}
	}
	if name.Kind != x509x.DNS {
		// CAA records are of host names.
		return []ca.Finding{is(Address, ca.Allows, "the CA goes to port 80 of %s", name.Value)}
	}
	domain, wildcard := strings.CutPrefix(name.Value, "*.")
	all := []ca.Finding{l.caa(ctx, is, domain, wildcard)}
	if l.Method == "dns-01" {
		all = append(all, l.zone(ctx, is, domain))
	} else if !l.Deciding {
		all = append(all, l.address(ctx, is, domain))
	}
	return all
}

// finder makes a finding about the name that is looked at.
type finder func(check string, verdict ca.Verdict, format string, a ...any) ca.Finding

const unheard = "cannot be looked up from here: no resolver answers (%s)"

// ask asks, unless nobody has answered before.
func (l *look) ask(ctx context.Context, name string, kind uint16) lookup.Answer {
	if l.silent.Load() {
		return lookup.Answer{Outcome: lookup.Silent, Says: strings.Join(l.Resolver.Servers(), ", ")}
	}
	answer := l.Resolver.Ask(ctx, name, kind)
	if answer.Outcome == lookup.Silent {
		l.silent.Store(true)
	}
	return answer
}

// caa climbs from a name to the first above it that has CAA records (RFC 8659 section 3).
func (l *look) caa(ctx context.Context, is finder, domain string, wildcard bool) ca.Finding {
	if len(l.Identities) == 0 {
		return is(CAA, ca.Allows, "the CA does not say by which name CAA records mean it, so they were not looked at")
	}
	ask := caa.Ask{Wildcard: wildcard, Identities: l.Identities, Account: l.Account, Method: l.Method}
	for at := domain; at != ""; _, at, _ = strings.Cut(at, ".") {
		answer := l.ask(ctx, at, dns.TypeCAA)
		switch answer.Outcome {
		case lookup.Found, lookup.NoData, lookup.NoName:
		case lookup.Silent:
			return is(CAA, ca.Warns, "the CAA records "+unheard, answer.Says)
		default:
			return is(CAA, ca.Warns, "the CAA records of %s cannot be read: %s. A CA that cannot read them does not issue", at, answer.Says)
		}
		records := recordsOf(answer)
		if len(records) == 0 {
			continue
		}
		if reason := caa.Objection(records, ask); reason != "" {
			return is(CAA, ca.Forbids, "the CAA records of %s forbid it: %s. Add this record: %s", at, reason, caa.Allowing(at, ask))
		}
		return is(CAA, ca.Allows, "the CAA records of %s allow it", at)
	}
	return is(CAA, ca.Allows, "there are no CAA records, so every CA may issue")
}

func recordsOf(a lookup.Answer) []caa.Record {
	var all []caa.Record
	for _, rr := range a.Records {
		if r, ok := rr.(*dns.CAA); ok {
			all = append(all, caa.Record{Flag: r.Flag, Tag: r.Tag, Value: r.Value})
		}
	}
	return all
}

// address looks whether a name leads anywhere, for the CA goes there.
func (l *look) address(ctx context.Context, is finder, domain string) ca.Finding {
	var says []string
	missing := lookup.Answer{}
	for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA} {
		answer := l.ask(ctx, domain, kind)
		switch answer.Outcome {
		case lookup.Found, lookup.NoData, lookup.NoName:
			missing = answer
			for _, rr := range answer.Records {
				switch rr := rr.(type) {
				case *dns.A:
					says = append(says, rr.A.String())
				case *dns.AAAA:
					says = append(says, rr.AAAA.String())
				}
			}
		case lookup.Silent:
			return is(Address, ca.Warns, "the address "+unheard, answer.Says)
		default:
			return is(Address, ca.Warns, "the address cannot be looked up: %s", answer.Says)
		}
	}
	if len(says) > 0 {
		return is(Address, ca.Allows, "the CA goes to port 80 of %s", strings.Join(says, ", "))
	}
	return is(Address, ca.Warns, "there is no address (%s). The CA must reach port 80 of it: add an A or AAAA record, or prove the name by dns-01", missing.Says)
}

// zone looks where the record of a proof is to be set.
func (l *look) zone(ctx context.Context, is finder, domain string) ca.Finding {
	name := "_acme-challenge." + domain
	if l.silent.Load() {
		// A provider needs an answer to know where the proof is to be.
		verdict := map[bool]ca.Verdict{true: ca.Forbids, false: ca.Warns}[l.Place != nil]
		return is(Zone, verdict, "the zone "+unheard, strings.Join(l.Resolver.Servers(), ", "))
	}
	if l.Place != nil {
		at, err := l.Place(ctx, name)
		if err != nil {
			return is(Zone, ca.Forbids, "the proof cannot be placed: %v", err)
		}
		return is(Zone, ca.Allows, "%s", placed(name, at.Name, at.Zone))
	}
	if l.Deciding {
		return is(Zone, ca.Allows, "the operator's program sets the proof")
	}
	at, err := l.Resolver.Locate(ctx, name, false)
	if err == nil && at.Zone == "" {
		at.Zone, err = l.Resolver.Zone(ctx, domain)
	}
	if err != nil {
		return is(Zone, ca.Warns, "%v", err)
	}
	return is(Zone, ca.Allows, "%s", placed(name, at.Name, at.Zone))
}

func placed(name, at, zone string) string {
	if at == name {
		return "the proof is " + name + " in the zone " + zone
	}
	return name + " is an alias: the proof is " + at + " in the zone " + zone
}
