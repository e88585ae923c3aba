package provider

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/miekg/dns"

	"github.com/certctl/certctl/services/issuer/internal/ca/acme/dns/lookup"
	"github.com/certctl/certctl/services/issuer/internal/ca/acme/dns/publish"
)

const (
	updatePatience = 20 * time.Second
	// fudge is how far clocks may be apart, in seconds (RFC 8945 section 10).
	fudge = 300
)

// Update edits zones by DNS UPDATE (RFC 2136), signed by a shared key (TSIG, RFC 8945).
type Update struct {
	// Server is the zones' primary, as host:port.
	Server string
	// Key is the key's name, Secret the key in base64, Algorithm such as hmac-sha256. Without a key updates are not signed.
	Key, Secret, Algorithm string
}

// Zone implements [publish.ZoneFinder]: the server that is to be told knows its zones, also those that nobody else sees.
func (u *Update) Zone(ctx context.Context, name string) (string, error) {
	zone, err := lookup.New(u.Server).Zone(ctx, name)
	if err != nil {
		return "", fmt.Errorf("%w; the server %s was asked, and dns_zones can say it instead", err, u.Server)
	}
	return zone, nil
}

// Add implements [publish.Provider].
func (u *Update) Add(ctx context.Context, at publish.Place, value string) error {
	m := new(dns.Msg).SetUpdate(dns.Fqdn(at.Zone))
	m.Insert([]dns.RR{text(at.Name, value)})
	return u.send(ctx, m, at.Zone)
}

// Remove implements [publish.Provider].
func (u *Update) Remove(ctx context.Context, at publish.Place, value string) error {
	m := new(dns.Msg).SetUpdate(dns.Fqdn(at.Zone))
	m.Remove([]dns.RR{text(at.Name, value)})
	return u.send(ctx, m, at.Zone)
}

// Test implements [publish.Provider], by updates that change nothing. Without zones it shows only whether the key is
// known.
func (u *Update) Test(ctx context.Context, zones []string) error {
	if len(zones) == 0 {
		m := new(dns.Msg).SetQuestion(".", dns.TypeSOA)
		_, err := u.exchange(ctx, m)
		return err
	}
	for _, zone := range zones {
		if err := u.send(ctx, new(dns.Msg).SetUpdate(dns.Fqdn(zone)), zone); err != nil {
			return err
		}
	}
	return nil
}

func text(name, value string) dns.RR {
	return &dns.TXT{Hdr: dns.RR_Header{Name: dns.Fqdn(name), Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: ttl}, Txt: []string{value}}
}

func (u *Update) send(ctx context.Context, m *dns.Msg, zone string) error {
	reply, err := u.exchange(ctx, m)
	if err != nil {
		return err
	}
	switch reply.Rcode {
	case dns.RcodeSuccess:
		return nil
	case dns.RcodeRefused:
		return fmt.Errorf("%s refuses to update %s (REFUSED): allow it to the key (allow-update or update-policy in BIND)", u.Server, zone)
	case dns.RcodeNotAuth, dns.RcodeNotZone:
		return fmt.Errorf("%s is not the primary of the zone %s (%s)", u.Server, zone, dns.RcodeToString[reply.Rcode])
	case dns.RcodeServerFailure:
		return fmt.Errorf("%s fails to update %s (SERVFAIL): its log says why; often it may not write the zone's journal", u.Server, zone)
	}
	return fmt.Errorf("%s does not update %s: %s", u.Server, zone, dns.RcodeToString[reply.Rcode])
}

// exchange signs a message and checks the answer's signature. Its error is about the server or the key.
func (u *Update) exchange(ctx context.Context, m *dns.Msg) (*dns.Msg, error) {
	client := &dns.Client{Net: "tcp", Timeout: updatePatience}
	if u.Key != "" {
		key := dns.CanonicalName(u.Key)
		client.TsigSecret = map[string]string{key: u.Secret}
		m.SetTsig(key, dns.Fqdn(u.Algorithm), fudge, time.Now().Unix())
	}
	reply, err := lookup.Exchange(ctx, client, u.Server, m)
	if reply != nil {
		if signed := reply.IsTsig(); signed != nil && signed.Error != dns.RcodeSuccess {
			return nil, fmt.Errorf("%s does not accept the key %s: %s", u.Server, u.Key, objection(signed.Error))
		}
	}
	if reply != nil && errors.Is(err, dns.ErrAuth) {
		// That is an answer: it is not the server of that zone.
		return reply, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s cannot be asked: %w", u.Server, err)
	}
	return reply, nil
}

// objection is a TSIG error (RFC 8945 section 5.2) in words.
func objection(code uint16) string {
	switch code {
	case dns.RcodeBadKey:
		return "it knows no key of this name and algorithm (BADKEY)"
	case dns.RcodeBadSig:
		return "the secret is another (BADSIG)"
	case dns.RcodeBadTime:
		return "the clocks differ by more than five minutes (BADTIME)"
	}
	return dns.RcodeToString[int(code)]
}

// algorithms are those that TSIG knows and that are still safe.
var algorithms = map[string]bool{
	"hmac-sha1": true, "hmac-sha224": true, "hmac-sha256": true, "hmac-sha384": true, "hmac-sha512": true,
}

func isBase64(secret string) bool {
	_, err := base64.StdEncoding.DecodeString(secret)
	return err == nil
}
