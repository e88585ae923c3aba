package natsauth

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/certctl/certctl/libs/atomicfile"
)

const (
	stateFile = "authority.sealed"
	// stateAAD binds the sealed bytes to their purpose.
	stateAAD = "certctl natsauth authority v1"
)

// Sealer encrypts what is stored; libs/secret has one.
type Sealer interface {
	Seal(plain, aad []byte) ([]byte, error)
	Unseal(sealed, aad []byte) ([]byte, error)
}

// Config is what the account JWTs say. A change of it takes effect when the authority
// is opened the next time; the identities stay.
type Config struct {
	Roles  Roles
	Limits map[Account]Limits
}

// Authority holds the operator key and every account key. There is one in an
// installation, and nobody else can make or change an account.
type Authority struct {
	dir    string
	sealer Sealer
	config Config

	mu    sync.Mutex
	state state // guarded by mu; changed only once the new one is on disk
}

// state is what survives a restart. Seeds are in the encoding of nkeys.
type state struct {
	Operator    string                   `json:"operator"`
	OperatorJWT string                   `json:"operator_jwt"`
	Accounts    map[Account]accountState `json:"accounts"`
	Roles       map[role]string          `json:"roles"`
}

type accountState struct {
	Seed string `json:"seed"`
	// Signing is the seed of the key that signs users with permissions of their own.
	Signing string `json:"signing"`
	// JWT is the newest one, with the revocations.
	JWT string `json:"jwt"`
}

// Create makes new identities and stores them, sealed, in a directory that holds
// none.
func Create(dir string, sealer Sealer, config Config) (*Authority, error) {
	if _, err := os.Stat(filepath.Join(dir, stateFile)); err == nil {
		return nil, fmt.Errorf("create authority: %s holds one already", dir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create authority: %w", err)
	}
	fresh, err := newState()
	if err != nil {
		return nil, fmt.Errorf("create authority: %w", err)
	}
	a := &Authority{dir: dir, sealer: sealer, config: config, state: fresh}
	if err := a.renew(); err != nil {
		return nil, fmt.Errorf("create authority: %w", err)
	}
	return a, nil
}

// Load opens what [Create] stored: the same keys, and the same account JWTs unless
// the configuration says something new. The error is fs.ErrNotExist if the directory
// holds no authority.
func Load(dir string, sealer Sealer, config Config) (*Authority, error) {
	sealed, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err != nil {
		return nil, fmt.Errorf("load authority: %w", err)
	}
	plain, err := sealer.Unseal(sealed, []byte(stateAAD))
	if err != nil {
		return nil, fmt.Errorf("load authority: %w", err)
	}
	a := &Authority{dir: dir, sealer: sealer, config: config}
	if err := json.Unmarshal(plain, &a.state); err != nil {
		return nil, fmt.Errorf("load authority: %w", err)
	}
	if err := a.renew(); err != nil {
		return nil, fmt.Errorf("load authority: %w", err)
	}
	return a, nil
}

// Open loads the authority of a directory, or creates it if there is none.
func Open(dir string, sealer Sealer, config Config) (*Authority, error) {
	a, err := Load(dir, sealer, config)
	if errors.Is(err, fs.ErrNotExist) {
		return Create(dir, sealer, config)
	}
	return a, err
}

func newState() (state, error) {
	s := state{Accounts: map[Account]accountState{}, Roles: map[role]string{}}
	var err error
	if s.Operator, _, err = newSeed(nkeys.CreateOperator); err != nil {
		return state{}, err
	}
	for _, name := range Accounts() {
		var account accountState
		if account.Seed, _, err = newSeed(nkeys.CreateAccount); err != nil {
			return state{}, err
		}
		if account.Signing, _, err = newSeed(nkeys.CreateAccount); err != nil {
			return state{}, err
		}
		s.Accounts[name] = account
	}
	for _, of := range roles() {
		if s.Roles[of], _, err = newSeed(nkeys.CreateAccount); err != nil {
			return state{}, err
		}
	}
	return s, nil
}

func newSeed(create func() (nkeys.KeyPair, error)) (seed, public string, err error) {
	key, err := create()
	if err != nil {
		return "", "", fmt.Errorf("make key: %w", err)
	}
	return export(key)
}

// renew signs what the configuration changed, and stores the result.
func (a *Authority) renew() error {
	next := a.state.clone()
	changed, err := next.sign(a.config)
	if err != nil || !changed {
		return err
	}
	return a.store(next)
}

// store puts a state on disk before anybody sees it. Callers hold mu, or are the
// only ones that know a.
func (a *Authority) store(next state) error {
	plain, err := json.Marshal(next)
	if err != nil {
		return fmt.Errorf("store authority: %w", err)
	}
	sealed, err := a.sealer.Seal(plain, []byte(stateAAD))
	if err != nil {
		return fmt.Errorf("store authority: %w", err)
	}
	if err := atomicfile.Write(filepath.Join(a.dir, stateFile), sealed, 0o600); err != nil {
		return fmt.Errorf("store authority: %w", err)
	}
	a.state = next
	return nil
}

// OperatorJWT is what servers trust.
func (a *Authority) OperatorJWT() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.state.OperatorJWT
}

// AccountKey is the public key of an account.
func (a *Authority) AccountKey(name Account) (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.state.accountKey(name)
}

// AccountJWT is the newest JWT of an account.
func (a *Authority) AccountJWT(name Account) (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	account, ok := a.state.Accounts[name]
	if !ok {
		return "", fmt.Errorf("account %q is unknown", name)
	}
	return account.JWT, nil
}

// ServiceUser makes a user with exact permissions and a fresh key. It does not
// expire: it is revoked, or made anew at each start.
func (a *Authority) ServiceUser(in Account, name string, permissions Permissions) (Credentials, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	account, ok := a.state.Accounts[in]
	if !ok {
		return Credentials{}, fmt.Errorf("make user %s: account %q is unknown", name, in)
	}
	issuer, err := a.state.accountKey(in)
	if err != nil {
		return Credentials{}, fmt.Errorf("make user %s: %w", name, err)
	}
	signing, err := nkeys.FromSeed([]byte(account.Signing))
	if err != nil {
		return Credentials{}, fmt.Errorf("make user %s: %w", name, err)
	}
	seed, public, err := NewUserKey()
	if err != nil {
		return Credentials{}, fmt.Errorf("make user %s: %w", name, err)
	}
	claims := jwt.NewUserClaims(public)
	claims.Name = name
	claims.IssuerAccount = issuer
	claims.Permissions = permissions.claims()
	claims.AllowedConnectionTypes = jwt.StringList{jwt.ConnectionTypeStandard, jwt.ConnectionTypeInProcess}
	token, err := claims.Encode(signing)
	if err != nil {
		return Credentials{}, fmt.Errorf("make user %s: %w", name, err)
	}
	return Credentials{JWT: token, Seed: seed}, nil
}

// EdgeKeys hands out the scoped signing keys, for whoever makes the users of EDGE.
func (a *Authority) EdgeKeys() (EdgeKeys, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	account, err := a.state.accountKey(EDGE)
	if err != nil {
		return EdgeKeys{}, err
	}
	return EdgeKeys{
		Account: account, OperatorJWT: a.state.OperatorJWT,
		Agent: a.state.Roles[roleAgent], Enrol: a.state.Roles[roleEnrol],
		Leaf: a.state.Roles[roleLeaf], Relay: a.state.Roles[roleRelay],
	}, nil
}

// Revoke ends users at once: it signs an account JWT that refuses every JWT made for
// these keys up to now, stores it, and returns it for servers and leaves to apply
// ([PushAccount]). Without keys it returns the newest JWT.
func (a *Authority) Revoke(name Account, publicKeys []string) (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	next := a.state.clone()
	account, ok := next.Accounts[name]
	if !ok {
		return "", fmt.Errorf("revoke: account %q is unknown", name)
	}
	if len(publicKeys) == 0 {
		return account.JWT, nil
	}
	claims, err := jwt.DecodeAccountClaims(account.JWT)
	if err != nil {
		return "", fmt.Errorf("revoke: %w", err)
	}
	now := time.Now()
	for _, key := range publicKeys {
		if !nkeys.IsValidPublicUserKey(key) {
			return "", fmt.Errorf("revoke: %q is not a public user key", key)
		}
		claims.RevokeAt(key, now)
	}
	forget(claims, now)
	if account.JWT, err = next.encode(claims); err != nil {
		return "", fmt.Errorf("revoke: %w", err)
	}
	next.Accounts[name] = account
	if err := a.store(next); err != nil {
		return "", err
	}
	return account.JWT, nil
}
