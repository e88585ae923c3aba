package local_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/ca"
	"github.com/certctl/certctl/services/issuer/internal/ca/catest"
	"github.com/certctl/certctl/services/issuer/internal/ca/local"
	"github.com/certctl/certctl/services/issuer/internal/registry"
)

// shelf is a KeyStore of several keys.
type shelf []ca.Key

func (s shelf) Keys(context.Context, string) ([]ca.Key, error) { return s, nil }

func (s shelf) ActiveKey(context.Context, string) (*ca.Key, error) {
	i := slices.IndexFunc(s, func(k ca.Key) bool { return k.Active })
	if i < 0 {
		return nil, nil //nolint:nilnil // the interface says so
	}
	return &s[i], nil
}

func (s shelf) AddKey(context.Context, ca.Key) (*ca.Key, error) { return nil, nil } //nolint:nilnil // somebody else's is waiting

func (b *bench) kind(keys ...ca.Key) *local.Kind {
	return &local.Kind{Keys: shelf(keys), Sealer: b.sealer, Clock: b.clock, PublicURL: "http://127.0.0.1:8080", Default: "iss-local"}
}

// made makes the key of a root that holds for some days.
func (b *bench) made(days int) ca.Key {
	b.Helper()
	d := named("Root")
	d.Days, d.MaxPathLen = days, 1
	k, err := local.MakeRoot("iss-a", d, b.sealer, b.clock.Now())
	if err != nil {
		b.Fatal(err)
	}
	return k
}

func TestKind_ACAThatHasEndedCanBeFollowedAndNotActivated(t *testing.T) {
	b := newBench(t)
	ended := b.made(10)
	issuer := registry.Issuer{ID: "iss-a", Config: map[string]any{"ca_validity_days": 20.0}}
	b.clock.Advance(11 * 24 * time.Hour)
	kind := b.kind(ended)
	if _, _, err := kind.Open(t.Context(), issuer); fault.CodeOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "expired") {
		t.Errorf("it opens: %v", err)
	}
	if _, err := kind.Usable(t.Context(), issuer, ended); fault.CodeOf(err) != fault.Conflict {
		t.Errorf("it is usable: %v", err)
	}
	if _, err := kind.Succeed(t.Context(), issuer, nil, registry.Succession{CrossSign: true}); fault.CodeOf(err) != fault.Invalid || !strings.Contains(err.Error(), "cross_sign") {
		t.Errorf("it signs: %v", err)
	}
	next, err := kind.Succeed(t.Context(), issuer, nil, registry.Succession{})
	if err != nil {
		t.Fatal(err)
	}
	ended.Active = false
	kind = b.kind(ended, next)
	opened, _, err := kind.Open(t.Context(), issuer)
	if err != nil {
		t.Fatal(err)
	}
	if c := opened.Chain()[0]; c.MaxPathLen != 1 || c.Subject.CommonName != "Root" || c.NotAfter.Sub(b.clock.Now()).Round(24*time.Hour) != 20*24*time.Hour {
		t.Errorf("the next root is %s, path length %d, until %s", c.Subject, c.MaxPathLen, c.NotAfter)
	}
	keyed := opened.(ca.Keyed)
	if same, err := keyed.WithKey(next.ID); err != nil || same != opened {
		t.Errorf("%v", err)
	}
	if _, err := keyed.WithKey(ended.ID); fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("a key that has ended signs: %v", err)
	}
	if _, err := keyed.WithKey("cak-none"); fault.CodeOf(err) != fault.NotFound {
		t.Errorf("%v", err)
	}
}

func TestKind_ADefaultIssuerThatWaitsForItsFirstCertificateIsNotGivenAnotherCA(t *testing.T) {
	b := newBench(t)
	pending, err := local.MakeRequest("iss-local", named("Issuing"), b.sealer, b.clock.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []*local.Kind{b.kind(pending), b.kind()} {
		if _, _, err := kind.Open(t.Context(), registry.Issuer{ID: "iss-local"}); fault.CodeOf(err) != fault.Unavailable {
			t.Errorf("%v", err)
		}
	}
}

func TestKind_FollowsAKeyThatIsNotMadeHereByTheNearestThatIs(t *testing.T) {
	root := newCA(t, "ECDSA P-256", nil, nil)
	b := newBench(t)
	for given, want := range map[string]string{"ECDSA P-384": local.ECDSAP384, "Ed25519": local.Ed25519, "RSA 2048": local.RSA2048} {
		k, err := local.Follow("iss-a", newCA(t, given, root, nil).cert, local.Successor{Days: 5}, b.sealer, b.clock.Now())
		a := b.open(k, err)
		if got := local.AlgorithmOf(a.Chain()[0].PublicKey); got != want {
			t.Errorf("%s is followed by %s", given, got)
		}
		if _, err := a.Issue(t.Context(), catest.NewRequest(t, catest.NewKey(t, "ECDSA P-256"), "www.example.com")); err != nil {
			t.Error(err)
		}
	}
}
