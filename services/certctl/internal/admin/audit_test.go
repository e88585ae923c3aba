package admin

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// outsider makes exports with nothing but what docs/operations/audit.md says.
type outsider struct {
	*testing.T
	dir string
	key ed25519.PrivateKey
}

type line map[string]any

var hashed = []string{"sequence", "id", "actor", "actor_type", "action", "resource_type", "resource_id", "details_text", "timestamp"}

func (o outsider) chain(n int) []line {
	previous := make([]byte, 32)
	lines := make([]line, n)
	for i := range lines {
		l := line{
			"sequence": i + 1, "id": fmt.Sprintf("ae-%d", i+1), "actor": "key-1", "actor_type": "User", "action": "api_get", "resource_type": "api",
			"resource_id": "/", "details_text": `{"status":200}`, "timestamp": "2026-11-23T12:00:00.000000Z", "previous_hash": hex.EncodeToString(previous),
		}
		fields := [][]byte{previous}
		for _, f := range hashed {
			fields = append(fields, fmt.Append(nil, l[f]))
		}
		h := sha256.New()
		for _, f := range fields {
			h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(f))))
			h.Write(f)
		}
		previous = h.Sum(nil)
		l["hash"] = hex.EncodeToString(previous)
		lines[i] = l
	}
	return lines
}

func (o outsider) public() []byte {
	der, err := x509.MarshalPKIXPublicKey(o.key.Public())
	if err != nil {
		o.Fatal(err)
	}
	return der
}

func (o outsider) checkpoint(of line) line {
	id := sha256.Sum256(o.public())
	at := "2026-11-23T12:01:00.000000Z"
	text := fmt.Sprintf("certctl audit checkpoint v1\n%v\n%v\n%s\n%x\n", of["sequence"], of["hash"], at, id)
	return line{
		"sequence": of["sequence"], "hash": of["hash"], "signed_at": at, "key_id": hex.EncodeToString(id[:]),
		"signature": base64.StdEncoding.EncodeToString(ed25519.Sign(o.key, []byte(text))),
	}
}

func (o outsider) file(name string, content []byte) string {
	path := filepath.Join(o.dir, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		o.Fatal(err)
	}
	return path
}

func (o outsider) export(checkpoints, data []line) string {
	text, err := json.Marshal(map[string]any{"checkpoints": checkpoints, "data": data})
	if err != nil {
		o.Fatal(err)
	}
	folder, err := os.MkdirTemp(o.dir, "of one")
	if err != nil {
		o.Fatal(err)
	}
	return o.file(filepath.Join(filepath.Base(folder), "an export.json"), text)
}

func newOutsider(t *testing.T) outsider {
	t.Setenv("CERTCTL_DATA_DIR", filepath.Join(t.TempDir(), "none"))
	return outsider{t, t.TempDir(), ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32))}
}

func (o outsider) run(args ...string) (said string, err error) {
	var out bytes.Buffer
	err = Run(o.Context(), append([]string{"audit", "verify"}, args...), &out, slog.New(slog.DiscardHandler))
	return out.String(), err
}

func TestAuditVerify_ReadsAnExportWithoutAnInstallation(t *testing.T) {
	o := newOutsider(t)
	rows := o.chain(6)
	file := o.export([]line{o.checkpoint(rows[3])}, rows)
	key := o.file("key.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: o.public()}))
	said, err := o.run("--export", file, "--key", key)
	for _, want := range []string{
		"intact: 6 events, the last with the hash " + rows[5]["hash"].(string), "1 checkpoints", "signatures against the key", "event 4", "the last 2 places",
	} {
		if err != nil || !strings.Contains(said, want) {
			t.Errorf("%q is missing in %q, %v", want, said, err)
		}
	}
	if said, err = o.run("--export", file); err != nil || !strings.Contains(said, "signatures were not verified") {
		t.Errorf("%q, %v", said, err)
	}
	if said, err = o.run("--export", o.export([]line{}, rows)); err != nil || !strings.Contains(said, "No checkpoint vouches") {
		t.Errorf("%q, %v", said, err)
	}
	some := []line{rows[1], rows[4]}
	if said, err = o.run("--export", o.export([]line{o.checkpoint(rows[3])}, some), "--key", key, "--partial"); err != nil ||
		!strings.Contains(said, "Each of 2 events, from 2 to 5") {
		t.Errorf("%q, %v", said, err)
	}
}

func TestAuditVerify_RefusesOptionsThatItDoesNotKnow(t *testing.T) {
	o := newOutsider(t)
	for _, args := range [][]string{{"--exprot", "x"}, {"x"}, {"--partial"}, {"--export"}} {
		if said, err := o.run(args...); err == nil {
			t.Errorf("%v: %s", args, said)
		}
	}
}

func TestAuditVerify_FailsAndNamesWhatWasDone(t *testing.T) {
	o := newOutsider(t)
	rows := o.chain(6)
	key := o.file("key.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: o.public()}))
	signed := []line{o.checkpoint(rows[3])}
	list, err := json.Marshal(line{"data": signed})
	if err != nil {
		t.Fatal(err)
	}
	kept := o.file("kept.json", list)
	changed := o.chain(6)
	changed[1]["actor"] = "key-2"
	forged := o.checkpoint(rows[3])
	forged["sequence"] = 3
	stranger := outsider{t, o.dir, ed25519.NewKeyFromSeed(make([]byte, 32))}
	for name, c := range map[string]struct {
		export string
		args   []string
		want   string
	}{
		"changed":           {o.export(signed, changed), nil, "event 2 (ae-2) does not match its hash: it or its place was altered; this contradicts checkpoint 4"},
		"removed":           {o.export(signed, append(rows[:2:2], rows[3:]...)), nil, "event 3 is missing; this contradicts checkpoint 4"},
		"cut off":           {o.export(signed, rows[:3]), nil, "ends with event 3: event 4 is missing; this contradicts checkpoint 4"},
		"cut off, and kept": {o.export([]line{}, rows[:3]), []string{"--checkpoints", kept}, "event 4 is missing"},
		"filtered":          {o.export(signed, rows[2:]), nil, "events 1 to 2 are missing"},
		"forged":            {o.export([]line{forged}, rows), []string{"--key", key}, "checkpoint 3 bears a signature that its key has not made"},
		"by another key":    {o.export([]line{stranger.checkpoint(rows[3])}, rows), []string{"--key", key}, "checkpoint 4 is signed with the key"},
		"empty":             {o.export([]line{}, []line{}), nil, "no events"},
		"no export":         {kept + "x", nil, "no such file"},
		"a folder":          {o.dir, nil, "directory"},
		"no key":            {o.export(signed, rows), []string{"--key", kept}, "no public key"},
	} {
		if said, err := o.run(append([]string{"--export", c.export}, c.args...)...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %q, %v", name, said, err)
		}
	}
}
