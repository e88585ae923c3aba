package profile_test

import (
	"strings"
	"testing"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/lint"
	"github.com/certctl/certctl/services/issuer/internal/profile"
)

func TestFindings_RefuseACertificateIfTheProfileBlocksAndARuleIsBroken(t *testing.T) {
	advice := lint.Finding{Lint: "w_one", Level: lint.Warn, Text: "Advice", Source: "RFC5280"}
	broken := lint.Finding{Lint: "e_two", Level: lint.Error, Text: "A rule", Detail: "as it is not", Source: "CABF_BR", Citation: "BRs: 7.1"}
	unread := lint.Finding{Lint: lint.Unreadable, Level: lint.Fatal, Text: "To be read", Source: "certctl"}
	block := func(s *profile.Spec) { s.LintMode, s.LintRuleset = profile.LintBlock, lint.CABF }
	for name, tt := range map[string]struct {
		profile *profile.Profile
		found   []lint.Finding
		refused int
	}{
		"nothing":              {made(t, block), nil, 0},
		"advice":               {made(t, block), []lint.Finding{advice, {Lint: "n_three", Level: lint.Notice}}, 0},
		"a broken rule":        {made(t, block), []lint.Finding{advice, broken}, 1},
		"two":                  {made(t, block), []lint.Finding{broken, unread}, 2},
		"a warning is enough":  {made(t, func(*profile.Spec) {}), []lint.Finding{broken, unread}, 0},
		"there is no profile":  {nil, []lint.Finding{broken, unread}, 0},
		"it could not be read": {made(t, block), []lint.Finding{unread}, 1},
	} {
		err := tt.profile.CheckFindings(tt.found)
		if (err != nil) != (tt.refused > 0) {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			continue
		}
		if f := fault.From(err); f.Code != fault.Invalid || len(f.Fields) != tt.refused || f.Fields[0].Name != "certificate_profile_id" {
			t.Errorf("%s: %+v", name, f)
		}
	}
	err := made(t, block).CheckFindings([]lint.Finding{broken})
	for _, part := range []string{"prof-web", "Web", "lint_ruleset cabf", "e_two", "A rule", "as it is not", "BRs: 7.1"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%v lacks %q", err, part)
		}
	}
}

func TestLint_LeavesOutWhatIsIgnoredButNotThatNothingCouldBeRead(t *testing.T) {
	p := made(t, func(s *profile.Spec) { s.LintIgnore = []string{lint.Unreadable} })
	if found := p.Lint([]byte("no certificate")); len(found) != 1 {
		t.Errorf("%v", found)
	}
}

func TestKey_IsKeptIfTheProfileSaysSoAndStillAllowsIt(t *testing.T) {
	var none *profile.Profile
	keep := made(t, func(s *profile.Spec) { s.ReuseKey, s.Keys = true, []profile.Key{{Algorithm: "RSA", MinSize: 3072}} })
	for name, tt := range map[string]struct {
		profile   *profile.Profile
		algorithm string
		bits      int
		want      bool
	}{
		"as it is to be":        {keep, "RSA", 3072, true},
		"stronger":              {keep, "RSA", 4096, true},
		"too weak by now":       {keep, "RSA", 2048, false},
		"of another kind":       {keep, "ECDSA", 384, false},
		"the profile is silent": {made(t, func(*profile.Spec) {}), "ECDSA", 256, false},
		"there is no profile":   {none, "ECDSA", 256, false},
	} {
		if got := tt.profile.Reuses(tt.algorithm, tt.bits); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
