package subject

import (
	"path"
	"strings"
	"testing"
)

func TestToken_RefusesWhatCouldWidenASubject(t *testing.T) {
	for _, bad := range []string{"", "a.b", "*", ">", "a*", "A", "www.example.com", "a b", "-a", "_a", "ä", "a\n", "a{", "a`", "a/", "a:", strings.Repeat("a", 65)} {
		if Token(bad) {
			t.Errorf("%q was taken for a token", bad)
		}
	}
	for _, good := range []string{"a", "mc-01abc", "agent_1", "0", "az-09_", strings.Repeat("a", 64)} {
		if !Token(good) {
			t.Errorf("%q was refused", good)
		}
	}
}

func TestJoin_PanicsRatherThanPublishElsewhere(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Fatal("a dotted id built a subject")
		}
	}()
	_ = AgentCommand("site-1", "agent-1.>", "deploy", "job-1")
}

func TestEvents_MatchThoseOfBeforeTheyWereWithoutIDs(t *testing.T) {
	slashes := strings.NewReplacer(".", "/", ">", "*/*")
	for _, filter := range []string{Events("certificate", "issued"), Events("certificate", "")} {
		for _, s := range []string{Event("certificate", "issued"), "certctl.evt.certificate.mc-1.issued"} {
			if ok, err := path.Match(slashes.Replace(filter), slashes.Replace(s)); !ok || err != nil {
				t.Errorf("%s does not match %s: %v", filter, s, err)
			}
		}
	}
}

func TestParse_ReadsBackWhatTheConstructorsBuild(t *testing.T) {
	cases := map[string]Agent{
		AgentCommand("s1", "a1", "deploy", "j1"):  {"s1", "a1", "deploy", "j1"},
		AgentReport("s1", "a1", KindDeploy, "j1"): {"s1", "a1", KindDeploy, "j1"},
		AgentRequest("s1", "a1", "refresh"):       {"s1", "a1", "refresh", ""},
	}
	for s, want := range cases {
		if got, ok := ParseAgent(s); !ok || got != want {
			t.Errorf("ParseAgent(%q) = %+v, %v; want %+v", s, got, ok, want)
		}
	}
	sites := map[string]Agent{
		SiteCommand("a1", "deploy", "j1"):  {"", "a1", "deploy", "j1"},
		SiteReport("a1", KindDeploy, "j1"): {"", "a1", KindDeploy, "j1"},
		SiteRequest("a1", "hello"):         {"", "a1", "hello", ""},
	}
	for s, want := range sites {
		if got, ok := ParseSite(s); !ok || got != want {
			t.Errorf("ParseSite(%q) = %+v, %v; want %+v", s, got, ok, want)
		}
	}
}

func FuzzParse_NeverYieldsATokenThatCouldWidenASubject(f *testing.F) {
	f.Add("certctl.agent.evt.s.a.deploy.j")
	f.Add("site.rpc.*.hello")
	f.Add("site.cmd.a.>.j")
	f.Fuzz(func(t *testing.T, s string) {
		for _, parse := range []func(string) (Agent, bool){ParseAgent, ParseSite} {
			a, ok := parse(s)
			if !ok {
				continue
			}
			for _, tok := range []string{a.Site, a.Agent, a.Verb, a.Job} {
				if tok != "" && !Token(tok) {
					t.Fatalf("%q gave the token %q", s, tok)
				}
			}
		}
	})
}

func BenchmarkToken(b *testing.B) {
	for b.Loop() {
		Token("mc-06h2546zpnxr55xwn7nj72y1qw")
	}
}
