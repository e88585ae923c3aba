package id_test

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/certctl/certctl/libs/id"
)

func TestNew_IsPrefixAnd26Characters(t *testing.T) {
	got := id.New("mc-")
	if !strings.HasPrefix(got, "mc-") || len(got) != len("mc-")+26 {
		t.Errorf("New = %q", got)
	}
	if !id.Valid(got) {
		t.Errorf("%q is not valid itself", got)
	}
}

func TestNew_SortsInOrderOfMakingAndNeverRepeats(t *testing.T) {
	ids := make([]string, 10_000)
	for i := range ids {
		ids[i] = id.New("")
	}
	if !slices.IsSorted(ids) {
		t.Error("ids made one after the other do not sort")
	}
	if n := len(slices.Compact(ids)); n != 10_000 {
		t.Errorf("%d of 10000 ids differ", n)
	}
}

func TestValid_AcceptsOneSubjectToken(t *testing.T) {
	tests := map[string]bool{
		"a": true, "0": true, "iss-local": true, "a_b-c": true, strings.Repeat("a", 64): true,
		"": false, "-a": false, "_a": false, "A": false, "a.b": false, "a*": false, "a>": false, "a b": false,
		"a/b": false, "é": false, "a\n": false, strings.Repeat("a", 65): false,
	}
	for s, want := range tests {
		if got := id.Valid(s); got != want {
			t.Errorf("Valid(%q) = %v, want %v", s, got, want)
		}
	}
}

func TestValid_MatchesItsGrammar(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringMatching(`[a-z0-9][a-z0-9_-]{0,63}`).Draw(t, "id")
		if !id.Valid(s) {
			t.Fatalf("%q is refused", s)
		}
	})
}
