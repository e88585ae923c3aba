package archtest

import (
	"strings"
	"testing"
)

func TestCheck_NamesTheWayAndTheReason(t *testing.T) {
	packages := map[string]Package{
		"m/services/a":          {Imports: []string{"m/libs/x"}, Deps: []string{"m/libs/x", "m/libs/testkit/pg", "m/services/a/internal"}},
		"m/services/a/internal": {},
		"m/libs/x":              {Imports: []string{"m/libs/testkit/pg"}, Deps: []string{"m/libs/testkit/pg"}},
		"m/libs/testkit/pg":     {},
	}
	rules := []Rule{{From: "m/services/...", MustNot: "m/libs/testkit/...", Why: "it is for tests"}}

	got := Check(packages, rules)

	want := "m/services/a must not use m/libs/testkit/pg\n\tbecause it is for tests\n\tby way of m/services/a -> m/libs/x -> m/libs/testkit/pg"
	if len(got) != 1 || got[0] != want {
		t.Errorf("Check = %q\nwant %q", got, want)
	}
}

func TestCheck_AServiceMayUseItselfButNoOther(t *testing.T) {
	packages := map[string]Package{
		"m/services/a":   {Deps: []string{"m/services/a/internal/store"}},
		"m/services/ab":  {Imports: []string{"m/services/a"}, Deps: []string{"m/services/a"}},
		"m/services/all": {Imports: []string{"m/services/a"}, Deps: []string{"m/services/a"}},
	}
	rules := []Rule{{From: "m/services/...", Except: []string{"m/services/all/..."}, MustNot: "m/services/...", Why: "w"}}

	got := Check(packages, rules)

	if len(got) != 1 || !strings.HasPrefix(got[0], "m/services/ab must not use m/services/a\n") {
		t.Errorf("Check = %q, want only m/services/ab", got)
	}
}
