package gateway_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/httpx"
	"github.com/certctl/certctl/services/gateway"
)

const keysPath = "/api/v1/api-keys"

func TestAPIKeys_AreShownOnceAndActAsThemselves(t *testing.T) {
	w := newWorld(t)
	w.own("issuer", echo)
	expires := time.Now().Add(24 * time.Hour).UTC().Truncate(time.Second)
	res, made := w.as(w.key, http.MethodPost, keysPath, map[string]any{
		"name": "pipeline", "roles": []string{"operator"}, "scope": map[string]any{"teams": []string{"t-web"}, "issuers": []string{}}, "expires_at": expires,
	})
	id, key := made["id"].(string), made["key"].(string)
	if res.StatusCode != http.StatusCreated || res.Header.Get("ETag") != `"1"` || made["status"] != "Active" || made["created_by"] != "key-first-admin" {
		t.Fatalf("%d %v", res.StatusCode, made)
	}
	if made["prefix"] != key[:12] || made["expires_at"] != expires.Format(time.RFC3339) {
		t.Errorf("made %v", made)
	}
	_, got := w.as(w.key, http.MethodGet, keysPath+"/"+id, nil)
	_, list := w.as(w.key, http.MethodGet, keysPath, nil)
	delete(made, "key")
	if diff := cmp.Diff(made, got); diff != "" {
		t.Error(diff)
	}
	if text := toJSON(t, list); strings.Contains(text, key) || strings.Contains(text, "hash") || strings.Contains(text, `"key":`) || list["total"] != 2.0 {
		t.Errorf("the list is %s", text)
	}

	// What the key does, it does by its own name, and within its own scope.
	res, check := w.as(key, http.MethodGet, "/api/v1/auth/check", nil)
	want := map[string]any{
		"status": "authenticated", "principal": "pipeline", "principal_id": id, "roles": []any{"operator"},
		"scope": map[string]any{"teams": []any{"t-web"}, "issuers": []any{}},
	}
	if diff := cmp.Diff(want, check); res.StatusCode != http.StatusOK || diff != "" {
		t.Errorf("%d %s", res.StatusCode, diff)
	}
	res, asked := w.as(key, http.MethodPost, "/api/v1/certificates", map[string]any{"common_name": "a.test"})
	if asked["as"] != id {
		t.Errorf("the owner was asked as %v", asked["as"])
	}
	if c := w.recorded(res.Header.Get("X-Request-ID")); c.Actor != id {
		t.Errorf("on record: %+v", c)
	}
}

func TestAPIKeys_CarryTheirScopeToTheOwners(t *testing.T) {
	w := newWorld(t)
	w.own("issuer", func(out http.ResponseWriter, r *http.Request) {
		httpx.WriteJSON(out, http.StatusOK, map[string]any{"principal": authn.FromContext(r.Context())})
	})
	for name, scope := range map[string]authn.Scope{
		"without limits": {},
		"of a team":      {Teams: []string{"t-a", "t-b"}},
		"of nothing":     {Teams: []string{}, Environments: []string{}, Issuers: []string{}, Profiles: []string{}},
		"of everything":  {Teams: []string{"t-a"}, Environments: []string{"prod"}, Issuers: []string{"iss-local"}, Profiles: []string{"prof-1"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, key := w.makeKey(map[string]any{"name": "x", "roles": []string{"viewer"}, "scope": scope})
			r := w.request(http.MethodGet, "/api/v1/certificates", "")
			r.Header.Set("Authorization", "Bearer "+key)
			_, body := w.do(r)
			var got struct{ Principal authn.Principal }
			if err := json.Unmarshal(body, &got); err != nil {
				t.Fatalf("%s: %v", body, err)
			}
			// Without EquateEmpty: an empty list admits nothing, and none admits everything.
			if diff := cmp.Diff(scope, got.Principal.Scope); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAPIKeys_AreChangedByMergingAndNotUnseen(t *testing.T) {
	w := newWorld(t)
	id, key := w.makeKey(map[string]any{"name": "x", "roles": []string{"operator"}, "expires_at": time.Now().Add(time.Hour)})
	path := keysPath + "/" + id
	res, got := w.as(w.key, http.MethodPut, path, map[string]any{"roles": []string{"viewer", "approver"}})
	if res.StatusCode != http.StatusOK || got["name"] != "x" || got["expires_at"] == nil || res.Header.Get("ETag") != `"2"` {
		t.Fatalf("%d %v", res.StatusCode, got)
	}
	if _, check := w.as(key, http.MethodGet, "/api/v1/auth/check", nil); !cmp.Equal(check["roles"], []any{"approver", "viewer"}) {
		t.Errorf("its roles are %v", check["roles"])
	}
	for tag, want := range map[string]int{`"1"`: http.StatusPreconditionFailed, `"2"`: http.StatusOK} {
		r := w.request(http.MethodPut, path, `{"never_expires":true,"scope":{"teams":["t-a"]}}`)
		r.Header.Set("If-Match", tag)
		if res, body := w.do(r); res.StatusCode != want {
			t.Errorf("If-Match %s: %d %s", tag, res.StatusCode, body)
		}
	}
	if _, got := w.as(w.key, http.MethodGet, path, nil); got["expires_at"] != nil || toJSON(t, got["scope"]) != `{"teams":["t-a"]}` {
		t.Errorf("it is %v", got)
	}
}

func TestAPIKeys_RefuseWhatIsWrongByName(t *testing.T) {
	w := newWorld(t)
	_, lead := w.makeKey(map[string]any{"name": "lead", "roles": []string{"admin"}, "scope": map[string]any{"teams": []string{"t-a"}}})
	id, _ := w.makeKey(map[string]any{"name": "x", "roles": []string{"viewer"}})
	for _, c := range []struct {
		name, as, method, path string
		body                   any
		status                 int
		says                   string
	}{
		{"no roles", w.key, "POST", keysPath, map[string]any{"name": "x"}, 400, "roles"},
		{"an unknown role", w.key, "POST", keysPath, map[string]any{"name": "x", "roles": []string{"root"}}, 400, "roles[0]"},
		{"no name", w.key, "POST", keysPath, map[string]any{"name": " ", "roles": []string{"viewer"}}, 400, "name"},
		{"an expiry in the past", w.key, "POST", keysPath, map[string]any{"name": "x", "roles": []string{"viewer"}, "expires_at": "2020-01-01T00:00:00Z"}, 400, "expires_at"},
		{"an expiry that is none", w.key, "POST", keysPath, map[string]any{"name": "x", "roles": []string{"viewer"}, "expires_at": "tomorrow"}, 400, "time"},
		{"an overlap out of bounds", w.key, "POST", keysPath + "/" + id + "/rotate", map[string]any{"overlap_seconds": 1e12}, 400, "overlap_seconds"},
		{"a page that is none", w.key, "GET", keysPath + "?page=0", nil, 400, "page"},
		{"a cursor that is none", w.key, "GET", keysPath + "?cursor=x", nil, 400, "cursor"},
		{"a flag that is none", w.key, "GET", keysPath + "?include_revoked=perhaps", nil, 400, "include_revoked"},
		{"a key that is not there", w.key, "GET", keysPath + "/key-none", nil, 404, "key-none"},
		{"a wider scope than one's own", lead, "POST", keysPath, map[string]any{"name": "x", "roles": []string{"viewer"}}, 403, "scope"},
		{"a key beyond one's own scope", lead, "DELETE", keysPath + "/" + id, nil, 404, id},
		{"the last admin", w.key, "DELETE", keysPath + "/key-first-admin", nil, 409, "last key of an admin"},
	} {
		t.Run(c.name, func(t *testing.T) {
			res, got := w.as(c.as, c.method, c.path, c.body)
			if res.StatusCode != c.status || !strings.Contains(toJSON(t, got), c.says) {
				t.Errorf("%d %v", res.StatusCode, got)
			}
		})
	}
	if res, _ := w.get("/api/v1/auth/check"); res.StatusCode != http.StatusOK {
		t.Error("the first key is gone")
	}
}

func TestAPIKeys_AreReplacedAndRevokedOnEveryGateway(t *testing.T) {
	w := newWorld(t)
	other := w.another(byKeys())
	id, first := w.makeKey(map[string]any{"name": "x", "roles": []string{"viewer"}})
	status := func(g *world, key string) int {
		res, _ := g.as(key, http.MethodGet, "/api/v1/auth/check", nil)
		return res.StatusCode
	}
	res, got := w.as(w.key, http.MethodPost, keysPath+"/"+id+"/rotate", nil)
	second, _ := got["key"].(string)
	if res.StatusCode != http.StatusOK || second == "" || got["previous_until"] == nil || got["id"] != id {
		t.Fatalf("%d %v", res.StatusCode, got)
	}
	for _, g := range []*world{w, other} {
		if a, b := status(g, first), status(g, second); a != http.StatusOK || b != http.StatusOK {
			t.Errorf("during the overlap: %d and %d", a, b)
		}
	}
	if res, _ := other.as(w.key, http.MethodDelete, keysPath+"/"+id, nil); res.StatusCode != http.StatusNoContent {
		t.Fatal(res.Status)
	}
	for _, key := range []string{first, second} {
		if got := status(other, key); got != http.StatusUnauthorized {
			t.Errorf("where it was revoked: %d", got)
		}
		w.await("the other gateway to refuse it", func() bool { return status(w, key) == http.StatusUnauthorized })
	}
	_, list := w.as(w.key, http.MethodGet, keysPath+"?include_revoked=true", nil)
	if !strings.Contains(toJSON(t, list), `"status":"Revoked"`) || list["total"] != 2.0 {
		t.Errorf("the list is %v", list)
	}
	if _, list := w.as(w.key, http.MethodGet, keysPath, nil); list["total"] != 1.0 {
		t.Errorf("without those that are revoked: %v", list)
	}
}

func TestAPIKeys_TellOfTheirChangesAndOfTheirLastUse(t *testing.T) {
	w := newWorld(t)
	id, key := w.makeKey(map[string]any{"name": "x", "roles": []string{"viewer"}})
	w.as(key, http.MethodGet, "/api/v1/auth/check", nil)
	if res, _ := w.as(w.key, http.MethodDelete, keysPath+"/"+id, nil); res.StatusCode != http.StatusNoContent {
		t.Fatal(res.Status)
	}
	var verbs []string
	w.await("its events", func() bool {
		verbs = nil
		s, err := w.conn.JS.Stream(t.Context(), subject.StreamEvents)
		if err != nil {
			t.Fatal(err)
		}
		for n := uint64(1); n <= s.CachedInfo().State.LastSeq; n++ {
			raw, err := s.GetMsg(t.Context(), n)
			if err != nil {
				t.Fatal(err)
			}
			var e event.APIKeyChanged
			if err := json.Unmarshal(raw.Data, &e); err != nil {
				t.Fatal(err)
			}
			if e.ID != id {
				continue
			}
			verbs = append(verbs, e.Verb)
			if raw.Subject != subject.Event("apikey", "changed") || raw.Header.Get("ce-subject") != "apikey/"+id || raw.Header.Get("ce-actor") != "key-first-admin" {
				t.Errorf("told on %s: %v", raw.Subject, raw.Header)
			}
			if strings.Contains(string(raw.Data), key) {
				t.Error("the key is told")
			}
		}
		return len(verbs) == 2
	})
	slices.Sort(verbs)
	if !slices.Equal(verbs, []string{"created", "deleted"}) {
		t.Errorf("told of %q", verbs)
	}
	w.end()
	var used bool
	if err := w.pool.QueryRow(t.Context(), `SELECT last_used_at > created_at FROM api_keys WHERE id = $1`, id).Scan(&used); err != nil || !used {
		t.Errorf("its use was not noted: %v, %v", used, err)
	}
}

func TestBreakGlass_LetsWhoeverHasTheDatabaseInAndTellsOfIt(t *testing.T) {
	w := newWorld(t)
	id, key, err := gateway.BreakGlass(t.Context(), w.pool, "rescue", []string{"admin"})
	if err != nil {
		t.Fatal(err)
	}
	if got := w.status(key, keysPath); got != http.StatusOK {
		t.Errorf("it opens nothing: %d", got)
	}
	if _, k := w.as(key, http.MethodGet, keysPath+"/"+id, nil); k["created_by"] != "certctl-admin" || k["name"] != "rescue" {
		t.Errorf("it is %v", k)
	}
	var told bool
	if err := w.pool.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM outbox WHERE subject = $1 AND headers->'ce-subject'->>0 = $2
		AND headers->'ce-actor'->>0 = 'certctl-admin')`, subject.Event("apikey", "changed"), "apikey/"+id).Scan(&told); err != nil || !told {
		t.Errorf("nobody is told: %v, %v", told, err)
	}
	if _, _, err := gateway.BreakGlass(t.Context(), w.pool, "x", []string{"root"}); err == nil {
		t.Error("it makes keys of roles that are none")
	}
}

func toJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
