package cli

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/certctl/certctl/contracts/httpapi/client"
)

func TestRefusals_AreShownWithTheRequestAndEndWithOne(t *testing.T) {
	a := newAPI(t)
	for _, c := range []struct {
		status int
		body   any
		want   string
	}{
		{404, problem("not_found", "there is no certificate mc-1"), "certctl-cli: there is no certificate mc-1 (HTTP 404, request req-7)\n"},
		{401, problem("unauthenticated", "the API key is unknown"), "certctl-cli: the API key is unknown (HTTP 401, request req-7)\n"},
		{502, "<html>", "certctl-cli: the server refuses without a reason (HTTP 502, request req-7)\n"},
		{500, "", "certctl-cli: the server refuses without a reason (HTTP 500, request req-7)\n"},
	} {
		a.on("GET /api/v1/certificates/mc-1", c.status, c.body)
		for _, args := range [][]string{{"get-cert", "mc-1"}, {"get-cert", "mc-1", "--format=json"}} {
			out, errs := a.want(1, args...)
			equal(t, "", out)
			equal(t, c.want, errs)
		}
	}
	for _, body := range []string{"", "{", "[]", `{"id":7}`} {
		a.on("GET /api/v1/certificates/mc-1", 200, body)
		if _, errs := a.want(1, "get-cert", "mc-1"); !strings.Contains(errs, "not what this version") {
			t.Errorf("%q: it says %q", body, errs)
		}
	}
}

func TestServer_ThatIsNotThereIsAnErrorWithoutTheKey(t *testing.T) {
	a := newAPI(t)
	a.server.Close()
	for _, args := range [][]string{{"list-certs"}, {"health"}, {"renew-cert", "mc-1"}, {"list-jobs", "--api-key", secretKey}} {
		if _, errs := a.want(1, args...); !strings.Contains(errs, "the server was not reached") {
			t.Errorf("%q: it says %q", args, errs)
		}
	}
}

func TestKey_IsNotGivenToWhomTheServerPointsTo(t *testing.T) {
	a := newAPI(t)
	asked := false
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	defer other.Close()
	pointing := httptest.NewServer(http.RedirectHandler(other.URL+"/x", http.StatusTemporaryRedirect))
	defer pointing.Close()
	_, errs := a.want(1, "list-certs", "--server", pointing.URL)
	if asked || !strings.Contains(errs, "points elsewhere") {
		t.Errorf("asked: %v; it says %q", asked, errs)
	}
}

func TestKey_ComesFromTheFlagTheEnvironmentOrAFile(t *testing.T) {
	a := newAPI(t)
	a.on("GET /api/v1/agents", 200, client.AgentList{Data: []client.Agent{}})
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(secretKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a.env["CERTCTL_API_KEY"] = secretKey + "\n"
	a.want(0, "list-agents")
	delete(a.env, "CERTCTL_API_KEY")
	a.env["CERTCTL_API_KEY_FILE"] = file
	a.want(0, "list-agents")
	a.want(0, "list-agents", "--help")
	a.env["CERTCTL_API_KEY_FILE"] = filepath.Join(t.TempDir(), "absent")
	if _, errs := a.want(1, "list-agents"); !strings.Contains(errs, "absent") {
		t.Errorf("it says %q", errs)
	}
	delete(a.env, "CERTCTL_API_KEY_FILE")
	if _, errs := a.want(1, "list-agents"); !strings.Contains(errs, "CERTCTL_API_KEY") {
		t.Errorf("it says %q", errs)
	}
	a.env["CERTCTL_API_KEY"] = "cck_with\nanother: header"
	a.want(1, "list-agents")
}

// hostile is a name that would clear the screen, change its title, or be read backwards.
const hostile = "a\x1b[2J\u009b31m\u202etset\x07\x7f\u200b\U000e0041.b"

func TestNames_CannotMoveTheCursor(t *testing.T) {
	a := newAPI(t)
	c := certificate("mc-1", hostile)
	c.ID = "mc-" + hostile
	a.on("GET /api/v1/certificates", 200, client.CertificateList{Data: []client.Certificate{c}, Total: 1})
	a.on("GET /api/v1/certificates/mc-1", 200, c)
	a.on("GET /api/v1/certificates/mc-1/versions", 200, client.CertificateVersionList{Data: []client.CertificateVersion{{ID: hostile}}})
	a.on("POST /api/v1/certificates", 201, c)
	a.on("POST /api/v1/certificates/mc-1/renew", 202, client.RenewalTriggered{JobID: hostile})
	a.on("GET /api/v1/jobs", 400, problem("invalid", "no such "+hostile))
	a.on("GET /ready", 200, client.Readiness{Status: hostile, Checks: &map[string]string{hostile: hostile}})
	for _, args := range [][]string{
		{"list-certs"},
		{"get-cert", "mc-1"},
		{"create-cert", "x"},
		{"renew-cert", "mc-1"},
		{"list-jobs"},
		{"health"},
		{"list-certs", "--format=json"},
		{"get-cert", "mc-1", "--format=json"},
	} {
		_, out, errs := a.cli(args...)
		if out+errs == "" {
			t.Errorf("%q prints nothing", args)
		}
		for _, r := range out + errs {
			if r != '\n' && !unicode.IsPrint(r) {
				t.Errorf("%q prints %U:\n%q", args, r, out+errs)
				break
			}
		}
	}
	// Programs get the name as it is.
	out, _ := a.want(0, "list-certs", "--format=json")
	var list client.CertificateList
	if err := json.Unmarshal([]byte(out), &list); err != nil || list.Data[0].CommonName != hostile {
		t.Errorf("%v: %+v", err, list.Data)
	}
}

func FuzzEscaped_IsTheSameJSON(f *testing.F) {
	f.Add(hostile)
	f.Add("\xff\u2028\\u0000\"")
	f.Fuzz(func(t *testing.T, text string) {
		var in bytes.Buffer
		enc := json.NewEncoder(&in)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(map[string]string{text: text}); err != nil {
			t.Fatal(err)
		}
		var want, got map[string]string
		if err := json.Unmarshal(in.Bytes(), &want); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(escaped(in.String())), &got); err != nil {
			t.Fatalf("%q became %q: %v", in.String(), escaped(in.String()), err)
		}
		for k, v := range want {
			if got[k] != v {
				t.Errorf("%q became %q", want, got)
			}
		}
	})
}
