package idempotency

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/httpx"
	"github.com/certctl/certctl/libs/secret"
	"github.com/certctl/certctl/libs/testkit/pgtest"
	"github.com/certctl/certctl/migrations"
)

func TestMain(m *testing.M) { os.Exit(pgtest.M{M: m}.Run()) }

// desk is one whose owner counts what it is asked.
type desk struct {
	*testing.T
	*Desk
	clock   *clock.Manual
	carried atomic.Int64
	owner   http.HandlerFunc
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	d := &desk{T: t, clock: clock.At(time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC))}
	d.Desk = &Desk{
		Pool: pgtest.New(t, migrations.FS("gateway"), "gateway"), Sealer: secret.New(secret.NewKey()),
		Clock: d.clock, Log: slog.New(slog.DiscardHandler),
	}
	d.owner = func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("ETag", `"1"`)
		httpx.WriteJSON(w, http.StatusCreated, map[string]string{"you said": string(body)})
	}
	return d
}

func (d *desk) call(who, key, target, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, target, strings.NewReader(body))
	r = r.WithContext(authn.NewContext(r.Context(), authn.Principal{ID: who, Kind: authn.KindUser}))
	if key != "" {
		r.Header.Set(Header, key)
	}
	w := httptest.NewRecorder()
	d.Once("createThing", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.carried.Add(1)
		d.owner(w, r)
	})).ServeHTTP(w, r)
	return w
}

func (d *desk) want(what string, w *httptest.ResponseRecorder, status int, says string, carried int64) {
	d.Helper()
	if w.Code != status || !strings.Contains(w.Body.String(), says) || d.carried.Load() != carried {
		d.Errorf("%s: %d %v %s; carried out %d times", what, w.Code, w.Header(), w.Body, d.carried.Load())
	}
}

func TestOnce_GivesTheSameAnswerToTheSameCall(t *testing.T) {
	d := newDesk(t)
	first := d.call("key-1", "k", "/things", `{"a":1}`)
	d.want("first", first, 201, `{\"a\":1}`, 1)
	again := d.call("key-1", "k", "/things", `{"a":1}`)
	d.want("again", again, 201, `{\"a\":1}`, 1)
	if again.Body.String() != first.Body.String() || again.Header().Get("ETag") != `"1"` || again.Header().Get("Content-Type") != "application/json" ||
		again.Header().Get(HeaderReplayed) != "true" || first.Header().Get(HeaderReplayed) != "" {
		t.Errorf("%v, then %v", first.Header(), again.Header())
	}
	d.want("another body", d.call("key-1", "k", "/things", `{"a":2}`), 409, "another call", 1)
	d.want("another target", d.call("key-1", "k", "/things?x=1", `{"a":1}`), 409, "another call", 1)
	d.want("somebody else's key", d.call("key-2", "k", "/things", `{"a":2}`), 201, `{\"a\":2}`, 2)
	d.want("another key", d.call("key-1", "k2", "/things", `{"a":1}`), 201, "", 3)
	d.want("without", d.call("key-1", "", "/things", `{"a":1}`), 201, "", 4)
	d.want("without, again", d.call("key-1", "", "/things", `{"a":1}`), 201, "", 5)
	d.want("no key", d.call("key-1", "a b", "/things", ``), 400, Header, 5)
	d.want("a long key", d.call("key-1", strings.Repeat("a", 256), "/things", ``), 400, Header, 5)

	d.clock.Advance(keep)
	d.want("a day later", d.call("key-1", "k", "/things", `{"a":2}`), 201, `{\"a\":2}`, 6)
	d.clock.Advance(keep)
	if err := d.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	var left int
	if err := d.Pool.QueryRow(t.Context(), "SELECT count(*) FROM idempotency_keys").Scan(&left); err != nil || left != 0 {
		t.Errorf("%d keys are left (%v)", left, err)
	}
}

func TestOnce_CarriesOutOneOfManyThatComeTogether(t *testing.T) {
	d := newDesk(t)
	begun, release := make(chan struct{}), make(chan struct{})
	d.owner = func(w http.ResponseWriter, _ *http.Request) {
		close(begun)
		<-release
		w.WriteHeader(http.StatusAccepted)
	}
	first := make(chan *httptest.ResponseRecorder)
	go func() { first <- d.call("key-1", "k", "/things", "x") }()
	<-begun
	second := d.call("key-1", "k", "/things", "x")
	d.want("while the first is in hand", second, 409, "in hand", 1)
	if second.Header().Get("Retry-After") == "" {
		t.Error("it does not say when to come again")
	}
	close(release)
	d.want("the first", <-first, 202, "", 1)
	d.want("afterwards", d.call("key-1", "k", "/things", "x"), 202, "", 1)
}

func TestOnce_FreesTheKeyOfACallThatChangedNothing(t *testing.T) {
	d := newDesk(t)
	well := d.owner
	d.owner = func(w http.ResponseWriter, r *http.Request) {
		httpx.WriteProblem(w, r, fault.New(fault.Invalid, "no such thing"))
	}
	d.want("refused", d.call("key-1", "k", "/things", "x"), 400, "no such thing", 1)
	d.owner = func(w http.ResponseWriter, r *http.Request) {
		if u, ok := w.(interface{ Undelivered() }); ok {
			u.Undelivered()
		}
		httpx.WriteProblem(w, r, fault.New(fault.Unavailable, "away"))
	}
	d.want("not delivered", d.call("key-1", "k", "/things", "x"), 503, "away", 2)
	d.owner = well
	d.want("mended", d.call("key-1", "k", "/things", "y"), 201, "y", 3)
}

func TestOnce_DoesNotRepeatWhatMayHaveBeenCarriedOut(t *testing.T) {
	d := newDesk(t)
	well := d.owner
	for what, owner := range map[string]http.HandlerFunc{
		"timeout": func(w http.ResponseWriter, r *http.Request) {
			httpx.WriteProblem(w, r, fault.New(fault.Unavailable, "did not answer"))
		},
		"panic": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		d.owner = owner
		for _, body := range []string{`{"a":1}`, `{"id":"thing-1"}`} {
			func() {
				defer func() { _ = recover() }()
				d.call("key-1", what+body, "/things", body)
			}()
		}
	}
	d.owner = well
	for _, what := range []string{"timeout", "panic"} {
		before := d.carried.Load()
		d.want(what, d.call("key-1", what+`{"a":1}`, "/things", `{"a":1}`), 409, "nobody knows", before)
		// The owner refuses an id that it has: asking it again does no harm.
		d.want(what+" of what has an id", d.call("key-1", what+`{"id":"thing-1"}`, "/things", `{"id":"thing-1"}`), 201, "thing-1", before+1)
	}
	// A gateway that died in the middle leaves a lease behind.
	c := claim{principal: "key-1", key: "dead", fingerprint: make([]byte, 32), until: d.clock.Now().Add(lease)}
	if e, err := d.begin(t.Context(), c); e != nil || err != nil {
		t.Fatal(e, err)
	}
	if e, err := d.begin(t.Context(), c); err != nil || !e.inHand {
		t.Errorf("%+v %v", e, err)
	}
	d.clock.Advance(lease)
	if e, err := d.begin(t.Context(), c); err != nil || e.inHand || e.status != 0 {
		t.Errorf("%+v %v", e, err)
	}
}

func TestOnce_KeepsNoSecretInTheOpen(t *testing.T) {
	d := newDesk(t)
	d.owner = func(w http.ResponseWriter, _ *http.Request) {
		httpx.WriteJSON(w, http.StatusCreated, map[string]string{"key": "cck_verysecret"})
	}
	d.call("key-1", "k", "/things", "")
	var row string
	if err := d.Pool.QueryRow(t.Context(), "SELECT encode(answer, 'escape') FROM idempotency_keys").Scan(&row); err != nil || strings.Contains(row, "verysecret") {
		t.Errorf("%s (%v)", row, err)
	}
	d.Sealer = nil
	d.call("key-1", "k2", "/things", "")
	d.want("without a sealing key", d.call("key-1", "k2", "/things", ""), 409, "carried out before, with status 201", 2)
	d.want("sealed with another key", d.call("key-1", "k", "/things", ""), 409, "status 201", 2)
}

func TestOnce_SaysWhatItDidNotKeepOfALargeAnswer(t *testing.T) {
	d := newDesk(t)
	d.owner = func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, maxAnswer+1)) }
	if w := d.call("key-1", "k", "/things", ""); w.Body.Len() != maxAnswer+1 {
		t.Errorf("%d bytes", w.Body.Len())
	}
	d.want("again", d.call("key-1", "k", "/things", ""), 409, "status 200", 1)
}

func TestOnce_DoesNotKeepWhatItsOwnerSaysIsNotToBeStored(t *testing.T) {
	d := newDesk(t)
	d.owner = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		_, _ = io.WriteString(w, "a private key")
	}
	d.want("first", d.call("key-1", "k", "/things", `{}`), 200, "a private key", 1)
	d.want("again", d.call("key-1", "k", "/things", `{}`), 409, "was not kept", 1)
	var kept bool
	if err := d.Pool.QueryRow(t.Context(), "SELECT answer IS NOT NULL FROM idempotency_keys").Scan(&kept); err != nil || kept {
		t.Errorf("kept: %v, %v", kept, err)
	}
}

func TestOnce_RefusesWhatItCannotNote(t *testing.T) {
	d := newDesk(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := httptest.NewRequest(http.MethodPost, "/things", nil).WithContext(authn.NewContext(ctx, authn.Principal{ID: "key-1"}))
	r.Header.Set(Header, "k")
	w := httptest.NewRecorder()
	d.Once("createThing", d.owner).ServeHTTP(w, r)
	if w.Code != http.StatusServiceUnavailable {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
