package app_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/httpapi/issuerapi"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/services/issuer/internal/app"
)

const (
	teams  = "/api/v1/teams"
	owners = "/api/v1/owners"
)

// put changes a resource on condition of an entity tag, if one is given, and returns the new one.
func (w *world) put(want int, operation, path string, body any, ifMatch string, into any) string {
	w.t.Helper()
	header := http.Header{}
	if ifMatch != "" {
		header.Set("If-Match", ifMatch)
	}
	status, answered, text := w.exchange(http.MethodPut, operation, path, body, header)
	if status != want {
		w.t.Fatalf("PUT %s: %d, want %d: %s", path, status, want, text)
	}
	if into != nil {
		if err := json.Unmarshal(text, into); err != nil {
			w.t.Fatalf("PUT %s: %v: %s", path, err, text)
		}
	}
	return answered.Get("ETag")
}

// tag gets a resource and returns its entity tag.
func (w *world) tag(operation, path string) string {
	w.t.Helper()
	status, header, text := w.exchange(http.MethodGet, operation, path, nil, nil)
	tag := header.Get("ETag")
	if status != http.StatusOK || !strings.HasPrefix(tag, `"`) {
		w.t.Fatalf("GET %s: %d, tag %q: %s", path, status, tag, text)
	}
	return tag
}

func (w *world) team(id, name string) (t issuerapi.Team) {
	w.t.Helper()
	w.must(http.StatusCreated, http.MethodPost, "createTeam", teams, map[string]any{"id": id, "name": name}, &t)
	return t
}

func (w *world) owner(id, team string) (o issuerapi.Owner) {
	w.t.Helper()
	w.must(http.StatusCreated, http.MethodPost, "createOwner", owners, map[string]any{"id": id, "name": id, "team_id": team}, &o)
	return o
}

func TestTeam_LivesByTheAPIAndTellsOfEachChange(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	var made issuerapi.Team
	w.must(http.StatusCreated, http.MethodPost, "createTeam", teams,
		`{"id":"t-web","name":" Web ","email":"web@example.com","members":[{"name":"Ada","email":"ada@example.com"}],"color":"blue"}`, &made)
	if made.ID != "t-web" || made.Name != "Web" || made.Email != "web@example.com" || len(made.Members) != 1 || made.Description != "" {
		t.Errorf("made %+v", made)
	}
	var anonymous issuerapi.Team
	w.must(http.StatusCreated, http.MethodPost, "createTeam", teams, map[string]any{"name": "Other"}, &anonymous)
	if !strings.HasPrefix(anonymous.ID, "t-") || anonymous.Members == nil {
		t.Errorf("without an id: %+v", anonymous)
	}
	w.refused(http.StatusConflict, http.MethodPost, "createTeam", teams, map[string]any{"id": "t-web", "name": "Web"})

	// As the MCP server does: its input, with the id, and nothing but what is to change.
	var changed issuerapi.Team
	w.put(http.StatusOK, "updateTeam", teams+"/t-web", map[string]any{"id": "t-web", "description": "Runs the web"}, "", &changed)
	made.Description, made.UpdatedAt = "Runs the web", changed.UpdatedAt
	if d := cmp.Diff(made, changed); d != "" {
		t.Errorf("more changed than was asked for (-want +got):\n%s", d)
	}
	w.put(http.StatusOK, "updateTeam", teams+"/t-web", map[string]any{"description": "Runs the web"}, "", nil)
	w.must(http.StatusNoContent, http.MethodDelete, "deleteTeam", teams+"/t-web", nil, nil)
	w.refused(http.StatusNotFound, http.MethodGet, "getTeam", teams+"/t-web", nil)
	w.refused(http.StatusNotFound, http.MethodPut, "updateTeam", teams+"/t-web", map[string]any{"name": "x"})
	w.refused(http.StatusNotFound, http.MethodDelete, "deleteTeam", teams+"/t-web", nil)

	_, last := hear(w, func(e event.TeamChanged) bool { return e.ID == "t-web" && e.Verb == event.Deleted })
	told := all(w.heard, func(e event.TeamChanged) bool { return e.ID == "t-web" })
	if len(told) != 3 || last.AggVersion != 3 || last.Actor != admin.ID || last.CorrelationID == "" {
		t.Fatalf("told %d times, last %+v", len(told), last.Message)
	}
	update := told[1].Event.(event.TeamChanged)
	want := event.Changes{"description": {Before: "", After: "Runs the web"}}
	if d := cmp.Diff(want, update.Changes); d != "" || update.Verb != event.Updated || update.Name != "Web" {
		t.Errorf("told %+v\n%s", update, d)
	}
}

func TestTeam_NamesWhatIsWrong(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	for body, field := range map[string]string{
		`{}`:                        "name",
		`{"name":"  "}`:             "name",
		`{"name":"a\u0000b"}`:       "name",
		`{"name":"x","id":"T-Web"}`: "id",
		`{"name":"x","email":"no"}`: "email",
		`{"name":"x","email":"A <a@example.com>"}`:           "email",
		`{"name":"x","members":[{"name":"","email":""}]}`:    "members[0].name",
		`{"name":"x","members":[{"name":"a","email":"@"}]}`:  "members[0].email",
		`{"name":"x","description":7}`:                       "description",
		fmt.Sprintf(`{"name":%q}`, strings.Repeat("ü", 256)): "name",
	} {
		p := w.refused(http.StatusBadRequest, http.MethodPost, "createTeam", teams, body)
		if len(p.Errors) != 1 || p.Errors[0].Name != field {
			t.Errorf("%s: fields %+v, want %s", body, p.Errors, field)
		}
	}
	for query, field := range map[string]string{"sort=size": "sort", "page=0": "page", "cursor=x": "cursor", "name=%00": "name"} {
		p := w.refused(http.StatusBadRequest, http.MethodGet, "listTeams", teams+"?"+query, nil)
		if len(p.Errors) != 1 || p.Errors[0].Name != field {
			t.Errorf("%s: fields %+v, want %s", query, p.Errors, field)
		}
	}
	w.refused(http.StatusNotFound, http.MethodGet, "getTeam", teams+"/T-Web", nil)
}

func TestTeam_InUseIsNotRemovedAndItsUsersAreListed(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.team("t-web", "Web")
	for i := range 12 {
		w.owner(fmt.Sprintf("o-%02d", i), "t-web")
	}
	c := w.create(map[string]any{"common_name": "www.example.com", "team_id": "t-web", "owner_id": "o-03"})
	p := w.refused(http.StatusConflict, http.MethodDelete, "deleteTeam", teams+"/t-web", nil)
	for _, want := range []string{"12 owners", "o-00", "o-09", "1 certificate (" + c.ID + ")"} {
		if !strings.Contains(p.Message, want) {
			t.Errorf("%q does not say %q", p.Message, want)
		}
	}
	if strings.Contains(p.Message, "o-10") {
		t.Errorf("%q lists more than ten", p.Message)
	}
	p = w.refused(http.StatusConflict, http.MethodDelete, "deleteOwner", owners+"/o-03", nil)
	if !strings.Contains(p.Message, c.ID) {
		t.Errorf("message %q", p.Message)
	}
	w.must(http.StatusNoContent, http.MethodDelete, "deleteOwner", owners+"/o-04", nil, nil)
	for operation, path := range map[string]string{"deleteTeam": teams + "/t-default", "deleteOwner": owners + "/o-default"} {
		p := w.refused(http.StatusConflict, http.MethodDelete, operation, path, nil)
		if !strings.Contains(p.Message, "stays") {
			t.Errorf("message %q", p.Message)
		}
	}
}

// What refers to a team comes while the team goes: either is refused in words, and nothing refers to what is not there.
func TestTeam_RemovedBesideCreationsLeavesNothingBehind(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	for round := range 5 {
		teamID := fmt.Sprintf("t-%d", round)
		w.team(teamID, "Team")
		var wg sync.WaitGroup
		for i := range 6 {
			wg.Go(func() {
				var status int
				var text []byte
				switch i % 3 {
				case 0:
					status, text = w.try(http.MethodDelete, "deleteTeam", teams+"/"+teamID, nil)
				case 1:
					status, text = w.try(http.MethodPost, "createOwner", owners, map[string]any{"name": "x", "team_id": teamID})
				default:
					status, text = w.try(http.MethodPost, "createCertificate", certificates, map[string]any{"common_name": "www.example.com", "team_id": teamID})
				}
				if status >= http.StatusInternalServerError {
					t.Errorf("%d %s", status, text)
				}
			})
		}
		wg.Wait()
	}
}

func TestOwner_LivesByTheAPIAndTellsOfEachChange(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.team("t-web", "Web")
	var o issuerapi.Owner
	w.must(http.StatusCreated, http.MethodPost, "createOwner", owners, map[string]any{"id": "o-ada", "name": "Ada", "email": "ada@example.com"}, &o)
	if o.TeamID != "t-default" {
		t.Errorf("without a team: %+v", o)
	}
	w.refused(http.StatusConflict, http.MethodPost, "createOwner", owners, map[string]any{"id": "o-ada", "name": "Ada"})
	for _, call := range []struct{ method, operation, path string }{
		{http.MethodPost, "createOwner", owners}, {http.MethodPut, "updateOwner", owners + "/o-ada"},
	} {
		p := w.refused(http.StatusBadRequest, call.method, call.operation, call.path, map[string]any{"name": "x", "team_id": "t-none"})
		if len(p.Errors) != 1 || p.Errors[0].Name != "team_id" {
			t.Errorf("fields %+v", p.Errors)
		}
	}
	var changed issuerapi.Owner
	w.put(http.StatusOK, "updateOwner", owners+"/o-ada", map[string]any{"team_id": "t-web"}, "", &changed)
	o.TeamID, o.UpdatedAt = "t-web", changed.UpdatedAt
	if d := cmp.Diff(o, changed); d != "" {
		t.Errorf("more changed than was asked for (-want +got):\n%s", d)
	}
	w.must(http.StatusNoContent, http.MethodDelete, "deleteOwner", owners+"/o-ada", nil, nil)
	hear(w, func(e event.OwnerChanged) bool { return e.ID == "o-ada" && e.Verb == event.Deleted })
	updated := all(w.heard, func(e event.OwnerChanged) bool { return e.Verb == event.Updated })
	want := event.Changes{"team_id": {Before: "t-default", After: "t-web"}}
	if len(updated) != 1 || cmp.Diff(want, updated[0].Event.(event.OwnerChanged).Changes) != "" {
		t.Errorf("told %+v", updated)
	}
}

// Two who have read the same state and change it at once: the second is told, and nothing of the first is lost.
func TestUpdate_OfWhatChangedMeanwhileIsRefused(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.team("t-web", "Web")
	w.owner("o-ada", "t-web")
	c := w.create(map[string]any{"common_name": "www.example.com", "csr_pem": csrFor(t, "www.example.com")})
	for _, r := range []struct{ get, put, path string }{
		{"getTeam", "updateTeam", teams + "/t-web"},
		{"getOwner", "updateOwner", owners + "/o-ada"},
		{"getIssuer", "updateIssuer", issuers + "/iss-local"},
		{"getCertificate", "updateCertificate", certificates + "/" + c.ID},
	} {
		t.Run(r.put, func(t *testing.T) {
			seen := w.tag(r.get, r.path)
			next := w.put(http.StatusOK, r.put, r.path, map[string]any{"name": "first"}, seen, nil)
			if next == seen || next != w.tag(r.get, r.path) {
				t.Errorf("tags %s, then %s, then %s", seen, next, w.tag(r.get, r.path))
			}
			var p problem
			w.put(http.StatusPreconditionFailed, r.put, r.path, map[string]any{"name": "second"}, seen, &p)
			if !strings.Contains(p.Message, next) {
				t.Errorf("message %q does not say %s", p.Message, next)
			}
			w.put(http.StatusOK, r.put, r.path, map[string]any{"name": "third"}, "*", nil)

			// Of many who saw the same, one prevails.
			seen = w.tag(r.get, r.path)
			var done atomic.Int32
			var wg sync.WaitGroup
			for i := range 8 {
				wg.Go(func() {
					header := http.Header{"If-Match": {seen}}
					switch status, _, text := w.exchange(http.MethodPut, r.put, r.path, map[string]any{"name": fmt.Sprint("n", i)}, header); status {
					case http.StatusOK:
						done.Add(1)
					case http.StatusPreconditionFailed:
					default:
						t.Errorf("%d %s", status, text)
					}
				})
			}
			wg.Wait()
			if done.Load() != 1 {
				t.Errorf("%d of 8 prevailed", done.Load())
			}
		})
	}
}

func TestTeams_AreListedInEveryOrderEachOnce(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	for i := range 9 {
		w.team(fmt.Sprintf("t-%d", i), fmt.Sprintf("Team %d", i*4%9))
	}
	for _, sort := range []string{"", "createdAt", "-createdAt", "name", "-name"} {
		query := url.Values{"per_page": {"4"}, "sort": {sort}}
		seen := map[string]int{}
		for range 4 {
			var l issuerapi.TeamList
			w.must(http.StatusOK, http.MethodGet, "listTeams", teams+"?"+query.Encode(), nil, &l)
			for _, team := range l.Data {
				seen[team.ID]++
			}
			if l.Total != 10 {
				t.Errorf("sort %q: total %d", sort, l.Total)
			}
			if l.NextCursor == nil {
				break
			}
			query.Set("cursor", *l.NextCursor)
		}
		if len(seen) != 10 {
			t.Errorf("sort %q: saw %v", sort, seen)
		}
	}
	var l issuerapi.TeamList
	w.must(http.StatusOK, http.MethodGet, "listTeams", teams+"?name=Team+8", nil, &l)
	if len(l.Data) != 1 || l.Data[0].Name != "Team 8" {
		t.Errorf("by name: %+v", l)
	}
	var o issuerapi.OwnerList
	w.owner("o-1", "t-1")
	w.must(http.StatusOK, http.MethodGet, "listOwners", owners+"?team_id=t-1&sort=-name", nil, &o)
	if len(o.Data) != 1 || o.Data[0].ID != "o-1" || o.Total != 1 {
		t.Errorf("owners of a team: %+v", o)
	}
}

// A team's operator has its own team, and no other.
func TestScope_KeepsATeamsOperatorWithinItsTeam(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.team("t-web", "Web")
	w.team("t-db", "Databases")
	w.owner("o-web", "t-web")
	w.owner("o-db", "t-db")
	mine := w.create(map[string]any{"common_name": "www.example.com", "team_id": "t-web", "csr_pem": csrFor(t, "www.example.com")})
	other := w.create(map[string]any{"common_name": "db.example.com", "team_id": "t-db", "csr_pem": csrFor(t, "db.example.com")})

	w.as = authn.Principal{ID: "key-web", Kind: authn.KindUser, Roles: []string{"operator"}, Scope: authn.Scope{Teams: []string{"t-web"}}}
	name := map[string]any{"name": "mine now"}
	for _, call := range []struct {
		method, operation, path string
		body                    any
	}{
		{http.MethodGet, "getTeam", teams + "/t-db", nil},
		{http.MethodPut, "updateTeam", teams + "/t-db", name},
		{http.MethodDelete, "deleteTeam", teams + "/t-db", nil},
		{http.MethodGet, "getOwner", owners + "/o-db", nil},
		{http.MethodPut, "updateOwner", owners + "/o-db", name},
		{http.MethodDelete, "deleteOwner", owners + "/o-db", nil},
		{http.MethodPut, "updateCertificate", certificates + "/" + other.ID, name},
	} {
		w.refused(http.StatusNotFound, call.method, call.operation, call.path, call.body)
	}
	for _, call := range []struct {
		method, operation, path string
		body                    map[string]any
	}{
		{http.MethodPost, "createTeam", teams, map[string]any{"name": "New"}},
		{http.MethodPost, "createOwner", owners, map[string]any{"name": "x", "team_id": "t-db"}},
		{http.MethodPut, "updateOwner", owners + "/o-web", map[string]any{"team_id": "t-db"}},
		{http.MethodPut, "updateCertificate", certificates + "/" + mine.ID, map[string]any{"team_id": "t-db"}},
		{http.MethodPut, "updateIssuer", issuers + "/iss-local", map[string]any{"enabled": false}},
		{http.MethodPost, "createIssuer", issuers, map[string]any{"name": "x", "type": "local"}},
		{http.MethodDelete, "deleteIssuer", issuers + "/iss-local", nil},
	} {
		w.refused(http.StatusForbidden, call.method, call.operation, call.path, call.body)
	}
	w.put(http.StatusOK, "updateTeam", teams+"/t-web", name, "", nil)
	w.put(http.StatusOK, "updateOwner", owners+"/o-web", name, "", nil)
	w.put(http.StatusOK, "updateCertificate", certificates+"/"+mine.ID, name, "", nil)
	var l issuerapi.TeamList
	w.must(http.StatusOK, http.MethodGet, "listTeams", teams, nil, &l)
	var o issuerapi.OwnerList
	w.must(http.StatusOK, http.MethodGet, "listOwners", owners, nil, &o)
	if len(l.Data) != 1 || l.Data[0].ID != "t-web" || len(o.Data) != 1 || o.Data[0].ID != "o-web" {
		t.Errorf("sees %+v and %+v", l.Data, o.Data)
	}

	w.as = authn.Principal{ID: "key-prod", Kind: authn.KindUser, Scope: authn.Scope{Environments: []string{"prod"}}}
	w.must(http.StatusOK, http.MethodGet, "listTeams", teams, nil, &l)
	if l.Total != 3 {
		t.Errorf("limited to an environment, it sees %d teams", l.Total)
	}
	w.refused(http.StatusForbidden, http.MethodPut, "updateTeam", teams+"/t-web", name)
	w.refused(http.StatusForbidden, http.MethodDelete, "deleteOwner", owners+"/o-db", nil)
	w.refused(http.StatusForbidden, http.MethodPost, "createOwner", owners, map[string]any{"name": "x"})
}
