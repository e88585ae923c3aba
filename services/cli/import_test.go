package cli

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certctl/certctl/contracts/httpapi/client"
)

const importPath = "POST /api/v1/certificates/import"

func item(status, name, id, reason string) client.CertificateImportItem {
	i := client.CertificateImportItem{
		Status: client.CertificateImportItemStatus(status), Subject: "CN=" + name, NotAfter: day, Sans: []string{}, Key: "none",
	}
	i.CommonName, i.CertificateID, i.Reason = optional[string](name), optional[string](id), optional[string](reason)
	return i
}

func (a *api) file(name, content string) string {
	a.t.Helper()
	path := filepath.Join(a.t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return path
}

// asking runs a command line at a terminal where somebody types.
func (a *api) asking(typed []string, args ...string) (code int, stdout, stderr string) {
	a.t.Helper()
	var out, errs bytes.Buffer
	code = Run(a.t.Context(), args, Streams{Out: &out, Err: &errs, Ask: func(prompt string) (string, error) {
		errs.WriteString(prompt)
		if len(typed) == 0 {
			return "", errors.New("nobody is there")
		}
		answer := typed[0]
		typed = typed[1:]
		return answer, nil
	}}, func(name string) string { return a.env[name] })
	return code, out.String(), errs.String()
}

func (a *api) sent() (b client.CertificateImport) {
	a.t.Helper()
	_, body, _ := strings.Cut(a.last(), " {")
	if err := json.Unmarshal([]byte("{"+body), &b); err != nil {
		a.t.Fatal(a.last(), err)
	}
	return b
}

func TestImport_PrintsWhatBecameOfEachAndEndsWithOneIfSomethingDidNotGo(t *testing.T) {
	a := newAPI(t)
	good, gone := a.file("good.pem", "a bundle"), filepath.Join(t.TempDir(), "gone.pem")
	a.on(importPath, 200, client.CertificateImportResult{
		Format: "pem", Imported: 1, Existing: 1, Data: []client.CertificateImportItem{item("imported", "a.test", "mc-1", ""), item("existing", "b.test", "mc-2", "is managed already as mc-2")},
		Notice: optional[string]("1 private keys were not read"),
	})
	out, errs := a.want(0, "import", "--environment", "production", "--tag", "tier=gold", good, "--owner=o-1")
	equal(t, strings.ReplaceAll(`
FILE    STATUS    NAME    EXPIRES           KEY   CERTIFICATE  REASON
FILE##  imported  a.test  2026-11-23 12:30  none  mc-1         -
FILE##  existing  b.test  2026-11-23 12:30  none  mc-2         is managed already as mc-2
`, "FILE##", good), widened(out, good))
	equal(t, good+": 1 private keys were not read\n", errs)
	b := a.sent()
	if content, err := base64.StdEncoding.DecodeString(b.File); err != nil || string(content) != "a bundle" || *b.Environment != "production" || *b.OwnerID != "o-1" ||
		(*b.Tags)["tier"] != "gold" || *b.Format != "auto" || *b.DryRun || *b.KeepKey || b.Password != nil {
		t.Errorf("sent %s", a.last())
	}
	out, errs = a.want(1, "import", gone, good)
	if !strings.Contains(out, "failed") || !strings.Contains(out, "imported") || !strings.Contains(errs, "1 of 3 were not imported") {
		t.Errorf("%s%s", out, errs)
	}
	a.on(importPath, 200, client.CertificateImportResult{Format: "pem", Refused: 1, Data: []client.CertificateImportItem{item("refused", "", "", "is a CA certificate")}})
	out, errs = a.want(1, "import", good, "--dry-run")
	if !strings.Contains(errs, "1 of 1 cannot be imported so") {
		t.Errorf("it says %q", errs)
	}
	if !strings.Contains(out, "CN=") || !strings.Contains(out, "is a CA certificate") || !*a.sent().DryRun {
		t.Errorf("%s", out)
	}
	out, _ = a.want(1, "import", good, "--format", "json")
	var all []fileImport
	if err := json.Unmarshal([]byte(out), &all); err != nil || len(all) != 1 || all[0].File != good || all[0].Result == nil {
		t.Errorf("%v\n%s", err, out)
	}
	a.want(1, "import", a.file("empty.pem", ""), a.file("large.pem", strings.Repeat("x", maxFile+1)))
	a.want(2, "import")
	a.want(2, "import", good, "--tag", "no-value")
}

// widened narrows the head of a table whose first column has a path, so that the test need not know how long that is.
func widened(out, path string) string {
	head, rest, _ := strings.Cut(out, "\n")
	head = strings.Replace(head, "FILE"+strings.Repeat(" ", len(path)-len("FILE")), "FILE  ", 1)
	return head + "\n" + rest
}

func TestImport_AsksForAPasswordOnlyIfTheServerNeedsOne(t *testing.T) {
	a := newAPI(t)
	store := a.file("store.p12", "a store")
	needs := problem("invalid", "password: is needed to open the file")
	needs["errors"] = []any{map[string]any{"field": "password", "reason": "is needed to open the file"}}
	a.on(importPath, 400, needs)
	code, _, errs := a.asking([]string{"open sesame"}, "import", store)
	if code != 1 || !strings.Contains(errs, "Password of "+store) || *a.sent().Password != "open sesame" || strings.Contains(errs, "sesame") {
		t.Errorf("%d %s, sent %s", code, errs, a.last())
	}
	// Nobody to ask, and a password that was given.
	out, _ := a.want(1, "import", store)
	if !strings.Contains(out, "--password-file") {
		t.Errorf("%s", out)
	}
	code, _, errs = a.asking(nil, "import", store, "--password-file", a.file("password", "from a file\nand more"))
	if code != 1 || strings.Contains(errs, "Password of") || *a.sent().Password != "from a file" {
		t.Errorf("%d %s, sent %s", code, errs, a.last())
	}
	a.want(1, "import", store, "--password-file", a.file("empty", "\n"))
}

func TestExport_WritesAFileForItsOwnerAlone(t *testing.T) {
	a := newAPI(t)
	path := filepath.Join(t.TempDir(), "www.p12")
	a.on("GET /api/v1/certificates/mc-1/export", 200, "a chain")
	out, _ := a.want(0, "export-cert", "mc-1")
	equal(t, "a chain", out)
	equal(t, "GET /api/v1/certificates/mc-1/export?format=pem", a.last())
	a.want(2, "export-cert", "mc-1", "--as", "der")
	a.want(0, "export-cert", "mc-1", "--as=jks", "--version-id", "cv-1", "--out", path)
	equal(t, "GET /api/v1/certificates/mc-1/export?format=jks&version_id=cv-1", a.last())
	holdsSecretly(t, path, "a chain")
	// What is there is left alone, and by force replaced, whatever its mode was.
	_, errs := a.want(1, "export-cert", "mc-1", "--out", path)
	if !strings.Contains(errs, "--force") {
		t.Errorf("it says %q", errs)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	a.on("POST /api/v1/certificates/mc-1/export", 200, "a chain and a key")
	a.want(0, "export-cert", "mc-1", "--with-key", "--as", "pkcs12", "--out", path, "--force", "--legacy", "--password-file", a.file("password", "correct horse battery"))
	equal(t, `POST /api/v1/certificates/mc-1/export {"encryption":"legacy","format":"pkcs12","password":"correct horse battery"}`, a.last())
	holdsSecretly(t, path, "a chain and a key")

	code, _, errs := a.asking([]string{"correct horse battery", "another"}, "export-cert", "mc-1", "--with-key")
	if code != 1 || !strings.Contains(errs, "differ") {
		t.Errorf("%d %s", code, errs)
	}
	code, out, _ = a.asking([]string{"staple the battery", "staple the battery"}, "export-cert", "mc-1", "--with-key")
	if code != 0 || out != "a chain and a key" || !strings.Contains(a.last(), "staple the battery") {
		t.Errorf("%d %s", code, out)
	}
	a.on("POST /api/v1/certificates/mc-1/export", 409, problem("conflict", "the key never leaves its host"))
	_, errs = a.want(1, "export-cert", "mc-1", "--with-key", "--out", path+"2", "--password-file", a.file("password", "correct horse battery"))
	if !strings.Contains(errs, "never leaves its host") {
		t.Errorf("it says %q", errs)
	}
	if _, err := os.Stat(path + "2"); err == nil {
		t.Error("a file was made for nothing")
	}
	a.want(2, "export-cert", "mc-1", "--legacy")
	a.want(2, "export-cert", "mc-1", "--with-key", "--legacy", "--as", "jks", "--out", path)
}

func TestExport_AsksForNoKeyThatItCouldNotWrite(t *testing.T) {
	a := newAPI(t)
	password := a.file("password", "correct horse battery")
	for _, path := range []string{password, filepath.Join(t.TempDir(), "no", "such", "folder")} {
		a.want(1, "export-cert", "mc-1", "--with-key", "--as", "pkcs12", "--out", path, "--password-file", password)
	}
	if len(a.asked) != 0 {
		t.Errorf("the server was asked for %s", a.last())
	}
}

func holdsSecretly(t *testing.T, path, content string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || string(got) != content {
		t.Errorf("%s holds %q, %v", path, got, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
}

func TestFetchKey_AsksForTheKeyOnlyWhenItCanBeWritten(t *testing.T) {
	a := newAPI(t)
	path := filepath.Join(t.TempDir(), "www.key")
	a.on("POST /api/v1/certificates/mc-1/key", 200, client.CertificateKey{CertificateID: "mc-1", VersionID: "cv-1", PrivateKeyPem: "a key", Warning: "beware"})
	out, errs := a.want(0, "fetch-key", "mc-1", "--out", path)
	if out != "" || !strings.Contains(errs, "beware") || strings.Contains(errs, "a key\n") {
		t.Errorf("%s%s", out, errs)
	}
	holdsSecretly(t, path, "a key")
	before := len(a.asked)
	if _, errs := a.want(1, "fetch-key", "mc-1", "--out", path); !strings.Contains(errs, "is there already, and the key was not asked for") {
		t.Errorf("it says %q", errs)
	}
	a.want(1, "fetch-key", "mc-1", "--out", filepath.Join(t.TempDir(), "no", "such", "folder"))
	a.want(2, "fetch-key", "mc-1")
	if len(a.asked) != before {
		t.Errorf("the server was asked for %s", a.last())
	}
	a.on("POST /api/v1/certificates/mc-1/key", 409, problem("conflict", "delivered"))
	a.want(1, "fetch-key", "mc-1", "--out", path+"2")
	if _, err := os.Stat(path + "2"); err == nil {
		t.Error("an empty file was left")
	}
}
