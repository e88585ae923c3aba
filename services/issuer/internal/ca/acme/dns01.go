package acme

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"net"
	"slices"
	"time"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/process"
	"github.com/certctl/certctl/libs/x509x"
)

const (
	scriptPatience = time.Minute
	lookPause      = time.Second
	lookPatience   = 10 * time.Second
)

// Hooks prove names by DNS-01 (RFC 8555 section 8.4) with programs of the operator's, which set and remove TXT records.
// Each is run without a shell, once for each record, with CERTCTL_DNS_DOMAIN, CERTCTL_DNS_FQDN, CERTCTL_DNS_VALUE and
// CERTCTL_DNS_TOKEN in its environment.
type Hooks struct {
	// SetUp and CleanUp are absolute paths. Without CleanUp records stay.
	SetUp, CleanUp string
	// Wait is how long nobody looks after the records were set, so that no resolver remembers that they are not there.
	Wait time.Duration
	// Propagation is how long the records may take to be seen then; zero is not to look.
	Propagation time.Duration
	// Resolver is the host:port of whom to ask for them; empty are the system's.
	Resolver string
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

// record is a TXT record.
type record struct{ domain, fqdn, value, token string }

func (p Proof) record() record {
	sum := sha256.Sum256([]byte(p.Answer))
	return record{p.Domain, "_acme-challenge." + p.Domain, base64.RawURLEncoding.EncodeToString(sum[:]), p.Token}
}

// Present implements [Solver].
func (h *Hooks) Present(ctx context.Context, proofs []Proof) (func(), error) {
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
		set = append(set, r)
		if _, err := h.run(ctx, h.SetUp, r); err != nil {
			withdraw()
			return nil, fault.New(fault.Unavailable, "the record %s could not be set: %v", r.fqdn, err)
		}
	}
	if err := h.seen(ctx, set); err != nil {
		withdraw()
		return nil, err
	}
	return withdraw, nil
}

func (h *Hooks) run(ctx context.Context, program string, r record) (string, error) {
	return process.Run(ctx, process.Command{Path: program, Env: []string{
		"CERTCTL_DNS_DOMAIN=" + r.domain, "CERTCTL_DNS_FQDN=" + r.fqdn, "CERTCTL_DNS_VALUE=" + r.value, "CERTCTL_DNS_TOKEN=" + r.token,
	}}, scriptPatience)
}

// seen waits until records can be seen.
func (h *Hooks) seen(ctx context.Context, records []record) error {
	if err := rest(ctx, h.Wait); err != nil || h.Propagation == 0 {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, h.Propagation)
	defer cancel()
	resolver := h.resolver()
	for _, r := range records {
		for {
			values, last := h.look(bounded, resolver, r.fqdn)
			if slices.Contains(values, r.value) {
				break
			}
			if err := rest(bounded, lookPause); err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				return fault.New(fault.Unavailable, "the record %s was set and is not seen after %s: %v", r.fqdn, h.Propagation, shows(values, last))
			}
		}
	}
	return nil
}

func (h *Hooks) look(ctx context.Context, resolver *net.Resolver, fqdn string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, lookPatience)
	defer cancel()
	// With the dot it is looked for as it is, and not below the host's own domain.
	return resolver.LookupTXT(ctx, fqdn+".")
}

func shows(values []string, err error) any {
	if err != nil {
		return err
	}
	return values
}

func (h *Hooks) resolver() *net.Resolver {
	if h.Resolver == "" {
		return net.DefaultResolver
	}
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, h.Resolver)
	}}
}
