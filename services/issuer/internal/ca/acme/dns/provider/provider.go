// Package provider edits the zones of those who host them: by DNS updates (RFC 2136), and by the interfaces of Route 53,
// Cloudflare, Azure DNS, Google Cloud DNS and acme-dns.
//
// Credentials are what an issuer's settings hold, and nothing else: neither the process's environment nor a file nor the
// machine's own identity is looked at, so that who may set up an issuer cannot act with the rights of the host.
//
// Each changes a set of records only as it was seen, or one value of it, so that replicas that set values of the same
// name at the same time keep each other's.
package provider

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// The providers, as the setting dns_provider names them.
const (
	RFC2136    = "rfc2136"
	Route53    = "route53"
	Cloudflare = "cloudflare"
	Azure      = "azuredns"
	Google     = "gcloud"
	AcmeDNS    = "acmedns"
)

// Names are all of them.
func Names() []string { return []string{RFC2136, Route53, Cloudflare, Azure, Google, AcmeDNS} }

// Endpoints are where the interfaces are, if that is not their usual place, as in tests. It is no setting.
type Endpoints struct {
	Route53, Cloudflare, Azure, AzureLogin, Google, GoogleToken string
}

const (
	// ttl is how long resolvers may remember a record, in seconds: what is gone after a minute need not be waited for.
	ttl = 60
	// attempts is how often a change is tried that somebody else's has come before.
	attempts     = 6
	contestPause = 400 * time.Millisecond
)

// errContested means that a set of records is not as it was seen any more.
var errContested = errors.New("others change the same record all the time")

// contested does something again until nobody comes before.
func contested(ctx context.Context, do func() error) error {
	var err error
	for i := range attempts {
		if err = do(); !errors.Is(err, errContested) {
			return err
		}
		timer := time.NewTimer(contestPause * time.Duration(i+1))
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
	return err
}

// refused are the errors of Test, in one form.
func refused(zone string, err error) error { return fmt.Errorf("zone %s: %w", zone, err) }

// quoted is a value as zones hold it. It is base64, which needs no escapes.
func quoted(value string) string { return `"` + value + `"` }
