package chain

import (
	"bytes"
	"crypto/ed25519"
	"strings"
	"testing"
	"time"
)

func key(seed byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
}

func signed(t *testing.T, by ed25519.PrivateKey) (Checkpoint, PublicKey) {
	t.Helper()
	events := sample(3)
	c, err := Sign(by, Head{}.Append(events), time.Date(2026, 11, 23, 12, 1, 0, 1999, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	public, err := PublicKeyOf(by)
	if err != nil {
		t.Fatal(err)
	}
	return c, public
}

// TestCheckpoint_SignsWhatTheDocumentationSays pins the text that is signed, on which
// outsiders rely.
func TestCheckpoint_SignsWhatTheDocumentationSays(t *testing.T) {
	c, public := signed(t, key(1))
	want := "certctl audit checkpoint v1\n3\n" + c.Hash.String() + "\n2026-11-23T12:01:00.000001Z\n" + public.ID().String() + "\n"
	if got := string(c.statement()); got != want {
		t.Errorf("signed is %q, want %q", got, want)
	}
	if !ed25519.Verify(key(1).Public().(ed25519.PublicKey), []byte(want), c.Signature) {
		t.Error("the signature is not of this text")
	}
}

func TestCheckpoint_IsRefusedIfAnythingOfItWasAltered(t *testing.T) {
	c, public := signed(t, key(1))
	if err := public.Verify(&c); err != nil {
		t.Fatal(err)
	}
	for name, alter := range map[string]func(*Checkpoint){
		"sequence":  func(c *Checkpoint) { c.Sequence++ },
		"hash":      func(c *Checkpoint) { c.Hash[0]++ },
		"time":      func(c *Checkpoint) { c.SignedAt = c.SignedAt.Add(time.Microsecond) },
		"key":       func(c *Checkpoint) { c.KeyID[0]++ },
		"signature": func(c *Checkpoint) { c.Signature = bytes.Repeat([]byte{7}, ed25519.SignatureSize) },
		"nothing":   func(c *Checkpoint) { c.Signature = nil },
		"another's": func(c *Checkpoint) { *c, _ = signed(t, key(2)) },
	} {
		altered := c
		alter(&altered)
		if public.Verify(&altered) == nil {
			t.Errorf("%s: it went unnoticed", name)
		}
	}
}

func TestPublicKey_IsReadFromItsFileAndFromNoOther(t *testing.T) {
	_, public := signed(t, key(1))
	read, err := ReadPublicKey(public.PEM())
	if err != nil || !bytes.Equal(read, public) {
		t.Errorf("read %x, %v", read, err)
	}
	for _, bad := range []string{
		"", "key", strings.ReplaceAll(string(public.PEM()), "PUBLIC", "PRIVATE"),
		"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
	} {
		if _, err := ReadPublicKey([]byte(bad)); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}
