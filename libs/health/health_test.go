package health

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"github.com/certctl/certctl/libs/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pass lets time pass within a bubble.
func pass(d time.Duration) { <-time.After(d) }

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

var ignoreTimes = cmp.Options{cmpopts.IgnoreUnexported(Result{}), cmpopts.IgnoreFields(Result{}, "DurationMS")}

func TestCheck_ReportsEveryCheckByName(t *testing.T) {
	r := New(quiet())
	r.Add("nats", func(context.Context) error { return fault.New(fault.Unavailable, "not connected") })
	r.Add("database", func(context.Context) error { return nil })
	r.Add("disk", func(context.Context) error { return errors.New("/var/lib/certctl: hunter2") })
	r.AddLive("process", func(context.Context) error { return nil })

	want := Report{Status: "unavailable", Checks: []Result{
		{Name: "database", OK: true},
		{Name: "disk", Error: "internal error"},
		{Name: "nats", Error: "not connected"},
	}}
	if diff := cmp.Diff(want, r.Check(t.Context()), ignoreTimes); diff != "" {
		t.Errorf("ready (-want +got):\n%s", diff)
	}
	want = Report{Status: "healthy", OK: true, Checks: []Result{{Name: "process", OK: true}}}
	if diff := cmp.Diff(want, r.Live(t.Context()), ignoreTimes); diff != "" {
		t.Errorf("live (-want +got):\n%s", diff)
	}
}

func TestCheck_RunsSideBySide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(quiet())
		for _, name := range []string{"a", "b", "c"} {
			r.Add(name, func(context.Context) error {
				pass(time.Second)
				return nil
			})
		}
		start := time.Now()
		if !r.Check(t.Context()).OK || time.Since(start) != time.Second {
			t.Errorf("took %s", time.Since(start))
		}
	})
}

func TestCheck_KeepsItsReportForASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs := 0
		r := New(quiet())
		r.Add("a", func(context.Context) error {
			runs++
			return nil
		})
		for range 21 {
			r.Check(t.Context())
			pass(reportAge / 20)
		}
		if runs != 2 {
			t.Errorf("21 probes over a second ran the check %d times, want 2", runs)
		}
	})
}

func TestCheck_IsRunOnceForAllWhoAskAtOnce(t *testing.T) {
	var runs atomic.Int32
	r := New(quiet())
	r.Add("a", func(context.Context) error {
		runs.Add(1)
		return nil
	})
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { r.Check(t.Context()) })
	}
	wg.Wait()
	if got := runs.Load(); got != 1 {
		t.Errorf("20 probes ran the check %d times", got)
	}
}

func TestCheck_OutlivesTheOneWhoAsked(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := New(quiet())
	r.Add("a", func(ctx context.Context) error { return ctx.Err() })
	if report := r.Check(ctx); !report.OK {
		t.Errorf("a cancelled probe made the process unready: %+v", report)
	}
}

func TestCheck_LeavesAHangingCheckBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var runs atomic.Int32
		free := make(chan struct{})
		r := New(quiet())
		r.Add("stuck", func(context.Context) error {
			runs.Add(1)
			<-free
			return nil
		})
		start := time.Now()
		if r.Check(t.Context()).OK || time.Since(start) != checkTimeout {
			t.Errorf("a hanging check held the report for %s", time.Since(start))
		}
		pass(reportAge)
		if r.Check(t.Context()).OK || runs.Load() != 1 {
			t.Errorf("the hanging check was started %d times", runs.Load())
		}
		close(free)
		pass(reportAge)
		if !r.Check(t.Context()).OK {
			t.Error("still failing after the check came back")
		}
	})
}

func TestCheck_SurvivesAPanic(t *testing.T) {
	r := New(quiet())
	r.Add("bad", func(context.Context) error { panic("no") })
	if r.Check(t.Context()).OK {
		t.Error("a check that panics passes")
	}
}

func TestCheck_LogsEachTurnOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		var failing atomic.Bool
		r := New(slog.New(slog.NewTextHandler(&out, nil)))
		r.Add("db", func(context.Context) error {
			if failing.Load() {
				return errors.New("connection refused")
			}
			return nil
		})
		for _, fails := range []bool{false, true, true, false, false} {
			failing.Store(fails)
			r.Check(t.Context())
			pass(reportAge)
		}
		got := out.String()
		if strings.Count(got, "health check fails") != 1 || strings.Count(got, "passes again") != 1 || !strings.Contains(got, "connection refused") {
			t.Errorf("logged:\n%s", got)
		}
	})
}

func TestAdd_ReplacesACheckOfTheSameName(t *testing.T) {
	r := New(quiet())
	r.Add("a", func(context.Context) error { return errors.New("old") })
	if r.Check(t.Context()).OK {
		t.Fatal("the failing check passes")
	}
	r.Add("a", func(context.Context) error { return nil })
	if report := r.Check(t.Context()); !report.OK || len(report.Checks) != 1 {
		t.Errorf("report = %+v", report)
	}
}

func TestHandlers_AnswerWithStatusAndReport(t *testing.T) {
	r := New(quiet())
	r.Add("a", func(context.Context) error { return fault.New(fault.Unavailable, "away") })
	tests := []struct {
		handler http.Handler
		status  int
		body    string
	}{
		{r.LiveHandler(), 200, `{"status":"healthy"}` + "\n"},
		{r.ReadyHandler(), 503, `{"status":"unavailable","checks":[{"name":"a","ok":false,"error":"away","duration_ms":0}]}` + "\n"},
	}
	for _, tt := range tests {
		w := httptest.NewRecorder()
		tt.handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
		if w.Code != tt.status || w.Body.String() != tt.body || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
}
