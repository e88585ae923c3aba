package acme

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"time"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/process"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca/acme/dns/lookup"
	"github.com/certctl/certctl/services/issuer/internal/ca/acme/dns/publish"
)

const scriptPatience = time.Minute

// Hooks prove names by DNS-01 (RFC 8555 section 8.4) with programs of the operator's, which set and remove TXT records.
// Each is run without a shell, once for each record, with CERTCTL_DNS_DOMAIN, CERTCTL_DNS_FQDN, CERTCTL_DNS_TARGET,
// CERTCTL_DNS_VALUE and CERTCTL_DNS_TOKEN in its environment.
type Hooks struct {
	// SetUp and CleanUp are absolute paths. Without CleanUp records stay.
	SetUp, CleanUp string
	// Wait is how long nobody looks after the records were set, so that no resolver remembers that they are not there.
	Wait time.Duration
	// Propagation is how long the records may take to be seen then; zero is not to look.
	Propagation time.Duration
	// Resolver is the host:port of whom to ask for them; empty are the system's.
	Resolver string

	// watch and resolver are an issuer's own, if resolver is not nil.
	watch    publish.Watch
	resolver *lookup.Resolver
}

// Type implements [Solver].
func (*Hooks) Type() string { return DNS01 }

// Objection implements [Solver].
func (*Hooks) Objection(name x509x.Name) string {
	switch name.Kind {
	case x509x.DNS:
		return ""
	case x509x.IP:
		return "an address is proven by http-01, and this issuer's challenge_type is dns-01"
	default:
		return "an ACME CA issues for host names and addresses"
	}
}

// record is a TXT record. Where its name is an alias, target is what that leads to.
type record struct{ domain, fqdn, target, value, token string }

func (p Proof) record() record {
	sum := sha256.Sum256([]byte(p.Answer))
	fqdn := "_acme-challenge." + p.Domain
	return record{p.Domain, fqdn, fqdn, base64.RawURLEncoding.EncodeToString(sum[:]), p.Token}
}

// Present implements [Solver].
func (h *Hooks) Present(ctx context.Context, proofs []Proof) (func(), error) {
	watch, resolver := h.looks()
	visible := true
	var set []record
	withdraw := func() {
		if h.CleanUp == "" {
			return
		}
		for _, r := range set {
			// It has time of its own, for what was set must go also when time is up. That it has stayed harms nobody.
			_, _ = h.run(context.WithoutCancel(ctx), h.CleanUp, r)
		}
	}
	for _, p := range proofs {
		r := p.record()
		if visible {
			at, err := resolver.Locate(ctx, r.fqdn, false)
			// What cannot be looked up from here is left to the program, and others are not waited for in vain.
			if visible = err == nil; visible {
				r.target = at.Name
			}
		}
		set = append(set, r)
		if _, err := h.run(ctx, h.SetUp, r); err != nil {
			withdraw()
			return nil, unproven(ctx, fault.New(fault.Unavailable, "the record %s could not be set: %v", r.fqdn, err))
		}
	}
	if err := seen(ctx, watch, resolver, set); err != nil {
		withdraw()
		return nil, unproven(ctx, err)
	}
	return withdraw, nil
}

func (h *Hooks) run(ctx context.Context, program string, r record) (string, error) {
	return process.Run(ctx, process.Command{Path: program, Env: []string{
		"CERTCTL_DNS_DOMAIN=" + r.domain, "CERTCTL_DNS_FQDN=" + r.fqdn, "CERTCTL_DNS_TARGET=" + r.target, "CERTCTL_DNS_VALUE=" + r.value, "CERTCTL_DNS_TOKEN=" + r.token,
	}}, scriptPatience)
}

// looks are how and by whom records are looked for: the issuer's own way, or else the operator's.
func (h *Hooks) looks() (publish.Watch, *lookup.Resolver) {
	if h.resolver != nil {
		return h.watch, h.resolver
	}
	var servers []string
	if h.Resolver != "" {
		servers = []string{h.Resolver}
	}
	return publish.Watch{Wait: h.Wait, Timeout: h.Propagation, ByResolver: true}, lookup.New(servers...)
}

// test finds out whether records could be seen.
func (h *Hooks) test(ctx context.Context) error {
	watch, resolver := h.looks()
	if watch.Timeout == 0 {
		return nil
	}
	return answering(ctx, resolver)
}

// seen waits until records can be seen.
func seen(ctx context.Context, watch publish.Watch, resolver *lookup.Resolver, records []record) error {
	wanted := make([]publish.Record, len(records))
	for i, r := range records {
		wanted[i] = publish.Record{Name: r.fqdn, Value: r.value}
	}
	err := watch.Await(ctx, resolver, wanted)
	if err == nil || ctx.Err() != nil {
		return err
	}
	return fault.New(fault.Unavailable, "%v", err)
}
