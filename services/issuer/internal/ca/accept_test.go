package ca_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/secret"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca"
	"github.com/certctl/certctl/services/issuer/internal/ca/catest"
	"github.com/certctl/certctl/services/issuer/internal/ca/local"
)

// keys is a store of one key.
type keys struct{ key *ca.Key }

func (k *keys) ActiveKey(context.Context, string) (*ca.Key, error) { return k.key, nil }

func (k *keys) Keys(context.Context, string) ([]ca.Key, error) { return []ca.Key{*k.key}, nil }

func (k *keys) AddKey(_ context.Context, key ca.Key) (*ca.Key, error) {
	k.key = &key
	return k.key, nil
}

func newLocal(t *testing.T) ca.Issuer {
	t.Helper()
	a, err := local.OpenRoot(t.Context(), "iss-test", &keys{}, secret.New(secret.NewKey()), local.Places{}, clock.System)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestAccept_BelievesNoCAThatAnswersWithSomethingElse hands on what a CA must not get
// away with.
func TestAccept_BelievesNoCAThatAnswersWithSomethingElse(t *testing.T) {
	own, other := newLocal(t), newLocal(t)
	key := catest.NewKey(t, "ECDSA P-256")
	r := catest.NewRequest(t, key, "www.example.com")
	issue := func(from ca.Issuer, r ca.Request) string {
		issued, err := from.Issue(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		return string(issued.ChainPEM)
	}
	good := issue(own, r)
	root := string(x509x.EncodeCertificates(own.Chain()...))
	now := time.Now()
	for name, c := range map[string]struct {
		chain string
		at    time.Time
		says  string // nothing if it is to be believed
	}{
		"what was asked for":            {good, now, ""},
		"the same with its root":        {good + root, now, ""},
		"nothing":                       {"", now, "no chain"},
		"garbage":                       {"<html>busy</html>", now, "no chain"},
		"a certificate for another key": {issue(own, catest.NewRequest(t, catest.NewKey(t, "ECDSA P-256"), "www.example.com")), now, "another key"},
		"other names":                   {issue(own, catest.NewRequest(t, key, "www.example.org")), now, "www.example.org"},
		"more names":                    {issue(own, catest.NewRequest(t, key, "www.example.com", "example.com")), now, "example.com"},
		"the CA's own":                  {root, now, "another key"},
		"another CA's":                  {issue(other, r), now, "does not lead"},
		"a broken chain":                {good + string(x509x.EncodeCertificates(other.Chain()...)), now, "broken"},
		"one that has expired":          {good, now.AddDate(1, 0, 0), "not now"},
	} {
		t.Run(name, func(t *testing.T) {
			issued, err := ca.Accept(r, []byte(c.chain), own.Chain(), c.at)
			if c.says == "" {
				if err != nil || strings.Count(string(issued.ChainPEM), "BEGIN") != 1 {
					t.Errorf("%v: %s", err, issued.ChainPEM)
				}
				return
			}
			if fault.CodeOf(err) != fault.Unavailable || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v", err)
			}
		})
	}
}
