package natsauth_test

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/certctl/certctl/libs/natsauth"
	"github.com/certctl/certctl/libs/secret"
)

func config() natsauth.Config {
	allow := func(subjects ...string) natsauth.Permissions {
		return natsauth.Permissions{Publish: subjects, Subscribe: []string{"_INBOX_{{name()}}.>"}}
	}
	return natsauth.Config{
		Roles: natsauth.Roles{
			Agent: allow("site.rpc.{{name()}}.>"), Enrol: allow("site.rpc.enrol.{{name()}}"),
			Leaf: allow("certctl.agent.evt.{{name()}}.>"), Relay: allow("site.>"),
		},
		Limits: map[natsauth.Account]natsauth.Limits{
			natsauth.CORE: {DiskBytes: -1},
			natsauth.EDGE: {DiskBytes: -1, Consumers: 6000, Connections: 1000, LeafConnections: 100, Subscriptions: 1000, Payload: 1 << 20},
		},
	}
}

func create(t *testing.T) (*natsauth.Authority, string, *secret.Sealer) {
	t.Helper()
	dir, sealer := filepath.Join(t.TempDir(), "authority"), secret.New(secret.NewKey())
	a, err := natsauth.Create(dir, sealer, config())
	if err != nil {
		t.Fatal(err)
	}
	return a, dir, sealer
}

func accountJWT(t *testing.T, a *natsauth.Authority, name natsauth.Account) string {
	t.Helper()
	token, err := a.AccountJWT(name)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func edgeSigner(t *testing.T, a *natsauth.Authority) *natsauth.EdgeSigner {
	t.Helper()
	keys, err := a.EdgeKeys()
	if err != nil {
		t.Fatal(err)
	}
	s, err := natsauth.NewEdgeSigner(keys)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newUser(t *testing.T) (seed, public string) {
	t.Helper()
	seed, public, err := natsauth.NewUserKey()
	if err != nil {
		t.Fatal(err)
	}
	return seed, public
}

func TestAuthority_IsTheSameAfterARestart(t *testing.T) {
	a, dir, sealer := create(t)
	_, user := newUser(t)
	if _, err := a.Revoke(natsauth.EDGE, []string{user}); err != nil {
		t.Fatal(err)
	}
	b, err := natsauth.Load(dir, sealer, config())
	if err != nil {
		t.Fatal(err)
	}
	if a.OperatorJWT() != b.OperatorJWT() {
		t.Error("the operator changed")
	}
	for _, name := range natsauth.Accounts() {
		if accountJWT(t, a, name) != accountJWT(t, b, name) {
			t.Errorf("the JWT of %s changed", name)
		}
	}
	before, err := a.EdgeKeys()
	if err != nil {
		t.Fatal(err)
	}
	after, err := b.EdgeKeys()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(before, after); d != "" {
		t.Errorf("the signing keys changed:\n%s", d)
	}
}

func TestAuthority_SignsAccountsAnewWhenTheConfigurationChanges(t *testing.T) {
	a, dir, sealer := create(t)
	_, user := newUser(t)
	if _, err := a.Revoke(natsauth.EDGE, []string{user}); err != nil {
		t.Fatal(err)
	}
	changed := config()
	changed.Roles.Agent.Publish = append(changed.Roles.Agent.Publish, "site.evt.{{name()}}.>")
	b, err := natsauth.Load(dir, sealer, changed)
	if err != nil {
		t.Fatal(err)
	}
	if accountJWT(t, a, natsauth.CORE) != accountJWT(t, b, natsauth.CORE) {
		t.Error("the JWT of CORE changed")
	}
	edge := accountJWT(t, b, natsauth.EDGE)
	if accountJWT(t, a, natsauth.EDGE) == edge {
		t.Error("the JWT of EDGE did not change")
	}
	claims, err := jwt.DecodeAccountClaims(edge)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := claims.Revocations[user]; !ok {
		t.Error("the revocation is lost")
	}
}

func TestAuthority_IsSealedOnDisk(t *testing.T) {
	_, dir, _ := create(t)
	path := filepath.Join(dir, "authority.sealed")
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode is %v", info.Mode())
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(data), "operator") {
		t.Error("the state can be read")
	}
	if _, err := natsauth.Load(dir, secret.New(secret.NewKey()), config()); err == nil {
		t.Error("another key opened it")
	}
}

func TestAuthority_IsNeverOverwritten(t *testing.T) {
	_, dir, sealer := create(t)
	if _, err := natsauth.Create(dir, sealer, config()); err == nil {
		t.Error("a second authority was created in the same directory")
	}
	if _, err := natsauth.Load(t.TempDir(), sealer, config()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("load of an empty directory: %v", err)
	}
}

func TestAccounts_DenyByDefaultAndImportNothing(t *testing.T) {
	a, _, _ := create(t)
	for _, name := range natsauth.Accounts() {
		claims, err := jwt.DecodeAccountClaims(accountJWT(t, a, name))
		if err != nil {
			t.Fatal(err)
		}
		results := jwt.CreateValidationResults()
		claims.Validate(results)
		if results.IsBlocking(true) {
			t.Errorf("%s: %v", name, results.Errors())
		}
		if d := claims.DefaultPermissions; d.Pub.Deny[0] != ">" || d.Sub.Deny[0] != ">" {
			t.Errorf("%s allows by default: %v", name, d)
		}
		if l := claims.Limits.AccountLimits; l.Imports != 0 || l.Exports != 0 {
			t.Errorf("%s may import or export: %v", name, l)
		}
	}
}

func TestServiceUser_HasExactlyItsPermissions(t *testing.T) {
	a, _, _ := create(t)
	creds, err := a.ServiceUser(natsauth.CORE, "issuer", natsauth.Permissions{Publish: []string{"certctl.evt.>"}, Responses: 1})
	if err != nil {
		t.Fatal(err)
	}
	claims, err := jwt.DecodeUserClaims(creds.JWT)
	if err != nil {
		t.Fatal(err)
	}
	want := jwt.Permissions{
		Pub:  jwt.Permission{Allow: jwt.StringList{"certctl.evt.>"}},
		Sub:  jwt.Permission{Deny: jwt.StringList{">"}},
		Resp: &jwt.ResponsePermission{MaxMsgs: 1},
	}
	if d := cmp.Diff(want, claims.Permissions); d != "" {
		t.Errorf("permissions:\n%s", d)
	}
	file, err := creds.File()
	if err != nil {
		t.Fatal(err)
	}
	again, err := natsauth.ParseCredentials(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(creds, again); d != "" {
		t.Errorf("creds file:\n%s", d)
	}
	public, err := creds.PublicKey()
	if err != nil || public != claims.Subject {
		t.Errorf("public key %q of %q, %v", public, claims.Subject, err)
	}
}

func TestEdgeSigner_MakesScopedUsersThatExpire(t *testing.T) {
	a, _, _ := create(t)
	s := edgeSigner(t, a)
	_, public := newUser(t)
	token, err := s.Agent("agent-1", "site-1", public, natsauth.JWTLife)
	if err != nil {
		t.Fatal(err)
	}
	claims, err := jwt.DecodeUserClaims(token)
	if err != nil {
		t.Fatal(err)
	}
	if !claims.HasEmptyPermissions() || claims.IssuerAccount != s.AccountKey() || claims.Name != "agent-1" || !claims.Tags.Contains("site:site-1") {
		t.Errorf("claims: %+v", claims)
	}
	if left := time.Until(time.Unix(claims.Expires, 0)); left < 29*24*time.Hour || left > natsauth.JWTLife {
		t.Errorf("expires in %v", left)
	}
}

func TestEdgeSigner_RefusesNamesThatAreWildcardsOrReserved(t *testing.T) {
	a, _, _ := create(t)
	s := edgeSigner(t, a)
	_, public := newUser(t)
	for _, name := range []string{"", "*", ">", "a.b", "A", "site", "enrol", "a b", strings.Repeat("x", 65)} {
		if _, err := s.Agent(name, "site-1", public, time.Hour); err == nil {
			t.Errorf("an agent named %q was made", name)
		}
		if _, err := s.Leaf(name, public); err == nil {
			t.Errorf("a leaf named %q was made", name)
		}
	}
	if _, err := s.Agent("agent-1", "site-1", s.AccountKey(), time.Hour); err == nil {
		t.Error("an account's key was taken for a user's")
	}
}

func TestNewer_TakesOnlyWhatTheOperatorSignedLater(t *testing.T) {
	a, _, _ := create(t)
	operator, first := a.OperatorJWT(), accountJWT(t, a, natsauth.EDGE)
	_, alice := newUser(t)
	_, bob := newUser(t)
	second, err := a.Revoke(natsauth.EDGE, []string{alice})
	if err != nil {
		t.Fatal(err)
	}
	third, err := a.Revoke(natsauth.EDGE, []string{bob})
	if err != nil {
		t.Fatal(err)
	}
	stranger, _, _ := create(t)
	foreign, err := stranger.Revoke(natsauth.EDGE, []string{alice})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, current, candidate string
		ok                       bool
	}{
		{"the first one", "", first, true},
		{"a newer one", first, second, true},
		{"a newer one of the same second", second, third, true},
		{"the same one", second, second, false},
		{"an older one", third, second, false},
		{"the oldest one", third, first, false},
		{"one of another operator", first, foreign, false},
		{"one of another account", first, accountJWT(t, a, natsauth.CORE), false},
		{"an operator's JWT", first, operator, false},
		{"a changed one", first, second[:len(second)-3] + "AAA", false},
		{"garbage", first, "x", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := natsauth.Newer(operator, c.current, c.candidate); (err == nil) != c.ok {
				t.Errorf("err = %v", err)
			}
		})
	}
}

func TestSignatures_HoldForOnePurposeAndOneKey(t *testing.T) {
	platformSeed, platform, err := natsauth.NewPlatformKey()
	if err != nil {
		t.Fatal(err)
	}
	agentSeed, agent := newUser(t)
	payload := []byte(`{"job_id":"job-d-1"}`)
	command, err := natsauth.SignCommand(platformSeed, payload)
	if err != nil {
		t.Fatal(err)
	}
	report, err := natsauth.SignReport(agentSeed, payload)
	if err != nil {
		t.Fatal(err)
	}
	if err := natsauth.VerifyCommand(platform, payload, command); err != nil {
		t.Error(err)
	}
	if err := natsauth.VerifyReport(agent, payload, report); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"another payload":     natsauth.VerifyCommand(platform, []byte("{}"), command),
		"another key":         natsauth.VerifyReport(platform, payload, report),
		"command as report":   natsauth.VerifyReport(platform, payload, command),
		"report as command":   natsauth.VerifyCommand(agent, payload, report),
		"no signature":        natsauth.VerifyCommand(platform, payload, nil),
		"no key":              natsauth.VerifyCommand("", payload, command),
		"signature too short": natsauth.VerifyCommand(platform, payload, command[:10]),
	} {
		if err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

// A NATS server chooses the nonce that a client signs with the same key.
func TestReport_CannotBeHadAsTheSignatureOfANonce(t *testing.T) {
	seed, public := newUser(t)
	key, err := nkeys.FromSeed([]byte(seed))
	if err != nil {
		t.Fatal(err)
	}
	payload := []byte(rand.Text())
	for _, nonce := range [][]byte{payload, append([]byte("certctl report v1\x00"), payload...)} {
		signature, err := key.Sign(nonce)
		if err != nil {
			t.Fatal(err)
		}
		if natsauth.VerifyReport(public, payload, signature) == nil {
			t.Errorf("the signature of nonce %q is one of a report", nonce)
		}
	}
}
