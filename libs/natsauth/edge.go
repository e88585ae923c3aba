package natsauth

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

// JWTLife is how long an agent's or a leaf's JWT is good for. It is renewed daily, so
// that a site cut off for weeks is not locked out; a revocation works at once in any
// case.
const JWTLife = 30 * 24 * time.Hour

// Roles are the permission templates of the scoped signing keys of EDGE. They sit in
// the account JWT: servers read them there, never in a user's JWT.
type Roles struct {
	// Agent connects to a leaf over the network.
	Agent Permissions
	// Enrol is a bearer user that connects to a leaf over the network.
	Enrol Permissions
	// Leaf is the link of a site's leaf to the hub.
	Leaf Permissions
	// Relay is the leaf's connection to its own server, inside the process.
	Relay Permissions
}

type role string

const (
	roleAgent role = "agent"
	roleEnrol role = "enrol"
	roleLeaf  role = "leaf"
	roleRelay role = "relay"
)

func roles() []role { return []role{roleAgent, roleEnrol, roleLeaf, roleRelay} }

// scope is the template under which a signing key makes users. The kinds of
// connection keep a principal where it belongs: a relay's rights, which are wide
// inside a leaf, cannot be used over any network.
func (r Roles) scope(of role, key string) *jwt.UserScope {
	s := jwt.NewUserScope()
	s.Key, s.Role = key, string(of)
	network := jwt.StringList{jwt.ConnectionTypeStandard, jwt.ConnectionTypeWebsocket}
	switch of {
	case roleAgent:
		s.Template.Permissions, s.Template.AllowedConnectionTypes = r.Agent.claims(), network
	case roleEnrol:
		s.Template.Permissions, s.Template.AllowedConnectionTypes = r.Enrol.claims(), network
		s.Template.BearerToken = true
		s.Template.Subs, s.Template.Payload = 4, 16<<10
	case roleLeaf:
		s.Template.Permissions = r.Leaf.claims()
		s.Template.AllowedConnectionTypes = jwt.StringList{jwt.ConnectionTypeLeafnode, jwt.ConnectionTypeLeafnodeWS}
	case roleRelay:
		s.Template.Permissions = r.Relay.claims()
		s.Template.AllowedConnectionTypes = jwt.StringList{jwt.ConnectionTypeInProcess}
	}
	return s
}

// EdgeKeys is what an [EdgeSigner] needs. It holds seeds: store it sealed.
type EdgeKeys struct {
	// Account is the public key of EDGE.
	Account string `json:"account"`
	// OperatorJWT is what a leaf trusts.
	OperatorJWT string `json:"operator_jwt"`
	// Agent, Enrol, Leaf and Relay are the seeds of the scoped signing keys.
	Agent string `json:"agent"`
	Enrol string `json:"enrol"`
	Leaf  string `json:"leaf"`
	Relay string `json:"relay"`
}

// EdgeSigner makes the users of EDGE. It can make nothing else.
type EdgeSigner struct {
	account, operatorJWT string
	keys                 map[role]nkeys.KeyPair
}

// NewEdgeSigner reads the keys.
func NewEdgeSigner(keys EdgeKeys) (*EdgeSigner, error) {
	if !nkeys.IsValidPublicAccountKey(keys.Account) {
		return nil, errors.New("edge signer: account is not a public account key")
	}
	s := &EdgeSigner{account: keys.Account, operatorJWT: keys.OperatorJWT, keys: map[role]nkeys.KeyPair{}}
	for of, seed := range map[role]string{
		roleAgent: keys.Agent, roleEnrol: keys.Enrol, roleLeaf: keys.Leaf, roleRelay: keys.Relay,
	} {
		key, err := nkeys.FromSeed([]byte(seed))
		if err != nil {
			return nil, fmt.Errorf("edge signer: %s key: %w", of, err)
		}
		s.keys[of] = key
	}
	return s, nil
}

// OperatorJWT is what a leaf is told to trust.
func (s *EdgeSigner) OperatorJWT() string { return s.operatorJWT }

// AccountKey is the public key of EDGE.
func (s *EdgeSigner) AccountKey() string { return s.account }

// Agent makes the JWT of an agent of a site, for the agent's own key.
func (s *EdgeSigner) Agent(agentID, siteID, publicKey string, ttl time.Duration) (string, error) {
	return s.user(roleAgent, agentID, siteID, publicKey, ttl)
}

// Enrol makes a bearer JWT that may do nothing but ask to enrol with one token.
func (s *EdgeSigner) Enrol(tokenID, siteID string, ttl time.Duration) (string, error) {
	_, publicKey, err := NewUserKey()
	if err != nil {
		return "", err
	}
	return s.user(roleEnrol, tokenID, siteID, publicKey, ttl)
}

// Leaf makes the JWT of a site's link to the hub, good for [JWTLife].
func (s *EdgeSigner) Leaf(siteID, publicKey string) (string, error) {
	return s.user(roleLeaf, siteID, siteID, publicKey, JWTLife)
}

// Relay makes the JWT of a leaf's connection to its own server. It does not expire:
// a site must go on working however long it is cut off, and beyond the leaf's own
// process the JWT opens nothing.
func (s *EdgeSigner) Relay(siteID, publicKey string) (string, error) {
	return s.user(roleRelay, siteID, siteID, publicKey, 0)
}

var (
	nameToken = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,63}$`)
	// reserved words stand where an agent's id stands in subjects.
	reserved = []string{"site", "enrol"}
)

func (s *EdgeSigner) user(of role, name, siteID, publicKey string, ttl time.Duration) (string, error) {
	if !nameToken.MatchString(name) || !nameToken.MatchString(siteID) {
		return "", fmt.Errorf("make %s user: %q of %q cannot be a name", of, name, siteID)
	}
	if slices.Contains(reserved, name) {
		return "", fmt.Errorf("make %s user: %q is reserved", of, name)
	}
	if !nkeys.IsValidPublicUserKey(publicKey) {
		return "", fmt.Errorf("make %s user %s: not a public user key", of, name)
	}
	claims := jwt.NewUserClaims(publicKey)
	claims.SetScoped(true)
	claims.Name = name
	claims.IssuerAccount = s.account
	claims.Tags.Add("site:"+strings.ToLower(siteID), "role:"+string(of))
	if ttl > 0 {
		claims.Expires = time.Now().Add(ttl).Unix()
	}
	token, err := claims.Encode(s.keys[of])
	if err != nil {
		return "", fmt.Errorf("make %s user %s: %w", of, name, err)
	}
	return token, nil
}
