package identity_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/libs/natsauth"
	"github.com/certctl/certctl/services/agent/internal/identity"
)

func open(t *testing.T, dir string) *identity.Store {
	t.Helper()
	s, err := identity.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func userJWT(t *testing.T, name, public string, expires time.Time) string {
	t.Helper()
	account, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	claims := jwt.NewUserClaims(public)
	claims.Name = name
	if !expires.IsZero() {
		claims.Expires = expires.Unix()
	}
	token, err := claims.Encode(account)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func reply(t *testing.T, s *identity.Store) command.EnrolReply {
	t.Helper()
	_, platform, err := natsauth.NewPlatformKey()
	if err != nil {
		t.Fatal(err)
	}
	return command.EnrolReply{
		AgentID: "agent-1", SiteID: "site-1", PlatformKey: platform,
		UserJWT: userJWT(t, "agent-1", s.PublicKey(), time.Now().Add(time.Hour)),
	}
}

func TestIdentity_IsTheSameAfterARestart(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if again := open(t, dir); again.PublicKey() != s.PublicKey() {
		t.Error("a restart before enrolment made another key")
	}
	r := reply(t, s)
	if err := s.Adopt(r); err != nil {
		t.Fatal(err)
	}
	again := open(t, dir)
	want := identity.Identity{AgentID: "agent-1", SiteID: "site-1", PlatformKey: r.PlatformKey, UserJWT: r.UserJWT}
	if diff := cmp.Diff(want, again.Current()); diff != "" {
		t.Errorf("identity (-want +got):\n%s", diff)
	}
	signed, err := again.SignReport([]byte("report"))
	if err != nil {
		t.Fatal(err)
	}
	if err := natsauth.VerifyReport(s.PublicKey(), signed.Payload, signed.Signature); err != nil {
		t.Errorf("a report after the restart: %v", err)
	}
	for _, name := range []string{"agent.nk", "identity.json"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

func TestIdentity_RefusesWhatIsNotItsOwn(t *testing.T) {
	s := open(t, t.TempDir())
	other := open(t, t.TempDir())
	for want, change := range map[string]func(*command.EnrolReply){
		"cannot name an agent": func(r *command.EnrolReply) { r.AgentID = "a.b" },
		"platform key":         func(r *command.EnrolReply) { r.PlatformKey = other.PublicKey() },
		"another key":          func(r *command.EnrolReply) { r.UserJWT = userJWT(t, "agent-1", other.PublicKey(), time.Time{}) },
		`it is for "agent-2"`:  func(r *command.EnrolReply) { r.UserJWT = userJWT(t, "agent-2", s.PublicKey(), time.Time{}) },
		"user JWT":             func(r *command.EnrolReply) { r.UserJWT = "x.y.z" },
	} {
		r := reply(t, s)
		change(&r)
		if err := s.Adopt(r); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
	if s.Current().AgentID != "" {
		t.Error("something was adopted")
	}
}

func TestIdentity_EndsWithItsJWT(t *testing.T) {
	s := open(t, t.TempDir())
	if s.Current().Enrolled(time.Now()) {
		t.Error("enrolled without an identity")
	}
	if err := s.Adopt(reply(t, s)); err != nil {
		t.Fatal(err)
	}
	if !s.Current().Enrolled(time.Now()) || s.Current().Enrolled(time.Now().Add(2*time.Hour)) {
		t.Error("an identity is good for as long as its JWT")
	}
	fresh := userJWT(t, "agent-1", s.PublicKey(), time.Time{})
	if err := s.Renew(fresh); err != nil {
		t.Fatal(err)
	}
	if !s.Current().Enrolled(time.Now().Add(1000 * time.Hour)) {
		t.Error("a JWT without an end ends")
	}
	if err := s.Renew(userJWT(t, "agent-2", s.PublicKey(), time.Time{})); err == nil || s.Current().UserJWT != fresh {
		t.Errorf("renewed with another's JWT: %v", err)
	}
}
