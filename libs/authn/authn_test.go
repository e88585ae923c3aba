package authn_test

import (
	"encoding/base64"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
)

func TestPrincipal_SurvivesTheHeader(t *testing.T) {
	list := rapid.OneOf(rapid.Just[[]string](nil), rapid.SliceOfN(rapid.String(), 0, 3))
	rapid.Check(t, func(t *rapid.T) {
		want := authn.Principal{
			ID:   rapid.StringN(1, 20, -1).Draw(t, "id"),
			Name: rapid.String().Draw(t, "name"),
			Kind: rapid.SampledFrom([]authn.Kind{authn.KindUser, authn.KindAgent, authn.KindSystem, authn.KindAnonymous}).Draw(t, "kind"),
			Scope: authn.Scope{
				Teams:        list.Draw(t, "teams"),
				Environments: list.Draw(t, "environments"),
				Issuers:      list.Draw(t, "issuers"),
				Profiles:     list.Draw(t, "profiles"),
			},
		}
		got, err := authn.FromHeader(authn.ToHeader(want))
		if err != nil {
			t.Fatal(err)
		}
		// Without EquateEmpty: a list that admits nothing must not turn into one that admits everything.
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("(-sent +got):\n%s", diff)
		}
	})
}

func TestFromHeader_RefusesWhatIsNoPrincipal(t *testing.T) {
	encode := base64.RawURLEncoding.EncodeToString
	tests := map[string]string{
		"missing":      "",
		"not base64":   "%%%",
		"not JSON":     encode([]byte("x")),
		"wrong type":   encode([]byte(`{"id":1,"kind":"user"}`)),
		"unknown kind": encode([]byte(`{"id":"a","kind":"root"}`)),
		"no kind":      encode([]byte(`{"id":"a"}`)),
		"no id":        encode([]byte(`{"kind":"user"}`)),
	}
	for name, header := range tests {
		t.Run(name, func(t *testing.T) {
			p, err := authn.FromHeader(header)
			if fault.CodeOf(err) != fault.Unauthenticated {
				t.Errorf("err = %v, want unauthenticated", err)
			}
			if diff := cmp.Diff(authn.Principal{}, p); diff != "" {
				t.Errorf("a principal came out: %s", diff)
			}
		})
	}
}

func TestCan_ComparesDimensionByDimension(t *testing.T) {
	all := authn.System("issuer")
	teamA := authn.Principal{ID: "u", Kind: authn.KindUser, Scope: authn.Scope{Teams: []string{"t-a", "t-b"}}}
	none := authn.Principal{ID: "u", Kind: authn.KindUser, Scope: authn.Scope{Teams: []string{}}}
	tests := []struct {
		name string
		p    authn.Principal
		want authn.Scope
		can  bool
	}{
		{"unlimited may touch anything", all, authn.Scope{Teams: []string{"t-z"}, Issuers: []string{"i"}}, true},
		{"own team", teamA, authn.Scope{Teams: []string{"t-a"}}, true},
		{"other team", teamA, authn.Scope{Teams: []string{"t-z"}}, false},
		{"one of two", teamA, authn.Scope{Teams: []string{"t-a", "t-z"}}, false},
		{"not asked about teams", teamA, authn.Scope{Issuers: []string{"i"}}, true},
		{"a thing without a team", teamA, authn.Scope{Teams: []string{""}}, false},
		{"an empty list admits nothing", none, authn.Scope{Teams: []string{"t-a"}}, false},
		{"nobody may do nothing", authn.Principal{}, authn.Scope{}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.p.Can(tt.want); got != tt.can {
				t.Errorf("Can = %v, want %v", got, tt.can)
			}
		})
	}
	if !all.Scope.Unlimited() || none.Scope.Unlimited() {
		t.Error("Unlimited mistakes an empty list for none")
	}
}

func TestContext_CarriesThePrincipal(t *testing.T) {
	if diff := cmp.Diff(authn.Principal{}, authn.FromContext(t.Context())); diff != "" {
		t.Errorf("an empty context has a principal: %s", diff)
	}
	want := authn.Agent("agent-1")
	if diff := cmp.Diff(want, authn.FromContext(authn.NewContext(t.Context(), want))); diff != "" {
		t.Error(diff)
	}
	if authn.Anonymous().Kind != authn.KindAnonymous || authn.Anonymous().HasRole("admin") {
		t.Error("anonymous is somebody")
	}
}

func TestNewKey_IsRandomAndRecognisable(t *testing.T) {
	a, b := authn.NewKey(), authn.NewKey()
	if !regexp.MustCompile(`^cck_[A-Za-z0-9_-]{43}$`).MatchString(a) || a == b {
		t.Errorf("keys %q and %q", a, b)
	}
	if !authn.Equal(authn.HashKey(a), authn.HashKey(a)) || authn.Equal(authn.HashKey(a), authn.HashKey(b)) {
		t.Error("hashes do not tell keys apart")
	}
}
