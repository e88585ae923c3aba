package acme_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/ca"
	"github.com/certctl/certctl/services/issuer/internal/ca/acme"
	"github.com/certctl/certctl/services/issuer/internal/ca/acme/pebbletest"
)

// job is one job's request, with the order that it keeps.
type job struct {
	ca.Request
	kept int
}

func newJob(t *testing.T, names ...string) *job {
	t.Helper()
	j := &job{Request: request(t, names...)}
	j.Keep = func(_ context.Context, order []byte) error {
		j.Order = order
		j.kept++
		return nil
	}
	return j
}

func (j *job) issue(t *testing.T, a *acme.Authority) {
	t.Helper()
	if _, err := a.Issue(t.Context(), j.Request); err != nil {
		t.Fatal(err)
	}
}

// Each stage is one at which the connection is cut, after the CA has done what it was asked for.
func TestOrder_IsGoneOnWithAfterTheConnectionWasLost(t *testing.T) {
	for stage, path := range map[string]string{
		"an authorization was looked at": "/authZ/", "the order was looked at": "/my-order/",
		"it was finalized": "/finalize-order/", "the certificate was fetched": "/certZ/",
	} {
		t.Run(stage, func(t *testing.T) {
			s := pebbletest.Start(t, pebbletest.Options{})
			var cut atomic.Bool
			c := config(s)
			c.Directory = s.Behind(func(r *http.Request, answer *httptest.ResponseRecorder) {
				if strings.HasPrefix(r.URL.Path, path) && answer.Code < 300 && cut.CompareAndSwap(true, false) {
					panic(http.ErrAbortHandler)
				}
			})
			d := newDeps()
			a := open(t, c, d)
			j := newJob(t, "www.example.com", "api.example.com")
			cut.Store(true)
			if _, err := a.Issue(t.Context(), j.Request); fault.CodeOf(err) != fault.Unavailable {
				t.Fatalf("with the connection cut: %v", err)
			}
			// Another process goes on with it, as after a crash.
			j.issue(t, open(t, c, d))
			if s.Issued() != 1 || j.kept != 1 {
				t.Errorf("%d certificates of %d orders", s.Issued(), j.kept)
			}
			// Its answer may have been lost to the database as well.
			j.issue(t, a)
			if s.Issued() != 1 || j.kept != 1 {
				t.Errorf("asked again: %d certificates of %d orders", s.Issued(), j.kept)
			}
		})
	}
}

// The CA looks from then on, and whoever withdrew would fail.
func TestOrder_BearsThatTheConnectionIsLostWhenTheCAIsToldToLook(t *testing.T) {
	s := pebbletest.Start(t, pebbletest.Options{})
	var cut atomic.Bool
	c := config(s)
	c.Directory = s.Behind(func(r *http.Request, answer *httptest.ResponseRecorder) {
		if strings.HasPrefix(r.URL.Path, "/chalZ/") && answer.Code < 300 && cut.CompareAndSwap(true, false) {
			panic(http.ErrAbortHandler)
		}
	})
	a := open(t, c, newDeps())
	j := newJob(t, "www.example.com", "api.example.com")
	cut.Store(true)
	j.issue(t, a)
	if s.Issued() != 1 || j.kept != 1 || cut.Load() {
		t.Errorf("%d certificates of %d orders", s.Issued(), j.kept)
	}
}

func TestOrder_IsGoneOnWithAfterItsTimeWasUp(t *testing.T) {
	s := pebbletest.Start(t, pebbletest.Options{})
	d := newDeps()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := config(s)
	solver, _ := hooks(s)
	c.Solver = &ending{solver, cancel}
	j := newJob(t, "www.example.com")
	if _, err := open(t, c, d).Issue(ctx, j.Request); fault.CodeOf(err) != fault.Unavailable || j.kept != 1 {
		t.Fatalf("got %v, kept %d", err, j.kept)
	}
	c.Solver = solver
	j.issue(t, open(t, c, d))
	if j.kept != 1 || s.Issued() != 1 {
		t.Errorf("%d certificates of %d orders", s.Issued(), j.kept)
	}
}

func TestOrder_IsPlacedAnewIfTheOldIsOfNoUse(t *testing.T) {
	s := pebbletest.Start(t, pebbletest.Options{})
	d := newDeps()
	usual := open(t, config(s), d)
	nowhere := config(s)
	nowhere.Solver = &acme.Listener{Address: "127.0.0.1:0"}
	failed := newJob(t, "www.example.com")
	if _, err := open(t, nowhere, d).Issue(t.Context(), failed.Request); fault.CodeOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "www.example.com") {
		t.Fatalf("a name that nobody answers at: %v", err)
	}
	failed.issue(t, usual)
	if failed.kept != 2 {
		t.Errorf("after a validation that failed: %d orders", failed.kept)
	}
	other := newJob(t, "www.example.com")
	other.Order = failed.Order
	other.issue(t, usual)
	if other.kept != 1 {
		t.Error("the order of another key was gone on with")
	}
	stranger := newJob(t, "www.example.com")
	stranger.issue(t, open(t, config(s), newDeps()))
	of := *failed
	of.Order = bytes.ReplaceAll(failed.Order, place(t, failed.Order), place(t, stranger.Order))
	of.Keep = func(context.Context, []byte) error { of.kept = 100; return nil }
	of.issue(t, usual)
	if of.kept != 100 {
		t.Error("the order of another account was gone on with")
	}
	garbage := newJob(t, "www.example.com")
	garbage.Order = []byte("?")
	garbage.issue(t, usual)
	// It forgets everything.
	s.Stop()
	s.Run()
	failed.issue(t, usual)
	if failed.kept != 3 {
		t.Errorf("after the CA has forgotten it: %d orders", failed.kept)
	}
}

func place(t *testing.T, order []byte) []byte {
	t.Helper()
	var o struct{ URL string }
	if err := json.Unmarshal(order, &o); err != nil {
		t.Fatal(err)
	}
	return []byte(o.URL)
}

func TestOrder_OfWhichTheCADoesNotKnowAnyMoreIsPlacedAnew(t *testing.T) {
	s := pebbletest.Start(t, pebbletest.Options{})
	a := open(t, config(s), newDeps())
	j := newJob(t, "www.example.com")
	j.issue(t, a)
	j.Order = bytes.Replace(j.Order, []byte("/my-order/"), []byte("/my-order/gone"), 1)
	j.issue(t, a)
	if j.kept != 2 {
		t.Errorf("%d orders", j.kept)
	}
}

func TestOrder_ThatCannotBeKeptIsNotGoneOnWith(t *testing.T) {
	s := pebbletest.Start(t, pebbletest.Options{})
	r := request(t, "www.example.com")
	full := fault.New(fault.Unavailable, "the disk is full")
	r.Keep = func(context.Context, []byte) error { return full }
	if _, err := open(t, config(s), newDeps()).Issue(t.Context(), r); !errors.Is(err, full) || s.Issued() != 0 {
		t.Errorf("got %v, %d certificates", err, s.Issued())
	}
}

func TestOrder_ThatTheCAWorksOnForLongIsPending(t *testing.T) {
	s := pebbletest.Start(t, pebbletest.Options{})
	var busy atomic.Bool
	c := config(s)
	c.Settle = 300 * time.Millisecond
	c.Directory = s.Behind(func(r *http.Request, answer *httptest.ResponseRecorder) {
		if !strings.HasPrefix(r.URL.Path, "/my-order/") || !busy.Load() {
			return
		}
		text := strings.Replace(answer.Body.String(), `"status": "valid"`, `"status": "processing"`, 1)
		answer.Body = bytes.NewBufferString(text)
		answer.Header().Set("Retry-After", "90")
	})
	a := open(t, c, newDeps())
	j := newJob(t, "www.example.com")
	busy.Store(true)
	for range 2 {
		_, err := a.Issue(t.Context(), j.Request)
		if p, ok := errors.AsType[*ca.Pending](err); !ok || !strings.Contains(p.Says, "processing") || p.Again != 90*time.Second {
			t.Fatalf("got %v", err)
		}
	}
	busy.Store(false)
	j.issue(t, a)
	if s.Issued() != 1 || j.kept != 1 {
		t.Errorf("%d certificates of %d orders", s.Issued(), j.kept)
	}
}

func TestOrder_BearsACAThatRefusesHalfOfTheNoncesAndIsStrict(t *testing.T) {
	s := pebbletest.Start(t, pebbletest.Options{Nonces: 50, Reuse: 50, Strict: true})
	a := open(t, config(s), newDeps())
	names := []string{"www.example.com", "a.example.com", "b.example.com", "c.example.com", "127.0.0.1"}
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			// A request that was refused for twenty seconds counts as a CA that is away; the job asks again, and goes on.
			j := newJob(t, names...)
			_, err := a.Issue(t.Context(), j.Request)
			for range 5 {
				if fault.CodeOf(err) == fault.Unavailable {
					_, err = a.Issue(t.Context(), j.Request)
				}
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if s.Issued() != 3 {
		t.Errorf("%d certificates", s.Issued())
	}
}

// The CA is asked about the second name before it is done with the first.
func TestOrder_ProvesItsNamesSideBySide(t *testing.T) {
	s := pebbletest.Start(t, pebbletest.Options{})
	const names = 3
	var asked atomic.Int32
	all := make(chan struct{})
	c := config(s)
	c.Directory = s.Between(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, "/chalZ/") && r.Method == http.MethodPost {
			if body, err := io.ReadAll(r.Body); err == nil {
				r.Body = io.NopCloser(bytes.NewReader(body))
			}
			if asked.Add(1) == names {
				close(all)
			}
			select {
			case <-all:
			case <-t.Context().Done():
			}
		}
		return false
	})
	issue(t, open(t, c, newDeps()), "a.example.com", "b.example.com", "c.example.com")
	if asked.Load() < names {
		t.Errorf("the CA was asked to look %d times", asked.Load())
	}
}

func TestACME_RegistersOnceMoreIfTheCAStumblesOverAReplica(t *testing.T) {
	s := pebbletest.Start(t, pebbletest.Options{})
	c := config(s)
	var stumbled atomic.Bool
	c.Directory = s.Between(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, "/sign-me-up") || !stumbled.CompareAndSwap(false, true) {
			return false
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusInternalServerError)
		_ = json.NewEncoder(w).Encode(map[string]any{"type": "urn:ietf:params:acme:error:serverInternal", "detail": "Error saving account", "status": 500})
		return true
	})
	open(t, c, newDeps())
	if !stumbled.Load() {
		t.Error("it was not asked to register")
	}
}
