// Package publish shows TXT records in zones that somebody hosts, and waits until they are seen.
//
// Where a name is an alias (CNAME), the record is set where that leads, so that a host's zone need not be written to: it
// says once, by hand, in which other zone its proofs are. A value is put beside those that are there and taken away
// alone, for a name and its wildcard, and orders at the same time, need several at one name.
package publish

import (
	"context"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/ca/acme/dns/lookup"
)

const (
	// abreast is how many changes are asked for at a time; those who host zones limit it.
	abreast = 4
	// editPatience is for one change, also of those that are taken back when time is up.
	editPatience = time.Minute
)

// Record is a TXT record. Its name is without the dot at the end.
type Record struct{ Name, Value string }

// Place is where a provider is to set a record: a name and the zone that it is in, lower-case and without the dot at the
// end.
type Place struct{ Zone, Name string }

// Relative is the name without its zone, empty for the zone's top.
func (p Place) Relative() string {
	return strings.TrimSuffix(strings.TrimSuffix(p.Name, p.Zone), ".")
}

// Provider edits the zones that somebody hosts. It is safe for concurrent use, also by several processes. Its errors say
// in words for an operator what is wrong, and hold no secret.
type Provider interface {
	// Add puts a value beside those that are there. That it is there already is no error.
	Add(ctx context.Context, at Place, value string) error
	// Remove takes a value away and leaves others. That it is not there is no error.
	Remove(ctx context.Context, at Place, value string) error
	// Test finds out, as far as can be without a trace, whether the credentials are good for zones, if any are named.
	Test(ctx context.Context, zones []string) error
}

// ZoneFinder is a Provider that knows itself in which zone a name is.
type ZoneFinder interface {
	Zone(ctx context.Context, name string) (string, error)
}

// Limited is a Provider whose names hold only some values at a time.
type Limited interface {
	// Most is how many.
	Most() int
}

// Publisher shows records by a provider. It is safe for concurrent use.
type Publisher struct {
	Provider Provider
	Resolver *lookup.Resolver
	// Zones are those that the provider hosts, so that nobody needs to be asked in which of them a name is. Empty is to ask.
	Zones []string
	Watch Watch
}

// set is a record as it was set.
type set struct {
	at    Place
	value string
}

// Publish shows records and returns when they are seen. Afterwards withdraw takes them away, whatever has become of ctx.
// If there is an error, Publish has taken them away itself.
func (p *Publisher) Publish(ctx context.Context, records []Record) (withdraw func(), err error) {
	all := make([]set, len(records))
	for i, r := range records {
		at, err := p.Place(ctx, r.Name)
		if err != nil {
			return nil, coded(ctx, err)
		}
		all[i] = set{at, r.Value}
	}
	if err := p.fits(all); err != nil {
		return nil, coded(ctx, err)
	}
	withdraw = func() { p.withdraw(context.WithoutCancel(ctx), all) }
	g, bounded := errgroup.WithContext(ctx)
	g.SetLimit(abreast)
	for _, s := range all {
		g.Go(func() error {
			ctx, cancel := context.WithTimeout(bounded, editPatience)
			defer cancel()
			if err := p.Provider.Add(ctx, s.at, s.value); err != nil {
				return fmt.Errorf("the record %s could not be set: %w", s.at.Name, err)
			}
			return nil
		})
	}
	if err = g.Wait(); err == nil {
		seen := make([]Record, len(all))
		for i, s := range all {
			seen[i] = Record{s.at.Name, s.value}
		}
		err = p.Watch.Await(ctx, p.Resolver, seen)
	}
	if err != nil {
		withdraw()
		return nil, coded(ctx, err)
	}
	return withdraw, nil
}

// fits refuses values that would push each other out.
func (p *Publisher) fits(all []set) error {
	limited, ok := p.Provider.(Limited)
	if !ok {
		return nil
	}
	count := map[Place]int{}
	for _, s := range all {
		if count[s.at]++; count[s.at] > limited.Most() {
			return fmt.Errorf("%s holds %d values at a time, and this certificate needs more there: give each of its names an alias of its own", s.at.Name, limited.Most())
		}
	}
	return nil
}

// withdraw takes away what was set, or may have been. That something has stayed harms nobody: a proof is good for one
// order.
func (p *Publisher) withdraw(ctx context.Context, all []set) {
	var g errgroup.Group
	g.SetLimit(abreast)
	for _, s := range all {
		g.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, editPatience)
			defer cancel()
			_ = p.Provider.Remove(ctx, s.at, s.value)
			return nil
		})
	}
	_ = g.Wait()
}

// Place finds where a record of a name is to be set.
func (p *Publisher) Place(ctx context.Context, name string) (Place, error) {
	at, err := p.Resolver.Locate(ctx, name, true)
	if err != nil {
		return Place{}, err
	}
	if zone := p.hosted(at.Name); zone != "" {
		return Place{zone, at.Name}, nil
	}
	if len(p.Zones) > 0 {
		return Place{}, fmt.Errorf("%s is in none of the zones of dns_zones (%s); add the zone, or make %s an alias (CNAME) of a name in one of them",
			at.Name, strings.Join(p.Zones, ", "), name)
	}
	if finder, ok := p.Provider.(ZoneFinder); ok {
		at.Zone, err = finder.Zone(ctx, at.Name)
	} else if at.Zone == "" {
		at.Zone, err = p.Resolver.Zone(ctx, at.Name)
	}
	return Place{at.Zone, at.Name}, err
}

// hosted is the innermost of the zones that a name is in.
func (p *Publisher) hosted(name string) string {
	best := ""
	for _, zone := range p.Zones {
		if lookup.Within(zone, name) && len(zone) > len(best) {
			best = zone
		}
	}
	return best
}

// coded makes a fault of what went wrong: it may be mended, and the same request goes through then.
func coded(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fault.New(fault.Unavailable, "%v", err)
}
