package acme_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/ca"
	"github.com/certctl/certctl/services/issuer/internal/ca/acme/pebbletest"
)

func TestRenewal_IsAdvisedByTheCA(t *testing.T) {
	s := pebbletest.Start(t, pebbletest.Options{})
	a := open(t, config(s), newDeps())
	issued := issue(t, a, "www.example.com")
	advice, err := a.RenewalAdvice(t.Context(), issued.DER)
	if err != nil {
		t.Fatal(err)
	}
	if !advice.Start.After(time.Now()) || !advice.End.After(advice.Start) || advice.End.After(issued.NotAfter) || advice.Again < time.Minute {
		t.Errorf("of a certificate until %s: %+v", issued.NotAfter, advice)
	}
	if err := a.Revoke(t.Context(), ca.Revocation{Leaf: issued.DER, Reason: 1}); err != nil {
		t.Fatal(err)
	}
	if advice, err = a.RenewalAdvice(t.Context(), issued.DER); err != nil || advice.End.After(time.Now()) {
		t.Errorf("of one that is revoked: %+v, %v", advice, err)
	}
	s.Stop()
	if _, err := a.RenewalAdvice(t.Context(), issued.DER); fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("while the CA is away: %v", err)
	}
	s.Run()
	if _, err := a.RenewalAdvice(t.Context(), issued.DER); fault.CodeOf(err) != fault.NotFound {
		t.Errorf("of one that the CA does not know: %v", err)
	}
}

func TestRenewal_IsNotAdvisedIfWhatTheCASaysMakesNoSense(t *testing.T) {
	s := pebbletest.Start(t, pebbletest.Options{})
	var said atomic.Value
	c := config(s)
	c.Directory = s.Between(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "renewalInfo") {
			return false
		}
		_, _ = io.WriteString(w, said.Load().(string))
		return true
	})
	a := open(t, c, newDeps())
	issued := issue(t, a, "www.example.com")
	for _, text := range []string{"busy", "{}", `{"suggestedWindow":{"start":"2026-12-02T00:00:00Z","end":"2026-12-01T00:00:00Z"}}`} {
		said.Store(text)
		if _, err := a.RenewalAdvice(t.Context(), issued.DER); fault.CodeOf(err) != fault.Unavailable {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestRenewal_TellsTheCAWhatItReplacesAndBearsThatItIsRefused(t *testing.T) {
	s := pebbletest.Start(t, pebbletest.Options{})
	var mu sync.Mutex
	var told []string
	c := config(s)
	c.Directory = s.Between(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/order-plz") {
			body, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(bytes.NewReader(body))
			var signed struct{ Payload string }
			var order struct{ Replaces string }
			_ = json.Unmarshal(body, &signed)
			payload, _ := base64.RawURLEncoding.DecodeString(signed.Payload)
			_ = json.Unmarshal(payload, &order)
			mu.Lock()
			told = append(told, order.Replaces)
			mu.Unlock()
		}
		return false
	})
	a := open(t, c, newDeps())
	first := issue(t, a, "www.example.com")
	stranger := issue(t, open(t, config(s), newDeps()), "www.example.com")
	mu.Lock()
	told = nil
	mu.Unlock()
	// What has been replaced already, and what is another's, is renewed all the same.
	for _, replaced := range [][]byte{first.DER, first.DER, stranger.DER} {
		r := request(t, "www.example.com")
		r.Replaces = replaced
		if _, err := a.Issue(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(told) < 5 || told[0] == "" || told[len(told)-1] != "" {
		t.Errorf("the CA was told %q", told)
	}
}
