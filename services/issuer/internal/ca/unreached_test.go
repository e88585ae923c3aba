package ca_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/services/issuer/internal/ca"
)

func TestUnreached_TellsWhatIsTheMatterWithTheConnection(t *testing.T) {
	asker := &http.Client{Timeout: 20 * time.Second}
	ask := func(ctx context.Context, url string) string {
		t.Helper()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		res, err := asker.Do(req)
		if err == nil {
			_ = res.Body.Close()
			t.Fatalf("%s was reached", url)
		}
		return ca.Unreached(err, "trust_pem")
	}
	until := make(chan struct{})
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/break" {
			panic(http.ErrAbortHandler)
		}
		<-until
	})
	plain, secure := httptest.NewServer(handler), httptest.NewTLSServer(handler)
	t.Cleanup(secure.Close)
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if says := ask(t.Context(), secure.URL+"/token-in-path"); !strings.Contains(says, "TLS certificate is not accepted") || strings.Contains(says, "token-in-path") ||
		!strings.HasSuffix(says, "; trust_pem says what to trust") {
		t.Errorf("untrusted: %q", says)
	}
	if says := ask(t.Context(), plain.URL+"/break"); says != "the connection broke" {
		t.Errorf("broken: %q", says)
	}
	if says := ask(short, plain.URL); says != "no answer in time" {
		t.Errorf("slow: %q", says)
	}
	close(until)
	plain.Close()
	if says := ask(t.Context(), plain.URL); says != "connection refused" {
		t.Errorf("away: %q", says)
	}
}
