// Package registry knows the issuers that are configured, opens the CAs behind them, and has the use cases of setting
// them up.
//
// A CA is opened when it is first asked for and kept open. Each time it is asked for, its row's revision is read, by one
// query for all who ask at that moment, and a CA of an older revision is opened anew. So a change that has been answered
// holds in every replica from then on, without a message or a restart: an issuer that was added can be used, one that
// was disabled issues nothing, whoever is asked.
package registry

import (
	"context"
	"strings"
	"time"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/services/issuer/internal/ca"
	"github.com/certctl/certctl/services/issuer/internal/standing"
)

// Issuer is a configured CA.
type Issuer struct {
	ID, Name, Type string
	// Config is without secrets: what stands in their place says that they are set.
	Config map[string]any
	// Sealed are the secrets; nil if there are none.
	Sealed  []byte
	Enabled bool
	// Limits are what its CA may be asked, if that is not in this process.
	Limits standing.Limits
	// What the CA behind it says of itself; empty before it has been opened.
	CAChainPEM string
	SignsCRL   bool
	// Authorities are the CAs of all its keys, once there has been more than one.
	Authorities          []event.Authority
	CreatedAt, UpdatedAt time.Time
	// Revision grows with every change.
	Revision int64
}

// The types of issuers, as the API spells them.
const (
	TypeLocal    = "GenericCA"
	TypeACME     = "ACME"
	TypeStepCA   = "StepCA"
	TypeOpenSSL  = "OpenSSL"
	TypeVault    = "Vault"
	TypeDigiCert = "DigiCert"
)

// names are the types by the names that older clients and data give them, without case and punctuation.
var names = map[string]string{
	"genericca": TypeLocal, "local": TypeLocal, "localca": TypeLocal,
	"acme": TypeACME, "stepca": TypeStepCA, "openssl": TypeOpenSSL,
	"vault": TypeVault, "openbao": TypeVault, "hashicorpvault": TypeVault,
	"digicert": TypeDigiCert, "certcentral": TypeDigiCert, "digicertcertcentral": TypeDigiCert,
}

// TypeOf returns the type that a name means, false if it means none.
func TypeOf(name string) (string, bool) {
	name = strings.NewReplacer("-", "", "_", "", " ", "").Replace(strings.ToLower(name))
	t, ok := names[name]
	return t, ok
}

// Kind makes and opens the CAs of one type. A build has one for each type that it has a connector for. One with secret
// settings is a [Keeper] too.
type Kind interface {
	// Make reads the config of a new issuer and makes what belongs to it. Its error is Invalid and names the settings at
	// fault.
	Make(i Issuer, config map[string]any) (Made, error)
	// Amend returns the config of an issuer after an update of some settings, of which a null goes back to its default.
	// Its error is Invalid and names the settings at fault.
	Amend(i Issuer, update map[string]any) (map[string]any, error)
	// Open opens the CA behind an issuer and returns what the config is to say now. Its error says in words for an
	// operator what is wrong.
	Open(ctx context.Context, i Issuer) (ca.Issuer, map[string]any, error)
}

// Made is what belongs to a new issuer.
type Made struct {
	// Config is what is kept of the settings. All of it is shown but what a Keeper names.
	Config map[string]any
	// Key is the CA's key, if it lives here.
	Key      ca.Key
	SignsCRL bool
	// Secrets are the settings that were given, were made use of, and are not kept.
	Secrets []string
}
