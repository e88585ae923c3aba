package cli

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/contracts/httpapi/client"
)

func apiKey(id, name string, roles ...client.Role) client.APIKey {
	return client.APIKey{ID: id, Name: name, Prefix: "cck_abcdefgh", Roles: roles, Status: "Active", CreatedBy: "key-first-admin", CreatedAt: day, UpdatedAt: day}
}

func TestListKeys_PrintsATableWithoutKeys(t *testing.T) {
	a := newAPI(t)
	limited := apiKey("key-2", "team", "operator", "approver")
	limited.Scope = client.Scope{Teams: &client.ScopeList{"t-a", "t-b"}, Issuers: &client.ScopeList{}}
	limited.ExpiresAt, limited.LastUsedAt = &day, &day
	a.on("GET /api/v1/api-keys", 200, client.APIKeyList{Data: []client.APIKey{apiKey("key-1", "first", "admin"), limited}, Total: 3})
	out, errs := a.want(0, "list-keys", "--all", "--limit=2")
	equal(t, `
ID     NAME   BEGINS        ROLES              SCOPE                   STATUS  EXPIRES           LAST USED
key-1  first  cck_abcdefgh  admin              all                     Active  never             never
key-2  team   cck_abcdefgh  operator,approver  teams=t-a,t-b issuers=  Active  2026-11-23 12:30  2026-11-23 12:30
`, out)
	equal(t, "2 of 3 shown\n", errs)
	equal(t, "GET /api/v1/api-keys?include_revoked=true&per_page=2", a.last())
	if out, _ := a.want(0, "list-keys", "--format=json"); !json.Valid([]byte(out)) {
		t.Errorf("no JSON: %s", out)
	}
}

func TestCreateKey_SendsWhatIsAskedForAndShowsTheKeyOnce(t *testing.T) {
	a := newAPI(t)
	secret := "cck_abcdefgh-the-new-one"
	made := apiKey("key-9", "ci", "operator")
	made.Key, made.Scope = &secret, client.Scope{Teams: &client.ScopeList{"t-a"}}
	a.on("POST /api/v1/api-keys", 201, made)
	before := time.Now()
	out, errs := a.want(0, "create-key", "ci", "--role", "operator", "--role=viewer", "--team", "t-a", "--team=t-b", "--environment=prod",
		"--issuer-id=iss-1", "--profile-id=prof-1", "--expires-in", "90d")
	equal(t, `
ID:             key-9
Name:           ci
Roles:          operator
Scope:          teams=t-a
Expires:        never
Key:            cck_abcdefgh-the-new-one
`, out)
	equal(t, "keep the key now: it cannot be shown again\n", errs)
	var sent client.APIKeyCreate
	_, body, _ := strings.Cut(a.last(), " {")
	if err := json.Unmarshal([]byte("{"+body), &sent); err != nil {
		t.Fatal(a.last(), err)
	}
	want := client.Scope{
		Teams: &client.ScopeList{"t-a", "t-b"}, Environments: &client.ScopeList{"prod"}, Issuers: &client.ScopeList{"iss-1"}, Profiles: &client.ScopeList{"prof-1"},
	}
	if diff := cmp.Diff(want, *sent.Scope); diff != "" || sent.Name != "ci" || !cmp.Equal(sent.Roles, []client.Role{"operator", "viewer"}) {
		t.Errorf("sent was %s %s", a.last(), diff)
	}
	if d := sent.ExpiresAt.Sub(before.Add(90 * 24 * time.Hour)); d < -time.Second || d > time.Hour {
		t.Errorf("it expires at %v", sent.ExpiresAt)
	}
	out, _ = a.want(0, "create-key", "ci", "--role=viewer", "--format=json")
	var got client.APIKey
	if err := json.Unmarshal([]byte(out), &got); err != nil || *got.Key != secret {
		t.Errorf("%v: %s", err, out)
	}
	// Without limits it sends none, which is no list of nothing.
	if !strings.Contains(a.last(), `"scope":{}`) || strings.Contains(a.last(), "expires_at") {
		t.Errorf("sent was %s", a.last())
	}
	for _, args := range [][]string{
		{"create-key", "ci"},
		{"create-key", "--role=viewer"},
		{"create-key", "ci", "--role=viewer", "--expires-in=soon"},
		{"create-key", "ci", "--role=viewer", "--expires-in=0d"},
		{"rotate-key", "key-1", "--overlap=-1h"},
		{"revoke-key"},
	} {
		a.want(2, args...)
	}
}

func TestRotateAndRevokeKey_SayWhatHasBecomeOfIt(t *testing.T) {
	a := newAPI(t)
	secret := "cck_abcdefgh-the-next"
	rotated := apiKey("key-9", "ci", "operator")
	rotated.Key, rotated.PreviousUntil = &secret, &day
	a.on("POST /api/v1/api-keys/key-9/rotate", 200, rotated)
	out, _ := a.want(0, "rotate-key", "key-9", "--overlap", "12h")
	if !strings.Contains(out, "Key:            "+secret) || !strings.Contains(out, "Old key until:  2026-11-23 12:30") {
		t.Errorf("it says %s", out)
	}
	equal(t, `POST /api/v1/api-keys/key-9/rotate {"overlap_seconds":43200}`, a.last())
	a.want(0, "rotate-key", "key-9")
	equal(t, `POST /api/v1/api-keys/key-9/rotate {"overlap_seconds":86400}`, a.last())
	a.want(0, "rotate-key", "key-9", "--overlap=0s")
	equal(t, `POST /api/v1/api-keys/key-9/rotate {"overlap_seconds":0}`, a.last())

	a.on("DELETE /api/v1/api-keys/key-9", 204, "")
	out, _ = a.want(0, "revoke-key", "key-9")
	equal(t, "key-9 is revoked\n", out)
	if out, _ := a.want(0, "revoke-key", "key-9", "--format=json"); !json.Valid([]byte(out)) {
		t.Errorf("no JSON: %s", out)
	}
	a.on("DELETE /api/v1/api-keys/key-9", 409, problem("conflict", "key-9 is the last key of an admin"))
	_, errs := a.want(1, "revoke-key", "key-9")
	if !strings.Contains(errs, "the last key of an admin (HTTP 409, request req-7)") {
		t.Errorf("it says %q", errs)
	}
}
