package apikey

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/page"
	"github.com/certctl/certctl/libs/testkit/pgtest"
)

// said are the events in the outbox, oldest first, and who caused them.
func said(t *testing.T, pool *pgxpool.Pool) (events []event.APIKeyChanged, actors []string) {
	t.Helper()
	rows, err := pool.Query(t.Context(), `SELECT subject, stream, headers->'ce-actor'->>0, body FROM outbox ORDER BY id`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var e event.APIKeyChanged
		var subj, stream, actor string
		var body []byte
		if err := rows.Scan(&subj, &stream, &actor, &body); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(body, &e); err != nil {
			t.Fatal(err)
		}
		if subj != subject.Event("apikey", "changed") || stream != subject.StreamEvents {
			t.Errorf("said on %s of %s", subj, stream)
		}
		events, actors = append(events, e), append(actors, actor)
	}
	return events, actors
}

func TestChanges_AreToldInTheTransactionWithWhoMadeThemAndNoSecret(t *testing.T) {
	s, pool, _ := newStore(t)
	woken := 0
	s.Committed = func() { woken++ }
	k, _ := s.mustCreate(t, Key{Name: "ci", Roles: []string{"viewer"}})
	_, err := s.Update(t.Context(), root(), k.ID, func(k *Key) error { k.Roles = []string{"operator"}; return nil })
	if err != nil {
		t.Fatal(err)
	}
	same, err := s.Update(t.Context(), root(), k.ID, func(k *Key) error { k.Roles = []string{"operator", "operator"}; return nil })
	if err != nil || same.Revision != 2 {
		t.Errorf("a change of nothing: revision %d, %v", same.Revision, err)
	}
	if _, _, err := s.Rotate(t.Context(), root(), k.ID, time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := s.Revoke(t.Context(), root(), k.ID); err != nil {
		t.Fatal(err)
	}
	if err := s.Revoke(t.Context(), root(), k.ID); err != nil {
		t.Errorf("a second time: %v", err)
	}
	events, actors := said(t, pool)
	want := []event.Record{
		{Verb: "created", Changes: event.Changes{"name": {After: "ci"}, "roles": {After: []any{"viewer"}}, "scope": {After: map[string]any{}}}},
		{Verb: "updated", Changes: event.Changes{"roles": {Before: []any{"viewer"}, After: []any{"operator"}}}},
		{Verb: "updated", Changes: event.Changes{"key": {Before: "(secret)", After: "(secret)"}}},
		{Verb: "deleted", Changes: event.Changes{"name": {Before: "ci"}, "roles": {Before: []any{"operator"}}, "scope": {Before: map[string]any{}}}},
	}
	if len(events) != len(want) {
		t.Fatalf("%d events: %+v", len(events), events)
	}
	for i := range want {
		want[i].ID, want[i].Name = k.ID, "ci"
		if diff := cmp.Diff(want[i], events[i].Record); diff != "" || actors[i] != "key-root" {
			t.Errorf("event %d by %s (-want +got):\n%s", i, actors[i], diff)
		}
	}
	if woken < len(want) {
		t.Errorf("the relay was woken %d times", woken)
	}
}

func TestRotate_KeepsTheOldKeyGoodUntilTheOverlapEnds(t *testing.T) {
	s, _, c := newStore(t)
	k, first := s.mustCreate(t, Key{Name: "x", Roles: []string{"viewer"}})
	s.mustKnow(t, first)
	rotated, second, err := s.Rotate(t.Context(), root(), k.ID, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if rotated.ID != k.ID || rotated.Prefix != second[:12] || rotated.Revision != k.Revision+1 {
		t.Errorf("got %+v", rotated)
	}
	for _, secret := range []string{first, second} {
		if p := s.mustKnow(t, secret); p.ID != k.ID {
			t.Errorf("it is %+v", p)
		}
	}
	c.Advance(time.Hour)
	s.mustRefuse(t, first)
	s.mustKnow(t, second)

	// A rotation without overlap ends the old key at once, with what was left of others.
	if _, third, err := s.Rotate(t.Context(), root(), k.ID, time.Hour); err != nil {
		t.Fatal(err)
	} else if _, fourth, err := s.Rotate(t.Context(), root(), k.ID, 0); err != nil {
		t.Fatal(err)
	} else {
		s.mustRefuse(t, second)
		s.mustRefuse(t, third)
		s.mustKnow(t, fourth)
	}
	for _, overlap := range []time.Duration{-time.Second, MaxOverlap + 1} {
		if _, _, err := s.Rotate(t.Context(), root(), k.ID, overlap); fault.CodeOf(err) != fault.Invalid {
			t.Errorf("an overlap of %v: %v", overlap, err)
		}
	}
}

func TestRevoke_EndsBothKeysOfARotationForGood(t *testing.T) {
	s, _, _ := newStore(t)
	k, first := s.mustCreate(t, Key{Name: "x", Roles: []string{"viewer"}})
	_, second, err := s.Rotate(t.Context(), root(), k.ID, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	s.mustKnow(t, first)
	s.mustKnow(t, second)
	if err := s.Revoke(t.Context(), root(), k.ID); err != nil {
		t.Fatal(err)
	}
	s.mustRefuse(t, first)
	s.mustRefuse(t, second)
	if _, _, err := s.Rotate(t.Context(), root(), k.ID, 0); fault.CodeOf(err) != fault.Conflict {
		t.Errorf("rotate: %v", err)
	}
	rename := func(k *Key) error { k.Name = "y"; return nil }
	if _, err := s.Update(t.Context(), root(), k.ID, rename); fault.CodeOf(err) != fault.Conflict {
		t.Errorf("update: %v", err)
	}
	if err := s.Revoke(t.Context(), root(), "key-none"); fault.CodeOf(err) != fault.NotFound {
		t.Errorf("a key that is not there: %v", err)
	}
}

func TestChanges_LeaveOneAdminWithoutLimits(t *testing.T) {
	cases := map[string]func(s *Store, t *testing.T, id string) error{
		"revoke": func(s *Store, t *testing.T, id string) error { return s.Revoke(t.Context(), root(), id) },
		"lower": func(s *Store, t *testing.T, id string) error {
			_, err := s.Update(t.Context(), root(), id, func(k *Key) error { k.Roles = []string{"viewer"}; return nil })
			return err
		},
		"limit": func(s *Store, t *testing.T, id string) error {
			_, err := s.Update(t.Context(), root(), id, func(k *Key) error { k.Scope.Teams = []string{"t-a"}; return nil })
			return err
		},
	}
	for name, do := range cases {
		t.Run(name, func(t *testing.T) {
			s, pool, c := newStore(t)
			soon := c.Now().Add(time.Hour)
			last, secret := s.mustCreate(t, Key{Name: "last", Roles: []string{"admin"}})
			s.mustCreate(t, Key{Name: "limited", Roles: []string{"admin"}, Scope: authn.Scope{Teams: []string{"t-a"}}})
			s.mustCreate(t, Key{Name: "other", Roles: []string{"operator"}})
			expiring, _ := s.mustCreate(t, Key{Name: "expiring", Roles: []string{"admin"}, ExpiresAt: &soon})
			before, _ := said(t, pool)
			c.Advance(2 * time.Hour)
			if err := do(s, t, last.ID); fault.CodeOf(err) != fault.Conflict {
				t.Fatalf("the last admin went: %v", err)
			}
			s.mustKnow(t, secret)
			if after, _ := said(t, pool); len(after) != len(before) {
				t.Error("what was refused was told")
			}
			// One that is no way in any more may go, and with a second one the first may.
			if err := do(s, t, expiring.ID); err != nil {
				t.Errorf("the expired one: %v", err)
			}
			s.mustCreate(t, Key{Name: "second", Roles: []string{"viewer", "admin"}})
			if err := do(s, t, last.ID); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestChanges_OfTwoAdminsAtOnceLeaveOne(t *testing.T) {
	s, _, _ := newStore(t)
	a, _ := s.mustCreate(t, Key{Name: "a", Roles: []string{"admin"}})
	b, _ := s.mustCreate(t, Key{Name: "b", Roles: []string{"admin"}})
	results := make(chan fault.Code)
	for _, k := range []Key{a, b} {
		go func() { results <- fault.CodeOf(s.Revoke(t.Context(), root(), k.ID)) }()
	}
	got := []fault.Code{<-results, <-results}
	slices.Sort(got)
	if diff := cmp.Diff([]fault.Code{"", fault.Conflict}, got); diff != "" {
		t.Error(diff)
	}
}

// TestChanges_GiveAwayNoMoreThanTheCallerHas is about an admin of one team.
func TestChanges_GiveAwayNoMoreThanTheCallerHas(t *testing.T) {
	s, _, _ := newStore(t)
	lead := root()
	lead.ID, lead.Name, lead.Scope = "key-lead", "lead", authn.Scope{Teams: []string{"t-a", "t-b"}}
	wide, wideSecret := s.mustCreate(t, Key{Name: "wide", Roles: []string{"operator"}})
	foreign, _ := s.mustCreate(t, Key{Name: "foreign", Roles: []string{"viewer"}, Scope: authn.Scope{Teams: []string{"t-z"}}})
	own, _ := s.mustCreate(t, Key{Name: "own", Roles: []string{"viewer"}, Scope: authn.Scope{Teams: []string{"t-a"}}})
	for name, scope := range map[string]authn.Scope{
		"no limit":        {},
		"another's team":  {Teams: []string{"t-a", "t-z"}},
		"another's limit": {Environments: []string{"production"}},
	} {
		if _, _, err := s.Create(t.Context(), lead, Key{Name: "x", Roles: []string{"viewer"}, Scope: scope}); fault.CodeOf(err) != fault.Forbidden {
			t.Errorf("create with %s: %v", name, err)
		}
		widen := func(k *Key) error { k.Scope = scope; return nil }
		if _, err := s.Update(t.Context(), lead, own.ID, widen); fault.CodeOf(err) != fault.Forbidden {
			t.Errorf("update with %s: %v", name, err)
		}
	}
	// Wider keys are not there for him: to rotate one would be to have it.
	for _, k := range []Key{wide, foreign} {
		_, getErr := s.Get(t.Context(), lead, k.ID)
		_, _, rotateErr := s.Rotate(t.Context(), lead, k.ID, 0)
		revokeErr := s.Revoke(t.Context(), lead, k.ID)
		for what, err := range map[string]error{"get": getErr, "rotate": rotateErr, "revoke": revokeErr} {
			if fault.CodeOf(err) != fault.NotFound {
				t.Errorf("%s %s: %v", what, k.Name, err)
			}
		}
	}
	s.mustKnow(t, wideSecret)
	if keys, total, err := s.List(t.Context(), lead, Asked{Size: 10}); err != nil || total != 1 || keys[0].ID != own.ID {
		t.Errorf("he sees %+v (%d), %v", keys, total, err)
	}
	made, _, err := s.Create(t.Context(), lead, Key{
		Name: "narrower", Roles: []string{"admin"}, Scope: authn.Scope{Teams: []string{"t-b"}, Issuers: []string{"iss-1"}},
	})
	if err != nil || made.CreatedBy != "key-lead" {
		t.Errorf("made %+v, %v", made, err)
	}
	// Whoever is no admin hands out no role that he has not.
	operator := authn.Principal{ID: "key-op", Name: "op", Kind: authn.KindUser, Roles: []string{"operator"}}
	if _, _, err := s.Create(t.Context(), operator, Key{Name: "x", Roles: []string{"operator", "approver"}}); fault.CodeOf(err) != fault.Forbidden {
		t.Errorf("another's role: %v", err)
	}
	if _, _, err := s.Rotate(t.Context(), operator, made.ID, 0); fault.CodeOf(err) != fault.Forbidden {
		t.Errorf("rotate an admin's key: %v", err)
	}
}

func TestList_ShowsEveryKeyOnceNewestFirst(t *testing.T) {
	s, _, c := newStore(t)
	var want []string
	for range 7 {
		c.Advance(time.Second)
		k, _ := s.mustCreate(t, Key{Name: "x", Roles: []string{"viewer"}})
		want = append([]string{k.ID}, want...)
	}
	if err := s.Revoke(t.Context(), root(), want[2]); err != nil {
		t.Fatal(err)
	}
	read := func(withRevoked bool) (ids []string) {
		a := Asked{Size: 2, WithRevoked: withRevoked}
		for {
			keys, _, err := s.List(t.Context(), root(), a)
			if err != nil {
				t.Fatal(err)
			}
			for _, k := range keys[:min(len(keys), 2)] {
				ids = append(ids, k.ID)
			}
			if len(keys) <= 2 {
				return ids
			}
			cursor := page.At(keys[1].CreatedAt, keys[1].ID)
			a.Behind = &cursor
			s.mustCreate(t, Key{Name: "later", Roles: []string{"viewer"}}) // is not seen
		}
	}
	if diff := cmp.Diff(slices.Delete(slices.Clone(want), 2, 3), read(false)); diff != "" {
		t.Error(diff)
	}
	c.Advance(time.Second)
	if got := read(true); !slices.Contains(got, want[2]) {
		t.Errorf("the revoked one is not among %v", got)
	}
}

func TestQueries_UseTheirIndexes(t *testing.T) {
	s, pool, c := newStore(t)
	k, _ := s.mustCreate(t, Key{Name: "x", Roles: []string{"viewer"}})
	if _, err := pool.Exec(t.Context(), `INSERT INTO api_keys (id, name, hash, roles, created_at, previous_hash, previous_until)
SELECT 'key-' || n, 'n', sha256(n::text::bytea), '{viewer}', now() - n * interval '1 minute', sha256(('p' || n)::bytea), now()
FROM generate_series(1, 5000) n`); err != nil {
		t.Fatal(err)
	}
	if _, err := pgtest.Admin(t, pool).Exec(t.Context(), `ANALYZE`); err != nil {
		t.Fatal(err)
	}
	hash := authn.HashKey("cck_any")
	for name, q := range map[string]struct {
		sql   string
		args  []any
		wants []string
	}{
		"recognise":   {findKey, []any{hash[:], c.Now()}, []string{"api_keys_hash_key", "api_keys_previous_hash"}},
		"list":        {listKeys, append(limits(root()), false, nil, "", 51, 0), []string{"api_keys_newest"}},
		"list behind": {listKeys, append(limits(root()), false, c.Now(), k.ID, 51, 0), []string{"api_keys_newest"}},
		"note uses":   {writeUses, []any{[]string{k.ID}, []time.Time{c.Now()}, noteEvery}, []string{"api_keys_pkey"}},
	} {
		rows, err := pool.Query(t.Context(), `EXPLAIN `+q.sql, q.args...)
		if err != nil {
			t.Fatal(err)
		}
		plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(name, err)
		}
		text := strings.Join(plan, "\n")
		for _, index := range q.wants {
			if !strings.Contains(text, index) {
				t.Errorf("%s does not use %s:\n%s", name, index, text)
			}
		}
	}
}
