package cli

import (
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certctl/certctl/contracts/httpapi/client"
)

func blocked(id, comment string) client.BlockedKey {
	return client.BlockedKey{ID: id, Reason: "keyCompromise", Comment: comment, BlockedBy: "key-1", CreatedAt: day}
}

func TestListBlockedKeys_PrintsATable(t *testing.T) {
	a := newAPI(t)
	a.on("GET /api/v1/blocked-keys", 200, client.BlockedKeyList{Data: []client.BlockedKey{blocked("abcd", "on a stick")}, Total: 2})
	out, errs := a.want(0, "list-blocked-keys", "--limit=1")
	equal(t, `
KEY (SHA-256)  REASON         BY     SINCE             COMMENT
abcd           keyCompromise  key-1  2026-11-23 12:30  on a stick
`, out)
	equal(t, "1 of 2 shown\n", errs)
	if out, _ := a.want(0, "list-blocked-keys", "--format=json"); !json.Valid([]byte(out)) {
		t.Errorf("no JSON: %s", out)
	}
}

func TestBlockKey_NamesTheKeyByWhatItIsGiven(t *testing.T) {
	a := newAPI(t)
	hash := strings.Repeat("ab", 32)
	a.on("POST /api/v1/blocked-keys", 201, blocked(hash, ""))
	file := func(kind string) (path, text string) {
		path = filepath.Join(t.TempDir(), "file.pem")
		text = string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: []byte("x")}))
		if err := os.WriteFile(path, []byte("# of Ada's\n"+text+"more"), 0o600); err != nil {
			t.Fatal(err)
		}
		return path, text
	}
	sent := func() (body client.BlockedKeyCreate) {
		_, text, _ := strings.Cut(a.last(), " {")
		if err := json.Unmarshal([]byte("{"+text), &body); err != nil {
			t.Fatal(a.last(), err)
		}
		return body
	}
	out, _ := a.want(0, "block-key", hash, "--reason=keyCompromise", "--comment", "on a stick")
	equal(t, hash+" is blocked\n", out)
	if b := sent(); text(b.SpkiSha256) != hash || text(b.Comment) != "on a stick" || b.Reason != "keyCompromise" {
		t.Errorf("sent %+v", b)
	}
	for kind, field := range map[string]func(client.BlockedKeyCreate) *string{
		"CERTIFICATE":             func(b client.BlockedKeyCreate) *string { return b.CertificatePem },
		"NEW CERTIFICATE REQUEST": func(b client.BlockedKeyCreate) *string { return b.CsrPem },
		"PUBLIC KEY":              func(b client.BlockedKeyCreate) *string { return b.PublicKeyPem },
	} {
		path, content := file(kind)
		a.want(0, "block-key", path, "--reason=weak")
		if got := field(sent()); text(got) != content {
			t.Errorf("%s: sent %s", kind, a.last())
		}
	}
}

func TestBlockKey_SendsNoPrivateKey(t *testing.T) {
	a := newAPI(t)
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: []byte("x")}), 0o600); err != nil {
		t.Fatal(err)
	}
	_, errs := a.want(1, "block-key", path, "--reason=keyCompromise")
	if !strings.Contains(errs, "sent nowhere") || len(a.asked) != 0 {
		t.Errorf("it says %q, and asked %v", errs, a.asked)
	}
	a.want(1, "block-key", filepath.Join(t.TempDir(), "none"), "--reason=weak")
	a.want(2, "block-key", strings.Repeat("ab", 32))
}

func TestUnblockKey_SaysWhatHasBecomeOfIt(t *testing.T) {
	a := newAPI(t)
	a.on("DELETE /api/v1/blocked-keys/abcd", 204, "")
	out, _ := a.want(0, "unblock-key", "abcd")
	equal(t, "abcd is not blocked any more\n", out)
	if out, _ := a.want(0, "unblock-key", "abcd", "--format=json"); !json.Valid([]byte(out)) {
		t.Errorf("no JSON: %s", out)
	}
}
