package issuance

import (
	"bytes"
	"encoding/pem"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/ca/catest"
)

var quiet = slog.New(slog.DiscardHandler)

func TestRequest_NeedsNothingButAName(t *testing.T) {
	now := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
	c, err := Request{CommonName: "WWW.Example.com."}.draft(now)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(c.ID, "mc-") {
		t.Errorf("id %q", c.ID)
	}
	want := Certificate{
		ID: c.ID, Name: "www.example.com", CommonName: "www.example.com", SANs: []string{"www.example.com"},
		OwnerID: "o-default", TeamID: "t-default", IssuerID: "iss-local", RenewalPolicyID: "rp-default",
		Status: Pending, CreatedAt: now, UpdatedAt: now,
	}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRequest_NamesAreASetWithTheCommonNameFirst(t *testing.T) {
	c, err := Request{
		CommonName: "b.example.com",
		SANs:       []string{"*.Example.com", "2001:DB8:0::1", "a.example.com", "b.example.com", "192.0.2.1"},
	}.draft(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"b.example.com", "*.example.com", "a.example.com", "192.0.2.1", "2001:db8::1"}
	if diff := cmp.Diff(want, c.SANs); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRequest_NamesEveryFieldAtFault(t *testing.T) {
	long := strings.Repeat("a", 64)
	tests := []struct {
		name   string
		change func(*Request)
		fields []string
	}{
		{"no common name", func(r *Request) { r.CommonName = " " }, []string{"common_name"}},
		{"a name with a space", func(r *Request) { r.CommonName = "www example.com" }, []string{"common_name"}},
		{"a label too long", func(r *Request) { r.CommonName = long + ".example.com" }, []string{"common_name"}},
		{"a name of 254 characters", func(r *Request) { r.CommonName = strings.Repeat("a.", 126) + "aa" }, []string{"common_name"}},
		{"a wildcard inside", func(r *Request) { r.SANs = []string{"www.*.example.com"} }, []string{"sans[0]"}},
		{"half a wildcard", func(r *Request) { r.SANs = []string{"w*.example.com"} }, []string{"sans[0]"}},
		{"a name in Unicode", func(r *Request) { r.SANs = []string{"ok.example.com", "bücher.example"} }, []string{"sans[1]"}},
		{"a mail address", func(r *Request) { r.SANs = []string{"a@example.com"} }, []string{"sans"}},
		{"a URI as common name", func(r *Request) { r.CommonName = "spiffe://example.com/a" }, []string{"common_name"}},
		{"a profile that is no id", func(r *Request) { r.ProfileID = "A" }, []string{"certificate_profile_id"}},
		{"too many names", func(r *Request) { r.SANs = make([]string, 101) }, []string{"sans"}},
		{"an id with dots", func(r *Request) { r.ID = "www.example.com" }, []string{"id"}},
		{"an id in upper case", func(r *Request) { r.ID = "MC-1" }, []string{"id"}},
		{"references that are no ids", func(r *Request) { r.OwnerID, r.TeamID = "O'Neill", "*" }, []string{"owner_id", "team_id"}},
		{"control characters", func(r *Request) { r.Name, r.Environment = "a\x00b", "x\ny" }, []string{"name", "environment"}},
		{"long texts", func(r *Request) { r.Name, r.Environment = strings.Repeat("n", 256), strings.Repeat("e", 256) }, []string{"name", "environment"}},
		{"bad tags", func(r *Request) { r.Tags = map[string]string{"": "x"} }, []string{"tags"}},
		{"a tag with a NUL", func(r *Request) { r.Tags = map[string]string{"k": "\x00"} }, []string{"tags"}},
		{"targets", func(r *Request) { r.TargetIDs = []string{"a", "A", "a"} }, []string{"target_ids[1]", "target_ids[2]"}},
		{"a huge request", func(r *Request) { r.CSRPEM = strings.Repeat("x", 32769) }, []string{"csr_pem"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := Request{CommonName: "www.example.com"}
			tt.change(&r)
			_, err := r.draft(time.Now())
			if fault.CodeOf(err) != fault.Invalid {
				t.Fatalf("error %v", err)
			}
			var fields []string
			for _, f := range fault.From(err).Fields {
				fields = append(fields, f.Name)
			}
			if diff := cmp.Diff(tt.fields, fields); diff != "" {
				t.Errorf("fields (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReach_RefusesTargetsOfTwoHosts(t *testing.T) {
	on := func(id, agent string) Target { return Target{ID: id, AgentID: agent, Enabled: true} }
	tests := []struct {
		name    string
		targets []Target
		want    string
	}{
		{"one host", []Target{on("a", "agent-1"), on("b", "agent-1")}, ""},
		{"two hosts", []Target{on("a", "agent-1"), on("b", "agent-2")}, "target_ids[1]: target b is on another agent than a"},
		{"unknown", []Target{on("a", "agent-1"), {ID: "b"}}, "target_ids[1]: unknown target b"},
		{"switched off", []Target{{ID: "a", AgentID: "agent-1"}}, "target_ids[0]: target a is disabled"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := checkReach(tt.targets)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.want)) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestCheckRequest_ComparesTheRequestWithItsRecord(t *testing.T) {
	key := catest.NewKey(t, "ECDSA P-256")
	csr := func(cn string, dns ...string) string { return catest.NewCSR(t, key, cn, dns...) }
	good := csr("a.example.com", "a.example.com", "b.example.com")
	tests := []struct {
		name, csr, want string
	}{
		{"the same names", good, ""},
		{"the same names in another order and case", csr("B.example.com", "b.example.com", "A.EXAMPLE.com"), ""},
		{"all names but no common name", csr("", "a.example.com", "b.example.com"), ""},
		{"text around the block", "to whom it may concern\x00\n" + good + "\n", ""},
		{"a name too few", csr("a.example.com", "a.example.com"), "lacks b.example.com"},
		{"a name too many", csr("a.example.com", "a.example.com", "b.example.com", "evil.com"), "asks for evil.com besides"},
		{"another common name", csr("evil.com", "a.example.com", "b.example.com"), "asks for evil.com besides"},
		{"a common name in words", csr("My Server", "a.example.com", "b.example.com"), "asks for my server besides"},
		{"no PEM", "hello", "not in PEM"},
		{"cut off", good[:len(good)/2], "not in PEM"},
		{"two requests", good + good, "followed by something else"},
		{"a changed byte", tamper(t, good), "not signed by its own key"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := checkRequest(tt.csr, "a.example.com", []string{"a.example.com", "b.example.com"})
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tt.want != "" && (fault.CodeOf(err) != fault.Invalid || !strings.Contains(fault.From(err).Message, tt.want)):
				t.Errorf("error %v, want %q", err, tt.want)
			}
			if err == nil && strings.Contains(canonical(tt.csr), "concern") {
				t.Error("what stands around the block is kept")
			}
		})
	}
}

// tamper changes a name inside a request, so that its signature no longer fits.
func tamper(t *testing.T, csr string) string {
	t.Helper()
	block, _ := pem.Decode([]byte(csr))
	changed := bytes.ReplaceAll(block.Bytes, []byte("a.example.com"), []byte("c.example.com"))
	if bytes.Equal(changed, block.Bytes) {
		t.Fatal("nothing changed")
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: changed}))
}
