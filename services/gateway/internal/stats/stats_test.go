package stats

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/contracts/httpapi/client"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/httpx"
	"github.com/certctl/certctl/libs/natshttp"
)

// fleet answers as the owners do, by service and operation.
type fleet map[string]any

func (f fleet) RoundTrip(r *http.Request) (*http.Response, error) {
	route, _ := natshttp.RouteOf(r.Context())
	v, ok := f[route.Service+" "+route.Operation]
	if !ok {
		return nil, fault.New(fault.Unavailable, "%s is not running", route.Service)
	}
	w := httptest.NewRecorder()
	if err, refused := v.(error); refused {
		httpx.WriteProblem(w, r, err)
	} else {
		httpx.WriteJSON(w, http.StatusOK, v)
	}
	return &http.Response{StatusCode: w.Code, Body: io.NopCloser(bytes.NewReader(w.Body.Bytes()))}, nil
}

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func get(t *testing.T, h http.Handler, into any) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
	if err := json.Unmarshal(w.Body.Bytes(), into); err != nil || w.Code != http.StatusOK {
		t.Fatalf("%d %s %v", w.Code, w.Body, err)
	}
}

// fill sets every integer within v, wherever it stands, to a number of its own.
func fill(v reflect.Value, next *int64) {
	switch v.Kind() {
	case reflect.Struct:
		for _, field := range v.Fields() {
			if field.CanSet() {
				fill(field, next)
			}
		}
	case reflect.Int64:
		*next++
		v.SetInt(*next)
	default:
	}
}

// filled is a document of which every figure is another one, times n.
func filled[T any](n int64) T {
	var v T
	var next int64
	fill(reflect.ValueOf(&v).Elem(), &next)
	var times func(reflect.Value)
	times = func(v reflect.Value) {
		if v.Kind() == reflect.Struct {
			for _, field := range v.Fields() {
				times(field)
			}
		} else if v.Kind() == reflect.Int64 && v.CanSet() {
			v.SetInt(v.Int() * n)
		}
	}
	times(reflect.ValueOf(&v).Elem())
	return v
}

// TestSummary_AddsEveryFigureAndSaysItTwice would notice a field that is new and not added.
func TestSummary_AddsEveryFigureAndSaysItTwice(t *testing.T) {
	a, b, want := filled[client.StatsFigures](1), filled[client.StatsFigures](10), filled[client.StatsFigures](11)
	a.CompletedAt, b.CompletedAt, want.CompletedAt = now, now.Add(-time.Second), now.Add(-time.Second)
	var got struct {
		client.StatsFigures
		Data *client.StatsFigures
	}
	get(t, New(fleet{"issuer getStatsSummary": a, "deployment getStatsSummary": b}, clock.System).Summary(), &got)
	if d := cmp.Diff(want, got.StatsFigures); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(&want, got.Data); d != "" {
		t.Errorf("under data:\n%s", d)
	}
}

// Trap 83: every gauge and counter is the owners' own count, none the rest of others.
func TestMetrics_AddsEveryGaugeAndCounterAndTellsTheGatewaysUptime(t *testing.T) {
	a, b, want := filled[client.FleetMetrics](1), filled[client.FleetMetrics](10), filled[client.FleetMetrics](11)
	a.Uptime.MeasuredAt, b.Uptime.MeasuredAt = now, now.Add(time.Second)
	c := clock.At(now)
	f := New(fleet{"issuer getFleetMetrics": a, "deployment getFleetMetrics": b}, c)
	c.Advance(90 * time.Second)
	want.Uptime.MeasuredAt, want.Uptime.ServerStarted, want.Uptime.UptimeSeconds = now, now, 90
	var got client.FleetMetrics
	get(t, f.Metrics(), &got)
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestJobTrends_AddsDayByDayAndTellsTheShareOfSuccess(t *testing.T) {
	issuer := []client.StatsJobs{{Date: "2026-11-22", CompletedCount: 2}, {Date: "2026-11-23", CompletedCount: 1, FailedCount: 1}, {Date: "2026-11-24"}}
	// The deployment service has not begun the 24th.
	deployment := []client.StatsJobs{{Date: "2026-11-21", CompletedCount: 9}, {Date: "2026-11-22", FailedCount: 1}, {Date: "2026-11-23", CompletedCount: 2}}
	var got []client.StatsJobs
	get(t, New(fleet{"issuer getStatsJobTrends": issuer, "deployment getStatsJobTrends": deployment}, clock.System).JobTrends(), &got)
	want := []client.StatsJobs{
		{Date: "2026-11-22", CompletedCount: 2, FailedCount: 1, SuccessRate: 66.67},
		{Date: "2026-11-23", CompletedCount: 3, FailedCount: 1, SuccessRate: 75},
		{Date: "2026-11-24"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestFigures_SayWhichOwnerIsAwayOrWhatItRefused(t *testing.T) {
	for name, c := range map[string]struct {
		fleet  fleet
		status int
		says   string
	}{
		"away":    {fleet{"issuer getStatsJobTrends": []client.StatsJobs{}}, http.StatusServiceUnavailable, "deployment is not running"},
		"refused": {fleet{"issuer getStatsJobTrends": fault.InvalidFields(fault.Field{Name: "days", Reason: "must be from 1 to 365"}), "deployment getStatsJobTrends": []client.StatsJobs{}}, http.StatusBadRequest, `"field":"days"`},
	} {
		w := httptest.NewRecorder()
		New(c.fleet, clock.System).JobTrends().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/?days=0", nil))
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
}
