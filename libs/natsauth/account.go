package natsauth

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

// Limits bound an account on each server that serves it. Zero means no limit, except
// for DiskBytes, where it means no JetStream.
type Limits struct {
	// DiskBytes of streams, with consumers and streams counted too.
	DiskBytes int64
	Streams   int64
	Consumers int64
	// Connections of clients and LeafConnections of leaves.
	Connections     int64
	LeafConnections int64
	// Subscriptions of one connection, and Payload bytes of one message.
	Subscriptions int64
	Payload       int64
}

// revocationMemory is how long a revocation stays in the account JWT: longer than any
// JWT that it could still concern. A relay's JWT outlives it, and opens nothing
// outside its own leaf.
const revocationMemory = JWTLife + 10*24*time.Hour

func forget(claims *jwt.AccountClaims, now time.Time) {
	maps.DeleteFunc(claims.Revocations, func(_ string, at int64) bool {
		return now.Sub(time.Unix(at, 0)) > revocationMemory
	})
}

func (s state) clone() state {
	s.Accounts = maps.Clone(s.Accounts)
	s.Roles = maps.Clone(s.Roles)
	return s
}

func (s state) accountKey(name Account) (string, error) {
	account, ok := s.Accounts[name]
	if !ok {
		return "", fmt.Errorf("account %q is unknown", name)
	}
	return publicOf(account.Seed)
}

func publicOf(seed string) (string, error) {
	key, err := nkeys.FromSeed([]byte(seed))
	if err != nil {
		return "", fmt.Errorf("read key: %w", err)
	}
	defer key.Wipe()
	return key.PublicKey()
}

// sign brings every JWT in line with the configuration and tells whether one changed.
func (s *state) sign(config Config) (changed bool, err error) {
	if s.OperatorJWT == "" {
		if s.OperatorJWT, err = s.signOperator(); err != nil {
			return false, err
		}
		changed = true
	}
	for _, name := range Accounts() {
		claims, err := s.accountClaims(name, config)
		if err != nil {
			return false, fmt.Errorf("account %s: %w", name, err)
		}
		account := s.Accounts[name]
		if account.JWT != "" {
			current, err := jwt.DecodeAccountClaims(account.JWT)
			if err != nil {
				return false, fmt.Errorf("account %s: %w", name, err)
			}
			claims.Revocations = current.Revocations
			same, err := equal(current, claims)
			if err != nil {
				return false, fmt.Errorf("account %s: %w", name, err)
			}
			if same {
				continue
			}
		}
		if account.JWT, err = s.encode(claims); err != nil {
			return false, fmt.Errorf("account %s: %w", name, err)
		}
		s.Accounts[name] = account
		changed = true
	}
	return changed, nil
}

// signOperator leaves the system account out of the operator's JWT: leaves trust this
// JWT too, and each has a system account of its own.
func (s *state) signOperator() (string, error) {
	key, err := nkeys.FromSeed([]byte(s.Operator))
	if err != nil {
		return "", fmt.Errorf("operator: %w", err)
	}
	public, err := key.PublicKey()
	if err != nil {
		return "", fmt.Errorf("operator: %w", err)
	}
	claims := jwt.NewOperatorClaims(public)
	claims.Name = "certctl"
	token, err := claims.Encode(key)
	if err != nil {
		return "", fmt.Errorf("operator: %w", err)
	}
	return token, nil
}

func (s *state) accountClaims(name Account, config Config) (*jwt.AccountClaims, error) {
	public, err := s.accountKey(name)
	if err != nil {
		return nil, err
	}
	claims := jwt.NewAccountClaims(public)
	claims.Name = string(name)
	claims.DefaultPermissions = Permissions{}.claims()
	config.Limits[name].apply(claims, name)
	signing, err := publicOf(s.Accounts[name].Signing)
	if err != nil {
		return nil, err
	}
	claims.SigningKeys.Add(signing)
	if name != EDGE {
		return claims, nil
	}
	for _, of := range roles() {
		key, err := publicOf(s.Roles[of])
		if err != nil {
			return nil, err
		}
		claims.SigningKeys.AddScopedSigner(config.Roles.scope(of, key))
	}
	return claims, nil
}

func (l Limits) apply(claims *jwt.AccountClaims, name Account) {
	limit := func(n int64) int64 {
		if n == 0 {
			return jwt.NoLimit
		}
		return n
	}
	claims.Limits.Imports, claims.Limits.Exports, claims.Limits.WildcardExports = 0, 0, false
	claims.Limits.Conn = limit(l.Connections)
	claims.Limits.LeafNodeConn = limit(l.LeafConnections)
	claims.Limits.Subs = limit(l.Subscriptions)
	claims.Limits.Payload = limit(l.Payload)
	// Only enrolment uses bearer tokens, and only EDGE has it.
	claims.Limits.DisallowBearer = name != EDGE
	if l.DiskBytes == 0 {
		return
	}
	claims.Limits.JetStreamLimits = jwt.JetStreamLimits{
		MemoryStorage: jwt.NoLimit, DiskStorage: l.DiskBytes,
		Streams: limit(l.Streams), Consumer: limit(l.Consumers),
		MaxAckPending: jwt.NoLimit, MemoryMaxStreamBytes: 0, DiskMaxStreamBytes: 0,
		MaxBytesRequired: true,
	}
}

func (s *state) encode(claims *jwt.AccountClaims) (string, error) {
	operator, err := nkeys.FromSeed([]byte(s.Operator))
	if err != nil {
		return "", fmt.Errorf("operator key: %w", err)
	}
	defer operator.Wipe()
	token, err := claims.Encode(operator)
	if err != nil {
		return "", fmt.Errorf("sign account: %w", err)
	}
	return token, nil
}

// equal tells whether b would say what the signed a says, whenever that was.
func equal(a, b *jwt.AccountClaims) (bool, error) {
	b.Type, b.Version = a.Type, a.Version // encoding sets them
	left, err := json.Marshal(a.Account)
	if err != nil {
		return false, fmt.Errorf("compare claims: %w", err)
	}
	right, err := json.Marshal(b.Account)
	if err != nil {
		return false, fmt.Errorf("compare claims: %w", err)
	}
	return a.Name == b.Name && bytes.Equal(left, right), nil
}
