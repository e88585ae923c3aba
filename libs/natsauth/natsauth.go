// Package natsauth makes the identities of the bus, in the operator mode of NATS.
//
// An [Authority] holds the operator key and the accounts SYS, CORE, EDGE and EXT. It
// signs account JWTs and the users of services, and revokes users. An [EdgeSigner]
// holds no more than the scoped signing keys of EDGE: it makes agents, leaves and
// enrolment users, whose rights are templates that sit in the account JWT, so that a
// stolen signing key makes principals of its kind and none with wider rights.
//
// Whoever proves its identity by a key of its own (agents and leaves) makes that key
// itself; only the public half ever comes here.
//
// The package also signs what must be trusted beyond the link it came over: commands,
// by the platform's key, and reports, by the agent's own ([Signer],
// [VerifyCommand], [VerifyReport]).
//
// It knows nothing of streams and subjects: permissions are data of the caller. All
// types are safe for concurrent use.
package natsauth

import (
	"fmt"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

// Account names one of the four accounts of the platform.
type Account string

// The accounts. Nothing is imported or exported between them.
const (
	// SYS is the servers' own account; only operations and the authority use it.
	SYS Account = "SYS"
	// CORE is where the services talk.
	CORE Account = "CORE"
	// EDGE is where leaves and agents talk.
	EDGE Account = "EDGE"
	// EXT is where external readers talk.
	EXT Account = "EXT"
)

// Accounts lists them all.
func Accounts() []Account { return []Account{SYS, CORE, EDGE, EXT} }

// Permissions are exact lists of subjects, which may hold wildcards. What is not
// allowed is denied, also when a list is empty.
type Permissions struct {
	Publish       []string
	DenyPublish   []string
	Subscribe     []string
	DenySubscribe []string
	// Responses is how many messages may be published to the reply subject of a
	// request that was received; none if zero, any number if negative.
	Responses int
}

func (p Permissions) claims() jwt.Permissions {
	out := jwt.Permissions{
		Pub: permission(p.Publish, p.DenyPublish),
		Sub: permission(p.Subscribe, p.DenySubscribe),
	}
	if p.Responses != 0 {
		out.Resp = &jwt.ResponsePermission{MaxMsgs: p.Responses}
	}
	return out
}

// permission closes what an empty list would open: to NATS no list at all means that
// everything is allowed.
func permission(allow, deny []string) jwt.Permission {
	if len(allow) == 0 {
		deny = []string{">"}
	}
	return jwt.Permission{Allow: allow, Deny: deny}
}

// Credentials prove who a user is: its JWT, and the seed of the key named in it.
type Credentials struct {
	JWT  string
	Seed string
}

// File is the credentials in the form of a creds file, to be stored with mode 0600.
func (c Credentials) File() ([]byte, error) {
	return jwt.FormatUserConfig(c.JWT, []byte(c.Seed))
}

// PublicKey is the user's public key, by which it can be revoked.
func (c Credentials) PublicKey() (string, error) {
	key, err := nkeys.FromSeed([]byte(c.Seed))
	if err != nil {
		return "", fmt.Errorf("user seed: %w", err)
	}
	defer key.Wipe()
	return key.PublicKey()
}

// ParseCredentials reads a creds file.
func ParseCredentials(file []byte) (Credentials, error) {
	token, err := jwt.ParseDecoratedJWT(file)
	if err != nil {
		return Credentials{}, fmt.Errorf("creds file: %w", err)
	}
	key, err := jwt.ParseDecoratedUserNKey(file)
	if err != nil {
		return Credentials{}, fmt.Errorf("creds file: %w", err)
	}
	defer key.Wipe()
	seed, err := key.Seed()
	if err != nil {
		return Credentials{}, fmt.Errorf("creds file: %w", err)
	}
	return Credentials{JWT: token, Seed: string(seed)}, nil
}

// NewUserKey makes a key for a user on the host that will use it.
func NewUserKey() (seed, public string, err error) {
	key, err := nkeys.CreateUser()
	if err != nil {
		return "", "", fmt.Errorf("make user key: %w", err)
	}
	return export(key)
}

func export(key nkeys.KeyPair) (seed, public string, err error) {
	defer key.Wipe()
	s, err := key.Seed()
	if err != nil {
		return "", "", fmt.Errorf("export key: %w", err)
	}
	public, err = key.PublicKey()
	if err != nil {
		return "", "", fmt.Errorf("export key: %w", err)
	}
	return string(s), public, nil
}
