package apikey

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
)

func TestCheck_NamesEverythingThatIsWrong(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	future := now.Add(time.Hour)
	cases := []struct {
		name  string
		key   Key
		wrong []string
	}{
		{"nothing", Key{Name: "x", Roles: []string{"viewer"}, ExpiresAt: &future, Scope: authn.Scope{Teams: []string{}}}, nil},
		{"all", Key{Name: " ", ExpiresAt: &now, Scope: authn.Scope{Teams: []string{""}, Profiles: make([]string, maxScope+1)}}, []string{"expires_at", "name", "roles", "scope.profiles", "scope.teams[0]"}},
		{"a role that is none", Key{Name: "x", Roles: []string{"viewer", "root"}}, []string{"roles[1]"}},
		{"a long name", Key{Name: strings.Repeat("x", maxName+1), Roles: []string{"viewer"}}, []string{"name"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			err := c.key.check(now)
			var got []string
			if f := fault.From(err); f != nil {
				for _, field := range f.Fields {
					if !slices.Contains(got, field.Name) && !strings.HasPrefix(field.Name, "scope.profiles[") {
						got = append(got, field.Name)
					}
				}
			}
			if !slices.Equal(got, c.wrong) {
				t.Errorf("wrong are %q, want %q", got, c.wrong)
			}
		})
	}
	k := Key{Name: " x ", Roles: []string{"viewer", "admin", "viewer"}}
	if err := k.check(now); err != nil || k.Name != "x" || !slices.Equal(k.Roles, []string{"admin", "viewer"}) {
		t.Errorf("%+v, %v", k, err)
	}
}

// TestWithin_NeverAdmitsMore: whatever the inner scope may touch, the outer may.
func TestWithin_NeverAdmitsMore(t *testing.T) {
	list := rapid.OneOf(rapid.Just[[]string](nil), rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c"}), 0, 3))
	scopes := rapid.Custom(func(t *rapid.T) authn.Scope {
		return authn.Scope{Teams: list.Draw(t, "teams"), Environments: list.Draw(t, "environments"), Issuers: list.Draw(t, "issuers"), Profiles: list.Draw(t, "profiles")}
	})
	rapid.Check(t, func(t *rapid.T) {
		inner, outer := scopes.Draw(t, "inner"), scopes.Draw(t, "outer")
		if !within(inner, inner) || !within(inner, authn.Scope{}) {
			t.Fatal("a scope is not within itself")
		}
		if !within(inner, outer) {
			return
		}
		one := rapid.SampledFrom([]string{"a", "b", "c", ""})
		thing := authn.Scope{
			Teams: []string{one.Draw(t, "team")}, Environments: []string{one.Draw(t, "environment")},
			Issuers: []string{one.Draw(t, "issuer")}, Profiles: []string{one.Draw(t, "profile")},
		}
		may := func(s authn.Scope) bool { return authn.Principal{ID: "x", Kind: authn.KindUser, Scope: s}.Can(thing) }
		if may(inner) && !may(outer) {
			t.Fatalf("%+v may touch %+v, %+v may not", inner, thing, outer)
		}
	})
}
