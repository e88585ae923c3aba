package cli

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/contracts/httpapi/client"
)

const secretKey = "cck_not-to-be-seen"

// api speaks the contract and notes what it was asked.
type api struct {
	t      *testing.T
	server *httptest.Server
	env    map[string]string

	mu      sync.Mutex
	asked   []string // under mu: method, target and body
	answers map[string]answer
}

type answer struct {
	status int
	body   any // marshalled, unless it is text
}

func newAPI(t *testing.T) *api {
	a := &api{t: t, answers: map[string]answer{}}
	a.server = httptest.NewServer(http.HandlerFunc(a.serve))
	t.Cleanup(a.server.Close)
	a.env = map[string]string{"CERTCTL_SERVER_URL": a.server.URL, "CERTCTL_API_KEY": secretKey}
	return a
}

// on sets the answer to a method and a path.
func (a *api) on(request string, status int, body any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answers[request] = answer{status, body}
}

func (a *api) serve(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var body bytes.Buffer
	if _, err := body.ReadFrom(r.Body); err != nil {
		a.t.Error(err)
	}
	a.asked = append(a.asked, strings.TrimSpace(r.Method+" "+r.RequestURI+" "+body.String()))
	w.Header().Set("X-Request-ID", "req-7")
	if r.URL.Path != "/ready" && r.Header.Get("Authorization") != "Bearer "+secretKey {
		a.t.Errorf("%s was asked with %q", r.URL.Path, r.Header.Get("Authorization"))
	}
	found, ok := a.answers[r.Method+" "+r.URL.EscapedPath()]
	if !ok {
		found = answer{404, problem("not_found", "there is nothing at "+r.URL.Path)}
	}
	text, ok := found.body.(string)
	if !ok {
		b, err := json.Marshal(found.body)
		if err != nil {
			a.t.Error(err)
		}
		text = string(b)
	}
	w.WriteHeader(found.status)
	_, _ = w.Write([]byte(text))
}

func problem(code, message string) map[string]any {
	return map[string]any{
		"type": "urn:certctl:problem:" + code, "title": "x", "status": 400, "detail": message, "code": code, "error": "x", "message": message,
	}
}

// last is what was asked for last.
func (a *api) last() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.asked) == 0 {
		return ""
	}
	return a.asked[len(a.asked)-1]
}

// cli runs a command line and sees that the key is not shown, whatever it is.
func (a *api) cli(args ...string) (code int, stdout, stderr string) {
	a.t.Helper()
	var out, errs bytes.Buffer
	code = Run(a.t.Context(), args, Streams{Out: &out, Err: &errs}, func(name string) string { return a.env[name] })
	if strings.Contains(out.String()+errs.String(), secretKey) {
		a.t.Errorf("%q shows the key:\n%s%s", args, out.String(), errs.String())
	}
	return code, out.String(), errs.String()
}

// want runs a command line that is to end with a code.
func (a *api) want(code int, args ...string) (stdout, stderr string) {
	a.t.Helper()
	got, stdout, stderr := a.cli(args...)
	if got != code {
		a.t.Errorf("%q ends with %d, want %d:\n%s%s", args, got, code, stdout, stderr)
	}
	return stdout, stderr
}

var day = time.Date(2026, 11, 23, 12, 30, 0, 0, time.UTC)

func certificate(id, name string) client.Certificate {
	return client.Certificate{
		ID: id, Name: name, CommonName: name, Sans: []string{name, "alt." + name}, Status: client.CertificateStatus("Active"),
		IssuerID: "iss-local", OwnerID: "o-default", TeamID: "t-default", RenewalPolicyID: "rp-default",
		TargetIds: []string{"tgt-1"}, ExpiresAt: day,
	}
}

func equal(t *testing.T, want, got string) {
	t.Helper()
	if d := cmp.Diff(strings.TrimLeft(want, "\n"), got); d != "" {
		t.Error(d)
	}
}

func TestListCerts_PrintsATable(t *testing.T) {
	a := newAPI(t)
	pending := certificate("mc-2", "b.test")
	pending.ExpiresAt, pending.Status = time.Time{}, "Pending"
	a.on("GET /api/v1/certificates", 200, client.CertificateList{
		Data: []client.Certificate{certificate("mc-1", "a-long-name.example.test"), pending}, Total: 7, Page: new(1), PerPage: new(50),
	})
	out, errs := a.want(0, "list-certs", "--status", "Active", "--issuer-id=iss-local", "--limit", "9")
	equal(t, `
ID    COMMON NAME               STATUS   EXPIRES           ISSUER
mc-1  a-long-name.example.test  Active   2026-11-23 12:30  iss-local
mc-2  b.test                    Pending  -                 iss-local
`, out)
	equal(t, "2 of 7 shown\n", errs)
	equal(t, "GET /api/v1/certificates?per_page=9&status=Active&issuer_id=iss-local", a.last())
	a.want(0, "list-certs", "--q", `status == "Failed" && has(tags.tier)`)
	equal(t, "GET /api/v1/certificates?per_page=50&q=status+%3D%3D+%22Failed%22+%26%26+has%28tags.tier%29", a.last())
}

func TestGetCert_PrintsTheCertificateAndItsVersions(t *testing.T) {
	a := newAPI(t)
	algorithm, size := "ECDSA", 256
	c := certificate("mc-1", "a.test")
	serial := "ab01"
	c.SerialNumber = &serial
	a.on("GET /api/v1/certificates/mc-1", 200, c)
	a.on("GET /api/v1/certificates/mc-1/versions", 200, client.CertificateVersionList{Data: []client.CertificateVersion{
		{ID: "cv-1", SerialNumber: "ab01", NotBefore: day.Add(-time.Hour), NotAfter: day, KeyAlgorithm: &algorithm, KeySize: &size, IssuerID: new("iss-backup")},
	}, Total: 1})
	out, _ := a.want(0, "get-cert", "mc-1")
	equal(t, `
ID:             mc-1
Name:           a.test
Common name:    a.test
Names:          a.test, alt.a.test
Status:         Active
Reason:         -
Expires:        2026-11-23 12:30
Serial:         ab01
SHA-256:        -
Issuer:         iss-local
Targets:        tgt-1
Owner:          o-default
Team:           t-default
Renewal policy: rp-default

VERSION  SERIAL  FROM              TO                KEY        ISSUED BY
cv-1     ab01    2026-11-23 11:30  2026-11-23 12:30  ECDSA 256  iss-backup
`, out)
	var both struct {
		Certificate client.Certificate
		Versions    client.CertificateVersionList
	}
	out, _ = a.want(0, "get-cert", "mc-1", "--format", "json")
	if err := json.Unmarshal([]byte(out), &both); err != nil || both.Certificate.ID != "mc-1" || len(both.Versions.Data) != 1 {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestGetCert_PrintsWhatLintersSayAgainstTheNewestVersion(t *testing.T) {
	a := newAPI(t)
	detail := "a_b.test has\x1b[2J one"
	a.on("GET /api/v1/certificates/mc-1", 200, certificate("mc-1", "a_b.test"))
	a.on("GET /api/v1/certificates/mc-1/versions", 200, client.CertificateVersionList{Data: []client.CertificateVersion{
		{ID: "cv-2", SerialNumber: "ab02", NotBefore: day, NotAfter: day, LintFindings: &[]client.LintFinding{
			{Lint: "e_underscore", Level: client.LintFindingLevelError, Text: "No underscores", Detail: &detail, Source: "CABF_BR"},
			{Lint: "w_advice", Level: client.LintFindingLevelWarn, Text: "Advice", Source: "RFC5280"},
		}},
		{ID: "cv-1", SerialNumber: "ab01", NotBefore: day, NotAfter: day, LintFindings: &[]client.LintFinding{{Lint: "w_former"}}},
	}, Total: 2})
	out, _ := a.want(0, "get-cert", "mc-1")
	_, found, _ := strings.Cut(out, "\n\nLint findings about ")
	equal(t, `cv-2:
LEVEL  LINT          SAYS
error  e_underscore  a_b.test has?[2J one
warn   w_advice      Advice
`, found)
}

func TestCreateAndRenew_SendWhatIsAskedFor(t *testing.T) {
	a := newAPI(t)
	a.on("POST /api/v1/certificates", 201, certificate("mc-9", "a.test"))
	a.on("POST /api/v1/certificates/mc-9/renew", 202, client.RenewalTriggered{JobID: "job-i-1"})
	csr := filepath.Join(t.TempDir(), "csr.pem")
	if err := os.WriteFile(csr, []byte("a request"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, _ := a.want(0, "create-cert", "--san", "b.test", "a.test", "--san=10.0.0.1", "--target", "tgt-1", "--csr", csr, "--id", "mc-9", "--issuer-id", "iss-web",
		"--profile-id", "prof-1")
	equal(t, "mc-9 is Active; certctl-cli get-cert mc-9 shows how it goes on\n", out)
	var sent client.CertificateCreate
	request, body, _ := strings.Cut(a.last(), " {")
	if err := json.Unmarshal([]byte("{"+body), &sent); err != nil || request != "POST /api/v1/certificates" {
		t.Fatal(a.last(), err)
	}
	if sent.CommonName != "a.test" || *sent.ID != "mc-9" || *sent.IssuerID != "iss-web" || *sent.CertificateProfileID != "prof-1" || *sent.CsrPem != "a request" ||
		!cmp.Equal(*sent.Sans, []string{"b.test", "10.0.0.1"}) || !cmp.Equal(*sent.TargetIds, []string{"tgt-1"}) {
		t.Errorf("sent was %s", a.last())
	}
	file := filepath.Join(t.TempDir(), "new.csr")
	if err := os.WriteFile(file, []byte("a request"), 0o600); err != nil {
		t.Fatal(err)
	}
	a.want(1, "renew-cert", "mc-9", "--csr", file+".not")
	a.want(0, "renew-cert", "mc-9", "--csr", file)
	equal(t, `POST /api/v1/certificates/mc-9/renew {"csr_pem":"a request"}`, a.last())
	out, _ = a.want(0, "renew-cert", "mc-9")
	equal(t, "renewal of mc-9 is under way: job job-i-1\n", out)
	_, errs := a.want(1, "create-cert", "a.test", "--csr", "no/such/file")
	if !strings.Contains(errs, "no/such/file") {
		t.Errorf("it says %q", errs)
	}
}

func TestCreateCert_WithAnEmptyRequestAsksForNoKeyOfAnotherMaker(t *testing.T) {
	a := newAPI(t)
	_, errs := a.want(1, "create-cert", "a.test", "--csr", a.file("empty.csr", ""))
	if !strings.Contains(errs, "is empty") || len(a.asked) != 0 {
		t.Errorf("it says %q and asked for %v", errs, a.asked)
	}
}

func TestListAgentsAndJobs_PrintTables(t *testing.T) {
	a := newAPI(t)
	a.on("GET /api/v1/agents", 200, client.AgentList{Data: []client.Agent{
		{ID: "agent-1", Hostname: "web1", Status: "Online", Os: "linux", Architecture: "amd64", IPAddress: "10.0.0.7", Version: "1.0", SiteID: "site-1", LastHeartbeatAt: &day},
		{ID: "agent-2", Hostname: "web2", Status: "Offline"},
	}, Total: 2})
	out, errs := a.want(0, "list-agents", "--status=Online")
	equal(t, `
ID       HOST  STATUS   PLATFORM     ADDRESS   VERSION  SITE    LAST SEEN
agent-1  web1  Online   linux/amd64  10.0.0.7  1.0      site-1  2026-11-23 12:30
agent-2  web2  Offline  -            -         -        -       -
`, out)
	equal(t, "", errs)
	reason := "nginx -t failed"
	a.on("GET /api/v1/jobs", 200, client.JobList{Data: []client.Job{
		{ID: "job-d-1", Type: "Deployment", CertificateID: "mc-1", Status: "Failed", Attempts: 3, MaxAttempts: 3, CreatedAt: day, LastError: &reason},
	}, Total: 1})
	out, _ = a.want(0, "list-jobs", "--cert", "mc-1", "--type", "Deployment")
	equal(t, `
ID       TYPE        CERTIFICATE  STATUS  TRIES  CREATED           LAST ERROR
job-d-1  Deployment  mc-1         Failed  3/3    2026-11-23 12:30  nginx -t failed
`, out)
	equal(t, "GET /api/v1/jobs?per_page=50&type=Deployment&certificate_id=mc-1", a.last())
}

func TestHealth_NeedsNoKeyAndNamesWhatIsAway(t *testing.T) {
	a := newAPI(t)
	delete(a.env, "CERTCTL_API_KEY")
	a.on("GET /ready", 200, client.Readiness{Status: "ready", Checks: &map[string]string{"issuer": "", "bus": ""}})
	out, _ := a.want(0, "health")
	equal(t, a.server.URL+" is ready\nPART    STATE\nbus     ok\nissuer  ok\n", out)
	a.on("GET /ready", 503, client.Readiness{Status: "not_ready", Checks: &map[string]string{"issuer": "no replica is running", "bus": ""}})
	out, errs := a.want(1, "health")
	if !strings.Contains(out, "issuer  no replica is running") || !strings.Contains(errs, "is not ready") {
		t.Errorf("%s%s", out, errs)
	}
	out, _ = a.want(1, "health", "--format=json")
	if !json.Valid([]byte(out)) {
		t.Errorf("no JSON: %s", out)
	}
	a.on("GET /ready", 502, "bad gateway")
	a.want(1, "health")
}

func TestFlags_MayStandBeforeBetweenAndBehind(t *testing.T) {
	a := newAPI(t)
	c := certificate("mc-1", "a.test")
	a.on("GET /api/v1/certificates/mc-1", 200, c)
	a.on("GET /api/v1/certificates/mc-1/versions", 200, client.CertificateVersionList{Data: []client.CertificateVersion{}})
	for _, args := range [][]string{
		{"--format", "json", "get-cert", "mc-1"},
		{"-format=json", "get-cert", "mc-1"},
		{"get-cert", "--format=json", "mc-1"},
		{"get-cert", "mc-1", "--format", "json"},
		{"--format=table", "get-cert", "mc-1", "--format=json"},
		{"--format=json", "get-cert", "--", "mc-1"},
		{"--server", a.server.URL, "--api-key", secretKey, "get-cert", "--format=json", "mc-1"},
		{"get-cert", "mc-1", "--format=json", "--server", a.server.URL},
	} {
		if out, _ := a.want(0, args...); !json.Valid([]byte(out)) {
			t.Errorf("%q prints no JSON:\n%s", args, out)
		}
	}
	// Flags win over the environment.
	a.env["CERTCTL_SERVER_URL"], a.env["CERTCTL_API_KEY"] = "http://127.0.0.1:1", "cck_other"
	a.want(0, "--server", a.server.URL, "get-cert", "mc-1", "--api-key", secretKey)
	a.want(1, "get-cert", "mc-1")
}

func TestArguments_AreSentAsOnePathSegment(t *testing.T) {
	a := newAPI(t)
	for id, want := range map[string]string{
		"../agents": "GET /api/v1/certificates/..%2Fagents", "a?b#c": "GET /api/v1/certificates/a%3Fb%23c", "-x": "GET /api/v1/certificates/-x",
	} {
		a.want(1, "get-cert", "--", id)
		equal(t, want, a.last())
	}
}

func TestUsage_WrongCommandLinesEndWithTwoAndSayWhy(t *testing.T) {
	a := newAPI(t)
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "Usage:"},
		{[]string{"explode"}, `no command "explode"`},
		{[]string{"help", "explode"}, `no command "explode"`},
		{[]string{"get-cert"}, "certctl-cli get-cert ID"},
		{[]string{"get-cert", "a", "b"}, "certctl-cli get-cert ID"},
		{[]string{"list-certs", "extra"}, "certctl-cli list-certs"},
		{[]string{"list-certs", "--limit", "many"}, "-limit"},
		{[]string{"list-certs", "--format", "xml"}, "must be table or json"},
		{[]string{"--colour", "list-certs"}, "-colour"},
		{[]string{"list-certs", "--server", "127.0.0.1:8080"}, "URL"},
		{[]string{"health", "--server", "ftp://x"}, "URL"},
	} {
		out, errs := a.want(2, c.args...)
		if out != "" || !strings.Contains(errs, c.want) {
			t.Errorf("%q prints %q and %q", c.args, out, errs)
		}
	}
	if a.last() != "" {
		t.Errorf("the server was asked for %s", a.last())
	}
}

func TestHelp_IsOutputAndNamesEveryCommand(t *testing.T) {
	a := newAPI(t)
	for _, args := range [][]string{{"help"}, {"--help"}, {"-h"}} {
		out, errs := a.want(0, args...)
		for _, c := range commands() {
			if !strings.Contains(out, "  "+c.name+" ") {
				t.Errorf("%q does not name %s", args, c.name)
			}
		}
		equal(t, "", errs)
	}
	for _, c := range commands() {
		for _, args := range [][]string{{"help", c.name}, {c.name, "--help"}, {c.name, "x", "-h"}} {
			out, errs := a.want(0, args...)
			if !strings.Contains(out, "certctl-cli "+c.name) || !strings.Contains(out, "-format") || errs != "" {
				t.Errorf("%q prints\n%s%s", args, out, errs)
			}
		}
	}
	if out, _ := a.want(0, "version"); !strings.HasPrefix(out, "certctl-cli ") {
		t.Errorf("the version is %q", out)
	}
}
