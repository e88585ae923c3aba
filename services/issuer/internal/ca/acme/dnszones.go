package acme

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca"
	"github.com/certctl/certctl/services/issuer/internal/ca/acme/dns/lookup"
	"github.com/certctl/certctl/services/issuer/internal/ca/acme/dns/provider"
	"github.com/certctl/certctl/services/issuer/internal/ca/acme/dns/publish"
	"github.com/certctl/certctl/services/issuer/internal/setting"
)

// DNSSettings is how the names of all settings about DNS-01 begin.
const DNSSettings = "dns_"

// The settings of how names are proven by DNS-01. Those of a provider are in package provider.
const (
	SettingDNSProvider    = "dns_provider"
	SettingDNSZones       = "dns_zones"
	SettingDNSResolvers   = "dns_resolvers"
	SettingDNSWait        = "dns_propagation_wait_seconds"
	SettingDNSPropagation = "dns_propagation_timeout_seconds"
	SettingDNSCheck       = "dns_propagation_check"
)

// Scripts is the provider that is the operator's programs.
const Scripts = "scripts"

const (
	byAuthorities = "authoritative"
	byResolvers   = "resolvers"
	// defaultPropagation is how long what a provider has set may take to be seen.
	defaultPropagation = 2 * time.Minute
	// resolverWait is how long nobody asks a resolver, which would remember that a record is not there.
	resolverWait = 10 * time.Second
	// maxSeconds leaves a minute of DefaultTimeout to the CA.
	maxSeconds = 240
)

// Zones prove names by DNS-01 in zones whose host is told of records by its own interface.
type Zones struct {
	publish.Publisher
	// Name is the provider's.
	Name string
}

// Type implements [Solver].
func (*Zones) Type() string { return DNS01 }

// Objection implements [Solver].
func (*Zones) Objection(name x509x.Name) string { return (*Hooks)(nil).Objection(name) }

// Present implements [Solver].
func (z *Zones) Present(ctx context.Context, proofs []Proof) (func(), error) {
	records := make([]publish.Record, len(proofs))
	for i, p := range proofs {
		r := p.record()
		records[i] = publish.Record{Name: r.fqdn, Value: r.value}
	}
	withdraw, err := z.Publish(ctx, records)
	return withdraw, unproven(ctx, err)
}

// unproven is an error that says nothing about the CA: it has not been asked to look.
func unproven(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	return &ca.Unproven{Err: err}
}

// test finds out whether the provider can be used.
func (z *Zones) test(ctx context.Context) error {
	if err := z.Provider.Test(ctx, z.Publisher.Zones); err != nil {
		return fault.New(fault.Unavailable, "%s %s: %v", SettingDNSProvider, z.Name, err)
	}
	return answering(ctx, z.Resolver)
}

// answering finds out whether names can be looked up.
func answering(ctx context.Context, r *lookup.Resolver) error {
	if a := r.Ask(ctx, ".", dns.TypeNS); a.Outcome == lookup.Silent {
		return fault.New(fault.Unavailable, "names cannot be looked up: %s; %s names other resolvers", a.Says, SettingDNSResolvers)
	}
	return nil
}

// dns01 reads the settings of DNS-01, and returns who proves names by it, and who is asked for names.
func (k *Kind) dns01(r *setting.Reader, config map[string]any, chosen bool) (Solver, *lookup.Resolver) {
	name := r.Text(SettingDNSProvider)
	p := provider.Read(r, name, k.Endpoints)
	zones := provider.Zones(r, SettingDNSZones)
	watch := k.watch(r, config, p != nil)
	resolver := k.resolver(r, SettingDNSResolvers)
	native := slices.Contains(provider.Names(), name)
	known := name == "" || name == Scripts || native
	switch {
	case !known:
		r.Bad(SettingDNSProvider, "must be "+Scripts+" or one of "+strings.Join(provider.Names(), ", "))
	case name != "" && !chosen:
		r.Bad(SettingDNSProvider, "belongs to "+SettingChallenge+" "+DNS01)
	}
	if p != nil {
		return &Zones{publish.Publisher{Provider: p, Resolver: resolver, Zones: zones, Watch: watch}, name}, resolver
	}
	if len(zones) > 0 && !native {
		r.Bad(SettingDNSZones, "is for a "+SettingDNSProvider+" of its own; programs know their zones")
	}
	if reason := k.DNS.objection(); chosen && known && !native && reason != "" {
		r.Bad(SettingChallenge, reason+", or "+SettingDNSProvider+" names who hosts the zones: "+strings.Join(provider.Names(), ", "))
	}
	hooks := *k.DNS
	hooks.watch, hooks.resolver = watch, resolver
	return &hooks, resolver
}

// watch reads how long records may take to be seen, and who is asked for them. Without a setting it is the operator's,
// or, of what a provider sets, until its name servers have it.
func (k *Kind) watch(r *setting.Reader, config map[string]any, native bool) publish.Watch {
	w := publish.Watch{Wait: k.DNS.Wait, Timeout: k.DNS.Propagation, ByResolver: true}
	if native {
		w = publish.Watch{Timeout: defaultPropagation}
	}
	wait, timeout := r.Whole(SettingDNSWait, 0, maxSeconds), r.Whole(SettingDNSPropagation, 0, maxSeconds)
	if config[SettingDNSWait] != nil {
		w.Wait = time.Duration(wait) * time.Second
	}
	if config[SettingDNSPropagation] != nil {
		w.Timeout = time.Duration(timeout) * time.Second
	}
	if wait+timeout > maxSeconds {
		r.Bad(SettingDNSPropagation, "must be, with "+SettingDNSWait+", at most 240: a certificate may take five minutes in all")
	}
	switch r.Text(SettingDNSCheck) {
	case "":
	case byAuthorities:
		w.ByResolver = false
	case byResolvers:
		w.ByResolver = true
	default:
		r.Bad(SettingDNSCheck, "must be "+byAuthorities+" or "+byResolvers)
	}
	if native && w.ByResolver && config[SettingDNSWait] == nil {
		w.Wait = resolverWait
	}
	return w
}

// resolver reads who is asked for names: without a setting the operator's, or else the system's.
func (k *Kind) resolver(r *setting.Reader, name string) *lookup.Resolver {
	servers := provider.Servers(r, name)
	if len(servers) == 0 && k.DNS.Resolver != "" {
		servers = []string{k.DNS.Resolver}
	}
	resolver := lookup.New(servers...)
	resolver.AuthorityPort = k.AuthorityPort
	return resolver
}
