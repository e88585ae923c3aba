package postgres_test

import (
	"sync"
	"testing"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/ca"
)

func TestAccount_IsOneForEachIssuerAndDirectoryHoweverManyMakeIt(t *testing.T) {
	e := newEngine(t)
	const here, there = "https://ca.example.com/directory", "https://ca.example.org/directory"
	if a, err := e.store.Account(t.Context(), "iss-local", here); a != nil || err != nil {
		t.Fatalf("before: %+v, %v", a, err)
	}
	got := make([]*ca.Account, 8)
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() {
			var err error
			got[i], err = e.store.AddAccount(t.Context(), ca.Account{
				IssuerID: "iss-local", Directory: here, Sealed: []byte{byte(i)}, CreatedAt: e.clock.Now(),
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, a := range got {
		if a == nil || string(a.Sealed) != string(got[0].Sealed) {
			t.Fatalf("accounts %+v and %+v", got[0], a)
		}
	}
	known := *got[0]
	known.URL, known.Contact = "https://ca.example.com/account/1", "pki@example.com"
	if err := e.store.NoteAccount(t.Context(), known); err != nil {
		t.Fatal(err)
	}
	if a, err := e.store.Account(t.Context(), "iss-local", here); err != nil || a.URL != known.URL || a.Contact != known.Contact {
		t.Errorf("after: %+v, %v", a, err)
	}
	if a, err := e.store.Account(t.Context(), "iss-local", there); a != nil || err != nil {
		t.Errorf("at another directory: %+v, %v", a, err)
	}
}

func TestAccount_TakesItsNextKeyOnce(t *testing.T) {
	e := newEngine(t)
	const here = "https://ca.example.com/directory"
	a, err := e.store.AddAccount(t.Context(), ca.Account{IssuerID: "iss-local", Directory: here, Sealed: []byte("one"), CreatedAt: e.clock.Now()})
	if err != nil {
		t.Fatal(err)
	}
	for _, next := range []string{"two", "three"} {
		// Of several who replace it at once, all get the same.
		now, err := e.store.AddNextKey(t.Context(), *a, []byte(next))
		if err != nil || string(now.Sealed) != "one" || string(now.Next) != "two" {
			t.Fatalf("account %+v, %v", now, err)
		}
	}
	for _, next := range []string{"three", "two", "two"} {
		if err := e.store.AdoptNextKey(t.Context(), "iss-local", here, []byte(next)); err != nil {
			t.Fatal(err)
		}
	}
	now, err := e.store.Account(t.Context(), "iss-local", here)
	if err != nil || string(now.Sealed) != "two" || now.Next != nil {
		t.Errorf("account %+v, %v", now, err)
	}
	if _, err := e.store.AddNextKey(t.Context(), *a, []byte("four")); fault.CodeOf(err) != fault.Conflict {
		t.Errorf("of a key that was replaced: %v", err)
	}
}
