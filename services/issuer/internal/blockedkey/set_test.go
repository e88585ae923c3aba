package blockedkey

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca/catest"
)

// shelf is a source that counts how often it is asked.
type shelf struct {
	keys           map[Hash]Reason
	revision       int64
	err            error
	looked, opened int
	// reading is called while the keys are being read, after they were taken.
	reading func()
}

func (s *shelf) BlockedRevision(context.Context) (int64, error) {
	s.looked++
	return s.revision, s.err
}

func (s *shelf) BlockedKeys(context.Context) (map[Hash]Reason, int64, error) {
	s.opened++
	taken := map[Hash]Reason{}
	maps.Copy(taken, s.keys)
	revision := s.revision
	if s.reading != nil {
		s.reading()
	}
	return taken, revision, s.err
}

func (s *shelf) block(h Hash, r Reason) {
	if s.keys == nil {
		s.keys = map[Hash]Reason{}
	}
	s.keys[h] = r
	s.revision++
}

func request(t testing.TB, key crypto.Signer) *x509.CertificateRequest {
	t.Helper()
	csr, err := x509x.ParseCSR([]byte(catest.NewCSR(t, key, "www.example.com", "www.example.com")))
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

func TestCheck_RefusesAKeyWithItsReasonAndLetsOthersThrough(t *testing.T) {
	s := &shelf{}
	set := NewSet(s, clock.System)
	for reason, says := range map[Reason]string{Compromised: "compromised", Weak: "weak", Other: "must not be used"} {
		csr := request(t, catest.NewKey(t, "ECDSA P-256"))
		if err := set.Check(t.Context(), csr); err != nil {
			t.Fatal(err)
		}
		s.block(HashOf(csr.RawSubjectPublicKeyInfo), reason)
		set.Forget()
		err := set.Check(t.Context(), csr)
		if fault.CodeOf(err) != fault.Invalid || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "make a new key") {
			t.Errorf("%s: %v", reason, err)
		}
	}
}

func TestCheck_ReadsTheSetOnceAndLooksAgainWhenItIsOld(t *testing.T) {
	s, now := &shelf{}, clock.At(time.Unix(0, 0))
	set := NewSet(s, now)
	csr := request(t, catest.NewKey(t, "ECDSA P-256"))
	check := func(blocked bool) {
		t.Helper()
		if err := set.Check(t.Context(), csr); (err != nil) != blocked {
			t.Fatalf("got %v", err)
		}
	}
	for range 3 {
		check(false)
	}
	if s.opened != 1 || s.looked != 0 {
		t.Errorf("read %d times, looked %d times", s.opened, s.looked)
	}
	now.Advance(Age)
	check(false)
	if s.opened != 1 || s.looked != 1 {
		t.Errorf("unchanged: read %d times, looked %d times", s.opened, s.looked)
	}
	s.block(HashOf(csr.RawSubjectPublicKeyInfo), Other)
	check(false) // it was elsewhere that it was blocked
	now.Advance(Age)
	check(true)
	if s.opened != 2 {
		t.Errorf("changed: read %d times", s.opened)
	}
}

// A read that began before a change was committed must not outlive the news of it.
func TestForget_WaitsForAReadThatHasBegun(t *testing.T) {
	s := &shelf{}
	set := NewSet(s, clock.At(time.Unix(0, 0)))
	csr := request(t, catest.NewKey(t, "ECDSA P-256"))
	forgotten := make(chan struct{})
	s.reading = func() {
		s.reading = nil
		s.block(HashOf(csr.RawSubjectPublicKeyInfo), Compromised)
		go func() {
			set.Forget()
			close(forgotten)
		}()
	}
	if err := set.Check(t.Context(), csr); err != nil {
		t.Fatal(err)
	}
	<-forgotten
	if err := set.Check(t.Context(), csr); fault.CodeOf(err) != fault.Invalid {
		t.Errorf("got %v", err)
	}
}

func TestCheck_LetsNothingThroughWhileTheSetCannotBeRead(t *testing.T) {
	away := errors.New("the database is away")
	s, now := &shelf{}, clock.At(time.Unix(0, 0))
	set := NewSet(s, now)
	csr := request(t, catest.NewKey(t, "ECDSA P-256"))
	s.err = away
	if err := set.Check(t.Context(), csr); !errors.Is(err, away) {
		t.Errorf("at first: %v", err)
	}
	s.err = nil
	if err := set.Check(t.Context(), csr); err != nil {
		t.Fatal(err)
	}
	s.err = away
	now.Advance(Age)
	if err := set.Check(t.Context(), csr); !errors.Is(err, away) {
		t.Errorf("later: %v", err)
	}
}

func TestCheck_RefusesKeysThatStandInStandards(t *testing.T) {
	// The secret key of RFC 8032 section 7.1, test 1.
	seed, err := hex.DecodeString("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
	if err != nil {
		t.Fatal(err)
	}
	err = NewSet(&shelf{}, clock.System).Check(t.Context(), request(t, ed25519.NewKeyFromSeed(seed)))
	if fault.CodeOf(err) != fault.Invalid || !strings.Contains(err.Error(), "published (RFC 8032 section 7.1)") {
		t.Errorf("got %v", err)
	}
}

// What is refused for its size anyway needs no place in the list, and a list that is not read has none.
func TestPublished_IsAListOfKeysThatWouldElseBeCertified(t *testing.T) {
	n := 0
	for block, rest := pem.Decode(publishedPEM); block != nil; block, rest = pem.Decode(rest) {
		n++
		pub, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if err := x509x.CheckKey(pub); err != nil || block.Headers["Source"] == "" {
			t.Errorf("key %d, %v: %v", n, block.Headers, err)
		}
	}
	if n != len(published()) || n < 20 {
		t.Errorf("%d keys of %d are known", len(published()), n)
	}
}

// BenchmarkCheck is what it costs each certificate, with a hundred thousand keys blocked.
func BenchmarkCheck(b *testing.B) {
	s := &shelf{keys: map[Hash]Reason{}}
	for i := range 100_000 {
		s.keys[Hash{byte(i), byte(i >> 8), byte(i >> 16)}] = Compromised
	}
	for _, kind := range []string{"ECDSA P-256", "RSA 2048"} {
		b.Run(kind, func(b *testing.B) {
			set, csr := NewSet(s, clock.System), request(b, catest.NewKey(b, kind))
			for b.Loop() {
				if err := set.Check(b.Context(), csr); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
