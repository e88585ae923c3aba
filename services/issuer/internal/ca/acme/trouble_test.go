package acme_test

import (
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/ca/acme"
	"github.com/certctl/certctl/services/issuer/internal/ca/acme/pebbletest"
)

func TestACME_TellsTheCAThatThereIsNoContactAnyMore(t *testing.T) {
	s := pebbletest.Start(t, pebbletest.Options{})
	d := newDeps()
	open(t, config(s), d)
	before := d.Accounts.(*accounts).url()
	c := config(s)
	c.Email = ""
	issue(t, open(t, c, d), "www.example.com")
	if one := d.Accounts.(*accounts).one; one.URL != before || one.Contact != "" {
		t.Errorf("account %+v", one)
	}
}

func TestACME_RegistersAgainWithANewContactAtACAThatHasForgottenIt(t *testing.T) {
	s := pebbletest.Start(t, pebbletest.Options{})
	d := newDeps()
	open(t, config(s), d)
	before := d.Accounts.(*accounts).url()
	s.Stop()
	s.Run()
	c := config(s)
	c.Email = "security@example.com"
	issue(t, open(t, c, d), "www.example.com")
	if one := d.Accounts.(*accounts).one; one.URL == before || one.Contact != c.Email {
		t.Errorf("account %+v", one)
	}
}

func TestACME_SaysThatADirectoryIsNoneAndDoesNotRepeatWhatIsThere(t *testing.T) {
	s := pebbletest.Start(t, pebbletest.Options{})
	answers := map[string]string{"/dir": "<html>secret page</html>", "/json": `{"secret": "page"}`}
	directory := s.Between(func(w http.ResponseWriter, r *http.Request) bool {
		text, ours := answers[r.URL.Path]
		if ours {
			_, _ = w.Write([]byte(text))
		}
		return ours
	})
	for path, want := range map[string]string{"/dir": "is no ACME directory", "/json": "is no ACME directory", "/nowhere": "HTTP 404 is answered there"} {
		c := config(s)
		c.Directory = strings.TrimSuffix(directory, "/dir") + path
		_, err := acme.Open(t.Context(), c, newDeps())
		if fault.CodeOf(err) != fault.Unavailable || !strings.Contains(err.Error(), want) ||
			strings.Contains(err.Error(), "secret page") || strings.Contains(err.Error(), "invalid character") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestACME_SaysWhichSettingHasItTrustADirectory(t *testing.T) {
	c := config(pebbletest.Start(t, pebbletest.Options{}))
	c.Roots = nil
	if _, err := acme.Open(t.Context(), c, newDeps()); err == nil || !strings.Contains(err.Error(), "unknown authority; ca_certificate_pem says what to trust") {
		t.Error(err)
	}
}

func TestACME_DoesNotRepeatThePageOfAProxyBeforeTheCA(t *testing.T) {
	s := pebbletest.Start(t, pebbletest.Options{})
	c := config(s)
	c.Directory = s.Between(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPost || !strings.Contains(r.URL.Path, "order") {
			return false
		}
		http.Error(w, "<html>bad gateway</html>", http.StatusBadGateway)
		return true
	})
	_, err := open(t, c, newDeps()).Issue(t.Context(), request(t, "www.example.com"))
	if fault.CodeOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "HTTP 502") || strings.Contains(err.Error(), "<html>") {
		t.Error(err)
	}
}

func TestACME_TestSaysThatTheCAHasNoSuchProfile(t *testing.T) {
	s := pebbletest.Start(t, pebbletest.Options{})
	c := config(s)
	for profile, known := range map[string]bool{"": true, "shortlived": true, "unheard-of": false} {
		c.Profile = profile
		err := open(t, c, newDeps()).Test(t.Context())
		if known && err != nil || !known && (err == nil || !strings.Contains(err.Error(), "no profile unheard-of; it has default, shortlived")) {
			t.Errorf("profile %q: %v", profile, err)
		}
	}
}

func TestListener_TestSaysThatItsPortIsTaken(t *testing.T) {
	s := pebbletest.Start(t, pebbletest.Options{})
	a := open(t, config(s), newDeps())
	if err := a.Test(t.Context()); err != nil {
		t.Error(err)
	}
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", s.HTTP)
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if err := a.Test(t.Context()); fault.CodeOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "CERTCTL_ACME_HTTP_PORT") {
		t.Error(err)
	}
}

func TestScripts_TestSaysThatNoRecordCouldBeSeen(t *testing.T) {
	s := pebbletest.Start(t, pebbletest.Options{})
	c := config(s)
	h, _ := hooks(s)
	c.Solver = h
	if err := open(t, c, newDeps()).Test(t.Context()); err != nil {
		t.Error(err)
	}
	h.Resolver = s.HTTP // where nobody is
	if err := open(t, c, newDeps()).Test(t.Context()); fault.CodeOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "dns_resolvers") {
		t.Error(err)
	}
}

func TestACME_WaitsAsLongAsAProxyBeforeTheCASays(t *testing.T) {
	s := pebbletest.Start(t, pebbletest.Options{})
	c := config(s)
	c.Directory = s.Between(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/order-plz") {
			return false
		}
		w.Header().Set("Retry-After", "120")
		http.Error(w, "slow down", http.StatusTooManyRequests)
		return true
	})
	_, err := open(t, c, newDeps()).Issue(t.Context(), request(t, "www.example.com"))
	if f := fault.From(err); f.Code != fault.RateLimited || f.RetryAfter != 2*time.Minute || !strings.Contains(f.Message, "HTTP 429") {
		t.Errorf("got %v, again in %s", err, f.RetryAfter)
	}
}

func TestACME_SaysWhereItsUserIsToDoSomething(t *testing.T) {
	s := pebbletest.Start(t, pebbletest.Options{})
	c := config(s)
	c.Directory = s.Between(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/order-plz") {
			return false
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusForbidden)
		_ = json.NewEncoder(w).Encode(map[string]any{
			"type": "urn:ietf:params:acme:error:userActionRequired", "detail": "Terms of service have changed", "instance": "https://ca.example/terms",
		})
		return true
	})
	_, err := open(t, c, newDeps()).Issue(t.Context(), request(t, "www.example.com"))
	if fault.CodeOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "Terms of service have changed; see https://ca.example/terms") {
		t.Error(err)
	}
}
