package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	"github.com/certctl/certctl/contracts/httpapi/auditapi"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/page"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/libs/testkit/pgtest"
	"github.com/certctl/certctl/migrations"
	"github.com/certctl/certctl/services/audit/internal/chain"
	"github.com/certctl/certctl/services/audit/internal/postgres"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.M{M: m}) }

var auditor = authn.Principal{ID: "key-1", Kind: authn.KindUser, Roles: []string{"admin"}}

func newPool(t *testing.T) *pgxpool.Pool { return pgtest.New(t, migrations.FS("audit"), "audit") }

func store(t *testing.T, pool *pgxpool.Pool, events ...chain.Event) {
	t.Helper()
	err := pg.InTx(t.Context(), pool, func(tx pgx.Tx) error {
		_, err := postgres.Append(t.Context(), tx, events)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func event(id, actor, action, resourceType, resourceID string) chain.Event {
	return chain.Event{
		ID: id, Actor: actor, ActorType: "User", Action: action, ResourceType: resourceType, ResourceID: resourceID,
		Details: `{"n":9007199254740993}`, At: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC),
	}
}

func ask(t *testing.T, pool *pgxpool.Pool, as authn.Principal, target string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
	r = r.WithContext(authn.NewContext(r.Context(), as))
	w := httptest.NewRecorder()
	API{Pool: pool}.Handler().ServeHTTP(w, r)
	return w
}

func list(t *testing.T, pool *pgxpool.Pool, query string) auditapi.AuditEventList {
	t.Helper()
	w := ask(t, pool, auditor, "/api/v1/audit?"+query)
	var l auditapi.AuditEventList
	if err := json.Unmarshal(w.Body.Bytes(), &l); err != nil || w.Code != http.StatusOK {
		t.Fatalf("%s: %d %s (%v)", query, w.Code, w.Body, err)
	}
	return l
}

func ids(l auditapi.AuditEventList) []string {
	all := []string{}
	for _, e := range l.Data {
		all = append(all, e.ID)
	}
	return all
}

func TestList_ShowsWhatIsAskedForNewestFirst(t *testing.T) {
	pool := newPool(t)
	store(t, pool,
		event("ae-1", "ada", "certificate_created", "certificate", "mc-1"),
		event("ae-2", "ada", "api_post", "api", "/api/v1/certificates"),
		event("ae-3", "bob", "certificate_created", "certificate", "mc-2"),
		event("ae-4", "bob", "create_target", "target", "mc-1"),
	)
	cases := map[string][]string{
		"":                                     {"ae-4", "ae-3", "ae-2", "ae-1"},
		"actor=ada":                            {"ae-2", "ae-1"},
		"action=certificate_created":           {"ae-3", "ae-1"},
		"resource_type=certificate":            {"ae-3", "ae-1"},
		"resource_id=mc-1":                     {"ae-4", "ae-1"},
		"resource_type=target&actor=bob":       {"ae-4"},
		"resource_id=/api/v1/certificates":     {"ae-2"},
		"actor=ADA":                            {},
		"actor=a%25":                           {},
		"actor=ada'%20OR%20'1'='1":             {},
		"actor=&action=":                       {"ae-4", "ae-3", "ae-2", "ae-1"},
		"per_page=2&page=2":                    {"ae-2", "ae-1"},
		"per_page=3&page=2&actor=ada":          {},
		"resource=certificate":                 {"ae-3", "ae-1"},
		"resource=certificate/mc-2":            {"ae-3"},
		"resource=api//api/v1/certificates":    {"ae-2"},
		"resource=target&resource_type=target": {"ae-4"},
	}
	for query, want := range cases {
		l := list(t, pool, query)
		if d := cmp.Diff(want, ids(l)); d != "" {
			t.Errorf("%s:\n%s", query, d)
		}
	}
	if l := list(t, pool, "per_page=1&actor=ada"); l.Total != 2 || l.Page != 1 || l.PerPage != 1 {
		t.Errorf("total %d, page %d of %d", l.Total, l.Page, l.PerPage)
	}
	if l := list(t, pool, "per_page=100000"); l.Total != 4 || l.PerPage != page.MaxSize || l.NextCursor != nil {
		t.Errorf("total %d, per page %d, cursor %v", l.Total, l.PerPage, l.NextCursor)
	}
}

func TestList_ByCursorShowsEachEventOnceWhileOthersAreAdded(t *testing.T) {
	pool := newPool(t)
	var want []string
	for i := range 23 {
		id := fmt.Sprintf("ae-%02d", i)
		store(t, pool, event(id, "ada", "api_get", "api", "/"), event("ae-other-"+id, "bob", "api_get", "api", "/"))
		want = append(want, id)
	}
	slices.Reverse(want)
	for _, size := range []int{1, 5, 23, 24} {
		var got []string
		query := fmt.Sprintf("actor=ada&per_page=%d", size)
		for cursor, n := "", 0; ; n++ {
			l := list(t, pool, query+cursor)
			got = append(got, ids(l)...)
			store(t, pool, event(fmt.Sprintf("ae-new-%d-%d", size, n), "ada", "api_get", "api", "/"))
			if l.NextCursor == nil {
				break
			}
			cursor = "&cursor=" + url.QueryEscape(*l.NextCursor)
		}
		got = slices.DeleteFunc(got, func(id string) bool { return strings.HasPrefix(id, "ae-new") })
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%d a page:\n%s", size, d)
		}
	}
}

func TestList_RefusesWhatNoListHasGivenOrCanBe(t *testing.T) {
	pool := newPool(t)
	store(t, pool, event("ae-1", "ada", "api_get", "api", "/"))
	for query, field := range map[string]string{
		"cursor=x": "cursor",
		"cursor=" + page.At(time.Now(), "ae-1").String():                 "cursor",
		"cursor=" + page.At(time.Now(), "0").String():                    "cursor",
		"cursor=" + page.At(time.Now(), "-1").String():                   "cursor",
		"cursor=" + page.At(time.Now(), "99999999999999999999").String(): "cursor",
		"cursor=" + page.Cursor{Key: "a moment ago", ID: "1"}.String():   "cursor",
		"since=yesterday":            "since",
		"until=2026-13-01T00:00:00Z": "until",
		"after=1":                    "after",
		"since=2026-11-23T12:00:00Z&until=2026-11-23T11:00:00Z": "until",
		"since=2026-11-23T12:00:00Z&after=2026-11-23T11:00:00Z": "after",
		"resource_type=a&resource=b":                            "resource",
		"resource=%00":                                          "resource",
		"page=0":                                                "page",
		"page=201":                                              "page",
		"page=abc":                                              "page",
		"per_page=0":                                            "per_page",
		"per_page=1.5":                                          "per_page",
		"actor=%00":                                             "actor",
		"action=a%00b":                                          "action",
		"resource_id=%ff":                                       "resource_id",
		"resource_type=%c3%28":                                  "resource_type",
	} {
		w := ask(t, pool, auditor, "/api/v1/audit?"+query)
		if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), field) {
			t.Errorf("%s: %d %s", query, w.Code, w.Body)
		}
	}
}

func TestGet_ReturnsTheEventWithItsPlaceInTheChain(t *testing.T) {
	pool := newPool(t)
	store(t, pool, event("ae-1", "ada", "api_get", "api", "/"))
	var raw map[string]json.RawMessage
	w := ask(t, pool, auditor, "/api/v1/audit/ae-1")
	if err := json.Unmarshal(w.Body.Bytes(), &raw); err != nil || w.Code != http.StatusOK {
		t.Fatal(w.Code, w.Body)
	}
	want := map[string]string{
		"id": `"ae-1"`, "sequence": `1`, "actor": `"ada"`, "actor_type": `"User"`, "resource_id": `"/"`,
		"timestamp": `"2026-11-23T12:00:00Z"`, "details": `{"n":9007199254740993}`,
	}
	for field, value := range want {
		if string(raw[field]) != value {
			t.Errorf("%s is %s, want %s", field, raw[field], value)
		}
	}
	if len(raw["hash"]) != 64+2 {
		t.Errorf("hash is %s", raw["hash"])
	}
	// An id is that of the event, not that of what it is about.
	for _, id := range []string{"ae-2", "ada", "%00", "ae-1%00", "%ff", "1"} {
		if w := ask(t, pool, auditor, "/api/v1/audit/"+id); w.Code != http.StatusNotFound {
			t.Errorf("%s: %d %s", id, w.Code, w.Body)
		}
	}
}

func TestAudit_IsForThoseWhoMaySeeEverything(t *testing.T) {
	pool := newPool(t)
	store(t, pool, event("ae-1", "ada", "api_get", "api", "/"))
	limited := auditor
	limited.Scope.Teams = []string{"t-1"}
	for _, path := range []string{
		"/api/v1/audit", "/api/v1/audit/ae-1", "/api/v1/audit/resources/api/x", "/api/v1/audit/export", "/api/v1/audit/checkpoints",
		"/api/v1/audit/checkpoints/key", "/api/v1/dead-letters",
	} {
		if w := ask(t, pool, authn.Principal{}, path); w.Code != http.StatusUnauthorized {
			t.Errorf("%s as nobody: %d", path, w.Code)
		}
		if w := ask(t, pool, limited, path); w.Code != http.StatusForbidden {
			t.Errorf("%s within a team: %d", path, w.Code)
		}
	}
}

func TestAudit_SaysThatItsDatabaseIsAway(t *testing.T) {
	pool := newPool(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := httptest.NewRequestWithContext(authn.NewContext(ctx, auditor), http.MethodGet, "/api/v1/audit", nil)
	w := httptest.NewRecorder()
	API{Pool: pool}.Handler().ServeHTTP(w, r)
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
