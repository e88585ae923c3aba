package api

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/services/audit/internal/chain"
)

// at is an event at a time of its own.
func at(id string, t time.Time) chain.Event {
	e := event(id, "ada", "api_get", "api", "/")
	e.At = t
	return e
}

// Trap 75: filters by time, in the order of time, whatever the order of arrival.
func TestList_ByTimeShowsWhatHappenedThen(t *testing.T) {
	pool := newPool(t)
	noon := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	// The second arrived late.
	store(t, pool, at("ae-noon", noon), at("ae-before", noon.Add(-time.Microsecond)), at("ae-after", noon.Add(time.Microsecond)))
	for query, want := range map[string][]string{
		"":                            {"ae-after", "ae-noon", "ae-before"},
		"since=2026-11-23T12:00:00Z":  {"ae-after", "ae-noon"},
		"after=2026-11-23T12:00:00Z":  {"ae-after", "ae-noon"},
		"until=2026-11-23T12:00:00Z":  {"ae-before"},
		"before=2026-11-23T12:00:00Z": {"ae-before"},
		"since=2026-11-23T12:00:00.0000001Z&until=2026-11-23T12:00:00.000002Z":       {"ae-after"},
		"since=2026-11-23T13:00:00%2B01:00&until=2026-11-23T13:00:00.000001%2B01:00": {"ae-noon"},
		"since=2026-11-23T12:00:00Z&until=2026-11-23T12:00:00Z":                      {},
		"since=2027-01-01T00:00:00Z":                                                 {},
		"until=0001-01-01T00:00:00Z":                                                 {"ae-after", "ae-noon", "ae-before"},
	} {
		l := list(t, pool, query)
		if d := cmp.Diff(want, ids(l)); d != "" || l.Total != int64(len(want)) {
			t.Errorf("%s: %d of %d\n%s", query, len(l.Data), l.Total, d)
		}
	}
}

func TestList_ByCursorKeepsToItsTimes(t *testing.T) {
	pool := newPool(t)
	noon := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	var want []string
	for i := range 12 {
		// Two events a minute, of which each page may end between.
		e := at(fmt.Sprintf("ae-%02d", i), noon.Add(time.Duration(i/2)*time.Minute))
		store(t, pool, e)
		if i >= 4 && i < 10 {
			want = append([]string{e.ID}, want...)
		}
	}
	var got []string
	query := "per_page=1&since=2026-11-23T12:02:00Z&until=2026-11-23T12:05:00Z"
	for cursor := ""; ; {
		l := list(t, pool, query+cursor)
		got = append(got, ids(l)...)
		if l.NextCursor == nil {
			break
		}
		cursor = "&cursor=" + url.QueryEscape(*l.NextCursor)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// Trap 75: by resource.
func TestListOfResource_ShowsWhatHappenedToItAlone(t *testing.T) {
	pool := newPool(t)
	store(t, pool,
		event("ae-1", "ada", "certificate_created", "certificate", "mc-1"),
		event("ae-2", "ada", "api_get", "api", "/api/v1/certificates/mc-1"),
		event("ae-3", "bob", "renewal_triggered", "certificate", "mc-1"),
		event("ae-4", "bob", "create_target", "target", "mc-1"),
	)
	for path, want := range map[string][]string{
		"certificate/mc-1":                            {"ae-3", "ae-1"},
		"certificate/mc-1?actor=ada":                  {"ae-1"},
		"certificate/mc-1?action=api_get":             {},
		"certificate/mc-1?per_page=1&page=2":          {"ae-1"},
		"certificate/mc-1?since=2027-01-01T00:00:00Z": {},
		"target/mc-1":                                 {"ae-4"},
		"target/mc-2":                                 {},
		"api/%2Fapi%2Fv1%2Fcertificates%2Fmc-1":       {"ae-2"},
	} {
		w := ask(t, pool, auditor, "/api/v1/audit/resources/"+path)
		if w.Code != http.StatusOK {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
			continue
		}
		if d := cmp.Diff(want, ids(decoded(t, w.Body.Bytes()))); d != "" {
			t.Errorf("%s:\n%s", path, d)
		}
	}
	if w := ask(t, pool, auditor, "/api/v1/audit/resources/api/%00"); w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "resource_id") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
