package edge

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/httpapi"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/gateway/internal/identity"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const goodKey = "cck_good"

type keys struct{}

func (keys) Recognise(r *http.Request) (authn.Principal, error) {
	key, err := identity.Bearer(r)
	if err != nil {
		return authn.Principal{}, err
	}
	switch key {
	case goodKey:
		return authn.Principal{ID: "key-1", Name: "ada", Kind: authn.KindUser, Roles: []string{"admin"}}, nil
	case "cck_powerless":
		return authn.Principal{ID: "key-2", Name: "bob", Kind: authn.KindUser}, nil
	default:
		return authn.Principal{}, fault.New(fault.Unauthenticated, "the API key is unknown, expired or revoked")
	}
}

// records notes calls, and can hold up or refuse what must be durable.
type records struct {
	mu    sync.Mutex
	calls []event.APICall // under mu
	err   error
	gate  chan struct{}
}

func (r *records) Durable(_ context.Context, c event.APICall) error {
	if r.gate != nil {
		<-r.gate
	}
	r.Background(c)
	return r.err
}

func (r *records) Background(c event.APICall) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, c)
}

func (r *records) last(t *testing.T) event.APICall {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.calls) == 0 {
		t.Fatal("the call is not on record")
	}
	return r.calls[len(r.calls)-1]
}

// owner answers as the services do, and notes what it was sent.
type owner struct{ seen *http.Request }

func (o *owner) RoundTrip(r *http.Request) (*http.Response, error) {
	o.seen = r
	body := ""
	if r.Body != nil {
		b, _ := io.ReadAll(r.Body)
		body = string(b)
	}
	return &http.Response{
		StatusCode: http.StatusCreated, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(strings.NewReader(`{"got":"` + body + `"}`)),
	}, nil
}

func newEdge() (*Edge, *records, *owner) {
	rec, own := &records{}, &owner{}
	return &Edge{
		Keys: keys{}, Records: rec, Owners: own, Answer: map[string]http.Handler{},
		Clock: clock.System, Log: slog.New(slog.DiscardHandler),
	}, rec, own
}

func call(e *Edge, method, path, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	e.Handler().ServeHTTP(w, r)
	return w
}

func TestEdge_RefusesAndRecordsWhoeverIsNotRecognisedOrAllowed(t *testing.T) {
	cases := []struct {
		name, header string
		status       int
		actor        string
	}{
		{"no credential", "", http.StatusUnauthorized, "anonymous"},
		{"another scheme", "Basic YTpi", http.StatusUnauthorized, "anonymous"},
		{"an empty key", "Bearer ", http.StatusUnauthorized, "anonymous"},
		{"an unknown key", "Bearer cck_bad", http.StatusUnauthorized, "anonymous"},
		{"a key without rights", "Bearer cck_powerless", http.StatusForbidden, "key-2"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			e, rec, own := newEdge()
			w := call(e, "POST", "/api/v1/certificates", `{}`, "Authorization", c.header)
			if w.Code != c.status {
				t.Errorf("status %d, want %d: %s", w.Code, c.status, w.Body)
			}
			if c.status == http.StatusUnauthorized && w.Header().Get("WWW-Authenticate") == "" {
				t.Error("the answer does not say how to authenticate")
			}
			if own.seen != nil {
				t.Error("the owner was asked all the same")
			}
			if got := rec.last(t); got.Status != c.status || got.Actor != c.actor {
				t.Errorf("on record: %+v", got)
			}
		})
	}
}

func TestEdge_SendsTheCallOnAsTheRecognisedPrincipalOnly(t *testing.T) {
	e, rec, own := newEdge()
	w := call(e, "POST", "/api/v1/certificates", "hello",
		"Authorization", "bearer "+goodKey, authn.Header, authn.ToHeader(authn.System("issuer")), "Cookie", "a=b")
	if w.Code != http.StatusCreated || w.Body.String() != `{"got":"hello"}` {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	p, err := authn.FromHeader(own.seen.Header.Get(authn.Header))
	if err != nil || p.ID != "key-1" {
		t.Errorf("the owner was told that %+v asks (%v)", p, err)
	}
	if own.seen.Header.Get("Authorization") != "" || own.seen.Header.Get("Cookie") != "" {
		t.Error("the credential was sent on")
	}
	got := rec.last(t)
	if got.Operation != "createCertificate" || got.Actor != "key-1" || got.Status != 201 || got.BodyHash != "2cf24dba5fb0a30e" {
		t.Errorf("on record: %+v", got)
	}
}

func TestEdge_RefusesALargeBodyBeforeTheOwnerSeesIt(t *testing.T) {
	for name, length := range map[string]int64{"declared": MaxBody + 1, "not declared": -1} {
		t.Run(name, func(t *testing.T) {
			e, rec, own := newEdge()
			r := httptest.NewRequest("POST", "/api/v1/certificates", strings.NewReader(strings.Repeat("x", 10<<20)))
			r.ContentLength = length
			r.Header.Set("Authorization", "Bearer "+goodKey)
			w := httptest.NewRecorder()
			e.Handler().ServeHTTP(w, r)
			if w.Code != http.StatusRequestEntityTooLarge || own.seen != nil {
				t.Errorf("status %d, owner asked: %v", w.Code, own.seen != nil)
			}
			if rec.last(t).Status != http.StatusRequestEntityTooLarge {
				t.Error("the refusal is not on record")
			}
		})
	}
}

func TestEdge_AnswersAChangeOnlyWhenItIsOnRecord(t *testing.T) {
	e, rec, _ := newEdge()
	rec.gate = make(chan struct{})
	server := httptest.NewServer(e.Handler())
	defer server.Close()
	answered := make(chan error, 1)
	go func() {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/api/v1/certificates", strings.NewReader("x"))
		if err != nil {
			answered <- err
			return
		}
		r.Header.Set("Authorization", "Bearer "+goodKey)
		res, err := server.Client().Do(r)
		if err == nil {
			res.Body.Close()
		}
		answered <- err
	}()
	select {
	case err := <-answered:
		t.Fatalf("answered before the record was durable (%v)", err)
	case rec.gate <- struct{}{}:
	}
	if err := <-answered; err != nil {
		t.Fatal(err)
	}
}

func TestEdge_SaysThatAChangeWasMadeButNotRecorded(t *testing.T) {
	e, rec, _ := newEdge()
	rec.err = errors.New("the bus and the database are away")
	w := call(e, "POST", "/api/v1/certificates", "x", "Authorization", "Bearer "+goodKey)
	if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "carried out with status 201") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if strings.Contains(w.Body.String(), "got") {
		t.Error("the answer that was held back was sent too")
	}
}

func TestEdge_AnswersUnknownPathsAndMethodsWithProblems(t *testing.T) {
	for path, want := range map[string]int{"/api/v1/nothing": 404, "/api/v1/certificates": 405} {
		e, rec, _ := newEdge()
		w := call(e, "PATCH", path, "")
		if w.Code != want || w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("PATCH %s: %d %s", path, w.Code, w.Header().Get("Content-Type"))
		}
		if want == 405 && !slices.Equal(w.Header().Values("Allow"), []string{"GET", "POST"}) {
			t.Errorf("Allow is %q", w.Header().Values("Allow"))
		}
		if rec.last(t).Status != want {
			t.Error("not on record")
		}
	}
}

func TestEdge_ServesEveryOperationOfTheContract(t *testing.T) {
	for _, op := range httpapi.Operations {
		if op.Services[0] == "revocation" {
			continue
		}
		e, rec, _ := newEdge()
		path := strings.NewReplacer("{id}", "x").Replace(op.Path)
		w := call(e, op.Method, path, "", "Authorization", "Bearer "+goodKey)
		if w.Code != http.StatusCreated || rec.last(t).Operation != op.ID {
			t.Errorf("%s: status %d, on record as %q", op.ID, w.Code, rec.last(t).Operation)
		}
		if w.Header().Get("X-Request-ID") == "" || w.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: headers are missing", op.ID)
		}
	}
}
