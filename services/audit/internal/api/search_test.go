package api

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestList_AnswersSearchExpressions(t *testing.T) {
	pool := newPool(t)
	store(t, pool,
		event("ae-1", "ada", "certificate_created", "certificate", "mc-1"),
		event("ae-2", "bob", "certificate_archived", "certificate", "mc-1"),
		event("ae-3", "bob", "api_get", "api", "/api/v1/certificates"),
	)
	for q, want := range map[string][]string{
		`actor == "bob" && resource_type == "certificate"`:           {"ae-2"},
		`action.startsWith("certificate_")`:                          {"ae-2", "ae-1"},
		`resource_id.contains("'")`:                                  {},
		`sequence >= 2 && actor_type in ["User", "Agent"]`:           {"ae-3", "ae-2"},
		`timestamp < timestamp("2026-11-23T12:00:01Z")`:              {"ae-3", "ae-2", "ae-1"},
		`timestamp > now()`:                                          {},
		`id == "'; DELETE FROM audit_events; --" || !(1 < sequence)`: {"ae-1"},
	} {
		l := list(t, pool, "q="+url.QueryEscape(q))
		if d := cmp.Diff(want, ids(l)); d != "" || l.Total != int64(len(want)) {
			t.Errorf("%s: total %d\n%s", q, l.Total, d)
		}
	}
	for _, q := range []string{`details == "x"`, `actor_type == "Robot"`, `actor`, "\x00"} {
		w := ask(t, pool, auditor, "/api/v1/audit?q="+url.QueryEscape(q))
		if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "the fields are id, sequence, actor") {
			t.Errorf("%s: %d %s", q, w.Code, w.Body)
		}
	}
}
