package acme_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/ca"
	"github.com/certctl/certctl/services/issuer/internal/ca/acme/pebbletest"
)

func TestAccountKey_IsReplacedAndReplicasFindOut(t *testing.T) {
	s := pebbletest.Start(t, pebbletest.Options{Nonces: 40})
	d := newDeps()
	store := d.Accounts.(*accounts)
	a, replica := open(t, config(s), d), open(t, config(s), d)
	first := issue(t, a, "www.example.com")
	url, before := store.url(), string(store.one.Sealed)
	if err := a.RotateAccountKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	if store.url() != url || string(store.one.Sealed) == before || store.one.Next != nil {
		t.Errorf("account %+v", store.one)
	}
	issue(t, a, "www.example.com")
	issue(t, replica, "www.example.com")
	// It is the same account: what was issued to it before is its own to revoke.
	if err := replica.Revoke(t.Context(), ca.Revocation{Serial: first.Serial, Leaf: first.DER}); err != nil {
		t.Error(err)
	}
	if err := replica.RotateAccountKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	issue(t, a, "www.example.com")
}

// The CA has the new key, and its answer is lost.
func TestAccountKey_WhoseReplacementWasCutShortIsFoundOut(t *testing.T) {
	for name, how := range map[string]string{"by an issue": "issue", "by another rotation": "rotate"} {
		t.Run(name, func(t *testing.T) {
			s := pebbletest.Start(t, pebbletest.Options{})
			d := newDeps()
			store := d.Accounts.(*accounts)
			var cut atomic.Bool
			c := config(s)
			c.Directory = s.Behind(func(r *http.Request, answer *httptest.ResponseRecorder) {
				if strings.HasPrefix(r.URL.Path, "/rollover-account-key") && answer.Code < 300 && cut.CompareAndSwap(false, true) {
					panic(http.ErrAbortHandler)
				}
			})
			a := open(t, c, d)
			if err := a.RotateAccountKey(t.Context()); fault.CodeOf(err) != fault.Unavailable || store.one.Next == nil {
				t.Fatalf("cut short: %v, account %+v", err, store.one)
			}
			next := string(store.one.Next)
			// Another process goes on, which has read both keys.
			a = open(t, c, d)
			if how == "rotate" {
				if err := a.RotateAccountKey(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			issue(t, a, "www.example.com")
			if string(store.one.Sealed) != next || store.one.Next != nil {
				t.Errorf("account %+v", store.one)
			}
		})
	}
}

// The CA has not heard of the new key.
func TestAccountKey_WhoseReplacementDidNotReachTheCAIsReplacedTheNextTime(t *testing.T) {
	s := pebbletest.Start(t, pebbletest.Options{})
	d := newDeps()
	store := d.Accounts.(*accounts)
	var refused atomic.Bool
	c := config(s)
	c.Directory = s.Between(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, "/rollover-account-key") || !refused.CompareAndSwap(false, true) {
			return false
		}
		w.WriteHeader(http.StatusBadGateway)
		return true
	})
	a := open(t, c, d)
	if err := a.RotateAccountKey(t.Context()); fault.CodeOf(err) != fault.Unavailable || store.one.Next == nil {
		t.Fatalf("refused: %v, account %+v", err, store.one)
	}
	next := string(store.one.Next)
	issue(t, a, "www.example.com")
	if err := a.RotateAccountKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	issue(t, a, "www.example.com")
	if string(store.one.Sealed) != next {
		t.Error("another key was made")
	}
}
