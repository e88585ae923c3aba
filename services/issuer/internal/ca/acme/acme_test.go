package acme_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/secret"
	"github.com/certctl/certctl/services/issuer/internal/ca"
	"github.com/certctl/certctl/services/issuer/internal/ca/acme"
	"github.com/certctl/certctl/services/issuer/internal/ca/acme/pebbletest"
	"github.com/certctl/certctl/services/issuer/internal/ca/catest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// accounts is a store of one account.
type accounts struct {
	mu  sync.Mutex
	one *ca.Account
}

func (a *accounts) Account(context.Context, string, string) (*ca.Account, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.one == nil {
		return nil, nil
	}
	copied := *a.one
	return &copied, nil
}

func (a *accounts) AddAccount(ctx context.Context, one ca.Account) (*ca.Account, error) {
	a.mu.Lock()
	if a.one == nil {
		a.one = &one
	}
	a.mu.Unlock()
	return a.Account(ctx, "", "")
}

func (a *accounts) NoteAccount(_ context.Context, one ca.Account) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := *a.one
	now.URL, now.Contact = one.URL, one.Contact
	a.one = &now
	return nil
}

func (a *accounts) AddNextKey(ctx context.Context, seen ca.Account, next []byte) (*ca.Account, error) {
	a.mu.Lock()
	if !bytes.Equal(a.one.Sealed, seen.Sealed) {
		a.mu.Unlock()
		return nil, fault.New(fault.Conflict, "it has just been replaced")
	}
	now := *a.one
	if now.Next == nil {
		now.Next = next
	}
	a.one = &now
	a.mu.Unlock()
	return a.Account(ctx, "", "")
}

func (a *accounts) AdoptNextKey(_ context.Context, _, _ string, next []byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if now := *a.one; bytes.Equal(now.Next, next) {
		now.Sealed, now.Next = next, nil
		a.one = &now
	}
	return nil
}

func (a *accounts) url() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.one.URL
}

func newDeps() acme.Deps {
	return acme.Deps{Accounts: &accounts{}, Sealer: secret.New(secret.NewKey()), Clock: clock.System}
}

func config(s *pebbletest.Server) acme.Config {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.TLSRoot)
	return acme.Config{
		IssuerID: "iss-test", Directory: s.Directory, Email: "pki@example.com", Roots: roots, Timeout: 2 * time.Minute,
		Solver: &acme.Listener{Address: s.HTTP},
	}
}

func hooks(s *pebbletest.Server) (*acme.Hooks, string) {
	present, cleanUp, diary := s.Scripts()
	return &acme.Hooks{SetUp: present, CleanUp: cleanUp, Propagation: time.Minute, Resolver: s.DNS}, diary
}

func open(t *testing.T, c acme.Config, d acme.Deps) *acme.Authority {
	t.Helper()
	a, err := acme.Open(t.Context(), c, d)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func request(t *testing.T, names ...string) ca.Request {
	t.Helper()
	return catest.NewRequest(t, catest.NewKey(t, "ECDSA P-256"), names...)
}

func issue(t *testing.T, a *acme.Authority, names ...string) ca.Issued {
	t.Helper()
	issued, err := a.Issue(t.Context(), request(t, names...))
	if err != nil {
		t.Fatal(err)
	}
	return issued
}

// learned opens a CA and has it issue, for it shows its chain only then.
func learned(t *testing.T, c acme.Config) *acme.Authority {
	t.Helper()
	a := open(t, c, newDeps())
	if a.Chain() != nil {
		t.Errorf("the chain is known before anybody has told: %v", a.Chain())
	}
	issue(t, a, "www.example.com")
	return a
}

// bounds are Pebble's.
func bounds(names ...string) catest.Bounds {
	return catest.Bounds{Names: names, Keys: []string{"ECDSA P-256", "ECDSA P-384", "RSA 2048"}, OwnTemplate: true}
}

func TestACME_ConformsByHTTP01WithAddresses(t *testing.T) {
	s := pebbletest.Start(t, pebbletest.Options{})
	catest.RunWithin(t, learned(t, config(s)), bounds("www.example.com", "api.example.com", "127.0.0.1"))
	if conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.HTTP); err == nil {
		_ = conn.Close()
		t.Error("somebody listens while there is nothing to prove")
	}
}

func TestACME_ConformsByDNS01WithWildcards(t *testing.T) {
	s := pebbletest.Start(t, pebbletest.Options{})
	c := config(s)
	solver, diary := hooks(s)
	c.Solver = solver
	catest.ConformsWithin(t, "ACME", "Pebble, which settles usages and lifetime", learned(t, c), bounds("example.com", "*.example.com", "www.example.com"))
	text, err := os.ReadFile(diary)
	if err != nil {
		t.Fatal(err)
	}
	if p, c := strings.Count(string(text), "present "), strings.Count(string(text), "cleanup "); p != c || p == 0 {
		t.Errorf("%d records set, %d removed", p, c)
	}
	if !strings.Contains(string(text), "present www.example.com _acme-challenge.www.example.com ") {
		t.Errorf("the scripts were told:\n%s", text)
	}
}

func TestACME_KeepsItsAccountAcrossRestartsAndReplicas(t *testing.T) {
	s := pebbletest.Start(t, pebbletest.Options{})
	d := newDeps()
	store := d.Accounts.(*accounts)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, err := acme.Open(t.Context(), config(s), d); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	before := store.url()
	issue(t, open(t, config(s), d), "www.example.com")
	if after := store.url(); after != before || !strings.HasPrefix(after, "https://") {
		t.Errorf("account %q before, %q after", before, after)
	}
	if strings.Contains(string(store.one.Sealed), "PRIVATE") {
		t.Error("the key lies open")
	}
}

func TestACME_RegistersAgainWithACAThatHasForgottenIt(t *testing.T) {
	s := pebbletest.Start(t, pebbletest.Options{})
	d := newDeps()
	a := open(t, config(s), d)
	sealed := string(d.Accounts.(*accounts).one.Sealed)
	s.Stop()
	_, err := a.Issue(t.Context(), request(t, "www.example.com"))
	if fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("while the CA is away: %v", err)
	}
	if _, err := acme.Open(t.Context(), config(s), d); fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("opened while the CA is away: %v", err)
	}
	s.Run()
	issue(t, a, "www.example.com")
	if string(d.Accounts.(*accounts).one.Sealed) != sealed {
		t.Error("it has another key now")
	}
}

func TestACME_TellsTheCAOfANewContact(t *testing.T) {
	s := pebbletest.Start(t, pebbletest.Options{})
	d := newDeps()
	open(t, config(s), d)
	before := d.Accounts.(*accounts).url()
	c := config(s)
	c.Email = "security@example.com"
	open(t, c, d)
	if one := d.Accounts.(*accounts).one; one.URL != before || one.Contact != c.Email {
		t.Errorf("account %+v", one)
	}
}

func TestACME_BindsItsAccountWhereTheCAAsksForIt(t *testing.T) {
	s := pebbletest.Start(t, pebbletest.Options{Bound: true})
	c, d := config(s), newDeps()
	if _, err := acme.Open(t.Context(), c, d); fault.CodeOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "eab_kid") {
		t.Errorf("without a binding: %v", err)
	}
	c.KeyID, c.MACKey = pebbletest.KeyID, strings.Repeat("A", 43)
	if _, err := acme.Open(t.Context(), c, d); err == nil {
		t.Error("a wrong key is good enough")
	}
	c.MACKey = pebbletest.MACKey
	issue(t, open(t, c, d), "www.example.com")
	// It is bound once; later nobody needs the key.
	c.KeyID, c.MACKey = "", ""
	issue(t, open(t, c, d), "www.example.com")
}

func TestACME_RevokesAtTheCAAndBearsARepetition(t *testing.T) {
	s := pebbletest.Start(t, pebbletest.Options{})
	a := open(t, config(s), newDeps())
	issued := issue(t, a, "www.example.com")
	for range 2 {
		if err := a.Revoke(t.Context(), ca.Revocation{Serial: issued.Serial, Leaf: issued.DER, Reason: 4}); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Revoke(t.Context(), ca.Revocation{Serial: issued.Serial}); fault.CodeOf(err) != fault.Invalid {
		t.Errorf("without the certificate: %v", err)
	}
	// A reason that the CA does not take is no reason to go on trusting.
	issued = issue(t, a, "www.example.com")
	if err := a.Revoke(t.Context(), ca.Revocation{Serial: issued.Serial, Leaf: issued.DER, Reason: 7}); err != nil {
		t.Error(err)
	}
}

func TestACME_AsksForAProfile(t *testing.T) {
	s := pebbletest.Start(t, pebbletest.Options{})
	c := config(s)
	c.Profile = "shortlived"
	issued := issue(t, open(t, c, newDeps()), "www.example.com")
	if life := issued.NotAfter.Sub(issued.NotBefore); life > 7*24*time.Hour {
		t.Errorf("it is valid for %s", life)
	}
	c.Profile = "unheard-of"
	if _, err := open(t, c, newDeps()).Issue(t.Context(), request(t, "www.example.com")); fault.CodeOf(err) != fault.Invalid || !strings.Contains(err.Error(), "unheard-of") {
		t.Errorf("a profile that there is not: %v", err)
	}
}

func TestACME_TakesThePreferredChainIfItIsOffered(t *testing.T) {
	s := pebbletest.Start(t, pebbletest.Options{Roots: 3})
	c := config(s)
	a := open(t, c, newDeps())
	issue(t, a, "www.example.com")
	usual := a.Chain()[0].Issuer.CommonName
	for _, want := range s.OtherRoots() {
		c.PreferredChain = want
		a = open(t, c, newDeps())
		issue(t, a, "www.example.com")
		if got := a.Chain()[len(a.Chain())-1].Issuer.CommonName; got != want || got == usual {
			t.Errorf("got the chain of %s, want that of %s", got, want)
		}
	}
	c.PreferredChain = "Nobody's Root"
	a = open(t, c, newDeps())
	issue(t, a, "www.example.com")
	if got := a.Chain()[0].Issuer.CommonName; got != usual {
		t.Errorf("got the chain of %s, where %s is the default", got, usual)
	}
}

func TestACME_SaysWhyTheCADoesNotIssue(t *testing.T) {
	s := pebbletest.Start(t, pebbletest.Options{})
	usual := config(s)
	elsewhere := config(s)
	elsewhere.Solver = &acme.Listener{Address: "127.0.0.1:0"}
	taken := config(s)
	taken.Solver = &acme.Listener{Address: strings.TrimPrefix(s.Records, "http://")}
	dns := config(s)
	solver, _ := hooks(s)
	dns.Solver = solver
	unset := config(s)
	unset.Solver = &acme.Hooks{SetUp: failing(t)}
	unseen := config(s)
	unseen.Solver = &acme.Hooks{SetUp: "/bin/true", Propagation: 50 * time.Millisecond, Resolver: s.DNS}
	unproven := config(s)
	unproven.Solver = &acme.Hooks{SetUp: "/bin/true"}
	for name, c := range map[string]struct {
		config acme.Config
		name   string
		code   fault.Code
		says   string
	}{
		"a name that it never issues for":   {usual, pebbletest.Blocked, fault.Invalid, "rejectedIdentifier"},
		"nobody answers at the name":        {elsewhere, "www.example.com", fault.Unavailable, "www.example.com"},
		"the port is taken":                 {taken, "www.example.com", fault.Unavailable, "CERTCTL_ACME_HTTP_PORT"},
		"a wildcard over HTTP":              {usual, "*.example.com", fault.Invalid, "dns-01"},
		"an address over DNS":               {dns, "127.0.0.1", fault.Invalid, "http-01"},
		"a script that fails":               {unset, "www.example.com", fault.Unavailable, "no such zone"},
		"a record that is not seen":         {unseen, "www.example.com", fault.Unavailable, "_acme-challenge.www.example.com"},
		"a record that is not there at all": {unproven, "www.example.com", fault.Unavailable, "www.example.com"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := open(t, c.config, newDeps()).Issue(t.Context(), request(t, c.name))
			if fault.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v (%s)", err, fault.CodeOf(err))
			}
			// That a name is not proven says nothing about how the CA is.
			if _, unproven := errors.AsType[*ca.Unproven](err); unproven != (c.code == fault.Unavailable) {
				t.Errorf("got %v, unproven %t", err, unproven)
			}
		})
	}
	t.Run("a request for other names", func(t *testing.T) {
		r := request(t, "www.example.com")
		r.Names = request(t, "www.example.org").Names
		if _, err := open(t, usual, newDeps()).Issue(t.Context(), r); fault.CodeOf(err) != fault.Invalid {
			t.Errorf("got %v", err)
		}
	})
}

func failing(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "present")
	if err := os.WriteFile(path, []byte("#!/bin/sh\necho no such zone; exit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestACME_IsHeldToItsTimeAndWithdrawsWhatItPresented(t *testing.T) {
	s := pebbletest.Start(t, pebbletest.Options{})
	solver, diary := hooks(s)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := config(s)
	c.Solver = &ending{solver, cancel}
	a := open(t, c, newDeps())
	if _, err := a.Issue(ctx, request(t, "www.example.com")); fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("got %v", err)
	}
	text, err := os.ReadFile(diary)
	if err != nil || !strings.Contains(string(text), "cleanup www.example.com") {
		t.Errorf("%v: the scripts were told:\n%s", err, text)
	}
}

// ending ends its caller's time once the proofs are there.
type ending struct {
	*acme.Hooks
	end func()
}

func (e *ending) Present(ctx context.Context, proofs []acme.Proof) (func(), error) {
	withdraw, err := e.Hooks.Present(ctx, proofs)
	e.end()
	return withdraw, err
}

func TestACME_WaitsAsLongAsARateLimitSays(t *testing.T) {
	s := pebbletest.Start(t, pebbletest.Options{})
	c := config(s)
	limit := s.Between(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/order-plz") {
			return false
		}
		w.Header().Set("Retry-After", "7200")
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusTooManyRequests)
		_ = json.NewEncoder(w).Encode(map[string]any{"type": "urn:ietf:params:acme:error:rateLimited", "detail": "too many certificates", "status": 429})
		return true
	})
	c.Directory = limit
	_, err := open(t, c, newDeps()).Issue(t.Context(), request(t, "www.example.com"))
	if f := fault.From(err); f.Code != fault.RateLimited || f.RetryAfter != 2*time.Hour || !strings.Contains(f.Message, "too many certificates") {
		t.Errorf("got %v, again in %s", err, f.RetryAfter)
	}
}
