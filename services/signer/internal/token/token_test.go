package token_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/certctl/certctl/contracts/signer"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/testkit/softhsm"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/signer/internal/token"
)

// The library keeps its state by process, so these tests run one after the other.
func open(t *testing.T, k *softhsm.Token, change ...func(*token.Config)) *token.Token {
	t.Helper()
	t.Setenv("SOFTHSM2_CONF", k.Conf)
	cfg := token.Config{Module: k.Module, Label: softhsm.Label, PINFile: k.PINFile, Sessions: 4}
	for _, c := range change {
		c(&cfg)
	}
	tok := token.New(cfg)
	t.Cleanup(tok.Close)
	return tok
}

func generate(t *testing.T, tok *token.Token, label, algorithm string, bits int) signer.Key {
	t.Helper()
	key, err := tok.Generate(signer.Generate{Label: label, Algorithm: algorithm, Bits: bits})
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(tok *token.Token, key signer.Key, hash string, digest []byte) ([]byte, error) {
	return tok.Sign(signer.Sign{Label: key.Label, ID: key.ID, Hash: hash, Digest: digest})
}

func TestToken_SignsWithEveryKindOfKeyItMakes(t *testing.T) {
	tok := open(t, softhsm.New(t))
	short, long := sha256.Sum256([]byte("x")), sha512.Sum384([]byte("x"))
	for _, tt := range []struct {
		algorithm string
		bits      int
		hash      string
		digest    []byte
	}{
		{x509x.ECDSA, 256, signer.SHA256, short[:]},
		{x509x.ECDSA, 384, signer.SHA384, long[:]},
		{x509x.RSA, 2048, signer.SHA256, short[:]},
		{x509x.RSA, 3072, signer.SHA384, long[:]},
		{x509x.RSA, 4096, signer.SHA256, short[:]},
	} {
		label := tt.algorithm + "-" + string(rune('0'+tt.bits%10)) + tt.hash
		key := generate(t, tok, label, tt.algorithm, tt.bits)
		pub, err := x509.ParsePKIXPublicKey(key.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		if algorithm, bits, _ := x509x.KeyAlgorithm(pub); algorithm != tt.algorithm || bits != tt.bits || len(key.ID) != 16 {
			t.Errorf("asked for %s %d, got %s %d, id %x", tt.algorithm, tt.bits, algorithm, bits, key.ID)
		}
		signature, err := sign(tok, key, tt.hash, tt.digest)
		if err != nil {
			t.Fatal(err)
		}
		switch k := pub.(type) {
		case *ecdsa.PublicKey:
			if !ecdsa.VerifyASN1(k, tt.digest, signature) {
				t.Errorf("%s: the signature is not the key's", label)
			}
		case *rsa.PublicKey:
			hash := map[string]crypto.Hash{signer.SHA256: crypto.SHA256, signer.SHA384: crypto.SHA384}[tt.hash]
			if err := rsa.VerifyPKCS1v15(k, hash, tt.digest, signature); err != nil {
				t.Errorf("%s: %v", label, err)
			}
		}
	}
}

// attributes reads a key's attributes past our own code.
func attributes(t *testing.T, k *softhsm.Token, label string, want ...uint) ([]*pkcs11.Attribute, error) {
	t.Helper()
	raw, session := session(t, k)
	if err := raw.FindObjectsInit(session, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY), pkcs11.NewAttribute(pkcs11.CKA_LABEL, label),
	}); err != nil {
		t.Fatal(err)
	}
	objects, _, err := raw.FindObjects(session, 2)
	if err != nil || len(objects) != 1 {
		t.Fatalf("%d keys, %v", len(objects), err)
	}
	if err := raw.FindObjectsFinal(session); err != nil {
		t.Fatal(err)
	}
	template := make([]*pkcs11.Attribute, len(want))
	for i, a := range want {
		template[i] = pkcs11.NewAttribute(a, nil)
	}
	return raw.GetAttributeValue(session, objects[0], template)
}

// session opens a session beside ours in the same process; it shares our login.
func session(t *testing.T, k *softhsm.Token) (*pkcs11.Ctx, pkcs11.SessionHandle) {
	t.Helper()
	raw := pkcs11.New(k.Module)
	t.Cleanup(raw.Destroy)
	slots, err := raw.GetSlotList(true)
	if err != nil {
		t.Fatal(err)
	}
	for _, slot := range slots {
		if info, err := raw.GetTokenInfo(slot); err != nil || info.Label != softhsm.Label {
			continue
		}
		session, err := raw.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
		if err != nil {
			t.Fatal(err)
		}
		return raw, session
	}
	t.Fatal("no token")
	return nil, 0
}

func TestKey_CannotLeaveTheToken(t *testing.T) {
	k := softhsm.New(t)
	tok := open(t, k)
	generate(t, tok, "ca-ec", x509x.ECDSA, 256)
	generate(t, tok, "ca-rsa", x509x.RSA, 2048)
	for label, value := range map[string]uint{"ca-ec": pkcs11.CKA_VALUE, "ca-rsa": pkcs11.CKA_PRIVATE_EXPONENT} {
		want := map[uint]byte{
			pkcs11.CKA_TOKEN: 1, pkcs11.CKA_PRIVATE: 1, pkcs11.CKA_SENSITIVE: 1, pkcs11.CKA_EXTRACTABLE: 0,
			pkcs11.CKA_ALWAYS_SENSITIVE: 1, pkcs11.CKA_NEVER_EXTRACTABLE: 1, pkcs11.CKA_DECRYPT: 0,
		}
		for a, v := range want {
			got, err := attributes(t, k, label, a)
			if err != nil || len(got) != 1 || len(got[0].Value) != 1 || got[0].Value[0] != v {
				t.Errorf("%s: attribute %#x is %v, want %d: %v", label, a, got, v, err)
			}
		}
		if _, err := attributes(t, k, label, value); !errors.Is(err, pkcs11.Error(pkcs11.CKR_ATTRIBUTE_SENSITIVE)) {
			t.Errorf("%s: the private key can be read: %v", label, err)
		}
	}
}

func TestKey_ThatCanLeaveTheTokenIsNotUsed(t *testing.T) {
	k := softhsm.New(t)
	tok := open(t, k)
	if err := tok.Check(); err != nil {
		t.Fatal(err)
	}
	raw, session := session(t, k)
	label := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_LABEL, "loose"), pkcs11.NewAttribute(pkcs11.CKA_ID, []byte{7}), pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true)}
	_, _, err := raw.GenerateKeyPair(
		session, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_EC_KEY_PAIR_GEN, nil)},
		append(label, pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07})),
		append(label, pkcs11.NewAttribute(pkcs11.CKA_SIGN, true), pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true)),
	)
	if err != nil {
		t.Fatal(err)
	}
	list, err := tok.Keys("loose")
	if err != nil || len(list.Keys) != 1 || !strings.Contains(list.Keys[0].Objection, "CKA_EXTRACTABLE") {
		t.Fatalf("%+v, %v", list, err)
	}
	if _, err := sign(tok, list.Keys[0], signer.SHA256, make([]byte, 32)); fault.CodeOf(err) != fault.Forbidden {
		t.Errorf("it signs: %v", err)
	}
	if _, err := tok.Signer("loose"); fault.CodeOf(err) != fault.Forbidden {
		t.Errorf("it is used: %v", err)
	}
}

func TestKey_OfAnOperatorsImportIsUsed(t *testing.T) {
	k := softhsm.New(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	text, err := x509x.EncodePrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	k.Import(t, path, "imported", "a1")
	found, err := open(t, k).Signer("imported")
	if err != nil || !x509x.SameKey(found.Public(), key.Public()) {
		t.Errorf("%v", err)
	}
}

func TestKey_IsMadeOnceForALabelAndAsAllowed(t *testing.T) {
	tok := open(t, softhsm.New(t), func(c *token.Config) { c.Prefix = "certctl-" })
	for _, g := range []signer.Generate{
		{Label: "certctl-a", Algorithm: "ECDSA", Bits: 521},
		{Label: "certctl-a", Algorithm: "RSA", Bits: 1024},
		{Label: "certctl-a", Algorithm: "Ed25519", Bits: 256},
		{Label: "", Algorithm: "ECDSA", Bits: 256},
		{Label: "certctl-\n", Algorithm: "ECDSA", Bits: 256},
		{Label: "certctl-" + strings.Repeat("a", 60), Algorithm: "ECDSA", Bits: 256},
		{Label: "payroll", Algorithm: "ECDSA", Bits: 256},
	} {
		if _, err := tok.Generate(g); fault.CodeOf(err) != fault.Invalid {
			t.Errorf("%+v: %v", g, err)
		}
	}
	var wg sync.WaitGroup
	made := make(chan error, 4)
	for range cap(made) {
		wg.Go(func() {
			_, err := tok.Generate(signer.Generate{Label: "certctl-a", Algorithm: "ECDSA", Bits: 256})
			made <- err
		})
	}
	wg.Wait()
	close(made)
	codes := map[fault.Code]int{}
	for err := range made {
		codes[fault.CodeOf(err)]++
	}
	if codes[""] != 1 || codes[fault.Conflict] != cap(made)-1 {
		t.Errorf("outcomes %v", codes)
	}
}

func TestKey_OfOthersDoesNotExist(t *testing.T) {
	k := softhsm.New(t)
	all := open(t, k)
	foreign := generate(t, all, "payroll", x509x.ECDSA, 256)
	generate(t, all, "certctl-a", x509x.ECDSA, 256)
	all.Close()
	tok := open(t, k, func(c *token.Config) { c.Prefix = "certctl-" })
	list, err := tok.Keys("")
	if err != nil || len(list.Keys) != 1 || list.Keys[0].Label != "certctl-a" {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := sign(tok, foreign, signer.SHA256, make([]byte, 32)); fault.CodeOf(err) != fault.Invalid {
		t.Errorf("it signs: %v", err)
	}
}

func TestSign_RefusesWhatIsNoDigestAndKeysThatAreNotThere(t *testing.T) {
	tok := open(t, softhsm.New(t))
	key := generate(t, tok, "ca", x509x.ECDSA, 256)
	for _, s := range []signer.Sign{
		{Label: "ca", ID: key.ID, Hash: signer.SHA256, Digest: make([]byte, 31)},
		{Label: "ca", ID: key.ID, Hash: signer.SHA384, Digest: make([]byte, 32)},
		{Label: "ca", ID: key.ID, Hash: "SHA-1", Digest: make([]byte, 20)},
		{Label: "ca", ID: key.ID, Digest: make([]byte, 32)},
	} {
		if _, err := tok.Sign(s); fault.CodeOf(err) != fault.Invalid {
			t.Errorf("%+v: %v", s, err)
		}
	}
	if _, err := tok.Sign(signer.Sign{Label: "ca", ID: []byte{1}, Hash: signer.SHA256, Digest: make([]byte, 32)}); fault.CodeOf(err) != fault.NotFound {
		t.Errorf("another id: %v", err)
	}
}

func TestSign_NoticesThatAKeyIsGone(t *testing.T) {
	k := softhsm.New(t)
	tok := open(t, k)
	key := generate(t, tok, "ca", x509x.ECDSA, 256)
	raw, session := session(t, k)
	if err := raw.FindObjectsInit(session, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_LABEL, "ca")}); err != nil {
		t.Fatal(err)
	}
	objects, _, err := raw.FindObjects(session, 8)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		if err := raw.DestroyObject(session, o); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := sign(tok, key, signer.SHA256, make([]byte, 32)); fault.CodeOf(err) != fault.NotFound || !strings.Contains(err.Error(), "has no key ca") {
		t.Errorf("%v", err)
	}
}

func TestToken_IsOpenedAnewWhenItComesBack(t *testing.T) {
	k := softhsm.New(t)
	tok := open(t, k)
	key := generate(t, tok, "ca", x509x.ECDSA, 256)
	raw, _ := session(t, k)
	// As after a reset: every session is gone.
	if err := raw.Finalize(); err != nil {
		t.Fatal(err)
	}
	if _, err := sign(tok, key, signer.SHA256, make([]byte, 32)); err != nil {
		t.Errorf("after a reset: %v", err)
	}
	tok.Close()
	putBack := k.TakeOut(t)
	_, err := sign(tok, key, signer.SHA256, make([]byte, 32))
	if fault.CodeOf(err) != fault.Unavailable || !strings.Contains(err.Error(), `token "certctl-test" is not present`) {
		t.Errorf("taken out: %v", err)
	}
	putBack()
	if _, err := sign(tok, key, signer.SHA256, make([]byte, 32)); err != nil {
		t.Errorf("put back: %v", err)
	}
}

func TestToken_SaysWhyItCannotBeUsed(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*softhsm.Token, *token.Config)
		want   string
	}{
		"no module": {func(_ *softhsm.Token, c *token.Config) { c.Module = "/nowhere.so" }, "the PKCS#11 module /nowhere.so cannot be loaded"},
		"no token":  {func(_ *softhsm.Token, c *token.Config) { c.Label = "other" }, `token "other" is not present`},
		"no PIN":    {func(_ *softhsm.Token, c *token.Config) { c.PINFile += ".no" }, "cannot read its PIN"},
		"PIN that all may read": {func(k *softhsm.Token, _ *token.Config) {
			if err := os.Chmod(k.PINFile, 0o644); err != nil {
				t.Error(err)
			}
		}, "may be read by others (mode 0644)"},
		"wrong PIN": {func(k *softhsm.Token, _ *token.Config) { k.WritePIN(t, "000000") }, `token "certctl-test" refuses the PIN in `},
	} {
		t.Run(name, func(t *testing.T) {
			k := softhsm.New(t)
			err := open(t, k, func(c *token.Config) { tt.change(k, c) }).Check()
			if fault.CodeOf(err) != fault.Unavailable || !strings.Contains(fault.From(err).Message, tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
			if strings.Contains(err.Error(), "000000") || strings.Contains(err.Error(), softhsm.PIN) {
				t.Errorf("the error tells the PIN: %v", err)
			}
		})
	}
}

func TestToken_DoesNotTryAPINTwiceThatWasRefused(t *testing.T) {
	k := softhsm.New(t)
	setter := open(t, k)
	if err := setter.Check(); err != nil {
		t.Fatal(err)
	}
	k.WritePIN(t, "000000")
	// The library is one for the process, and so is its login: out with it, or any PIN would do.
	setter.Close()
	tok := open(t, k)
	if err := tok.Check(); err == nil || !strings.Contains(err.Error(), "refuses the PIN") {
		t.Fatalf("%v", err)
	}
	// Were it tried again, it would be right by now.
	setPIN(t, k, "000000")
	if err := tok.Check(); err == nil || !strings.Contains(err.Error(), "does not try it again") {
		t.Errorf("%v", err)
	}
	k.WritePIN(t, "111111")
	setPINFrom(t, k, "000000", "111111")
	if err := tok.Check(); err != nil {
		t.Errorf("another PIN: %v", err)
	}
}

func setPIN(t *testing.T, k *softhsm.Token, pin string) {
	t.Helper()
	setPINFrom(t, k, softhsm.PIN, pin)
}

func setPINFrom(t *testing.T, k *softhsm.Token, from, to string) {
	t.Helper()
	raw := pkcs11.New(k.Module)
	defer raw.Destroy()
	if err := raw.Initialize(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = raw.Finalize() }()
	_, s := session(t, k)
	if err := raw.Login(s, pkcs11.CKU_USER, from); err != nil {
		t.Fatal(err)
	}
	if err := raw.SetPIN(s, from, to); err != nil {
		t.Fatal(err)
	}
}

func TestToken_IsUsedByManyAtOnce(t *testing.T) {
	tok := open(t, softhsm.New(t))
	key := generate(t, tok, "ca", x509x.ECDSA, 256)
	pub, err := x509.ParsePKIXPublicKey(key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			digest := sha256.Sum256([]byte{byte(i)})
			signature, err := sign(tok, key, signer.SHA256, digest[:])
			if err != nil || !ecdsa.VerifyASN1(pub.(*ecdsa.PublicKey), digest[:], signature) {
				t.Errorf("%d: %v", i, err)
			}
		})
	}
	wg.Wait()
}
