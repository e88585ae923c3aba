package view

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/page"
	"github.com/certctl/certctl/libs/testkit/pgtest"
	"github.com/certctl/certctl/migrations"
)

func TestMain(m *testing.M) { os.Exit(pgtest.M{M: m}.Run()) }

func newStore(t *testing.T) (*Store, *clock.Manual) {
	t.Helper()
	c := clock.At(time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC))
	return &Store{Pool: pgtest.New(t, migrations.FS("gateway"), "gateway"), Clock: c}, c
}

func (s *Store) mustCreate(t *testing.T, who, name string, shared bool) View {
	t.Helper()
	v, err := s.Create(t.Context(), who, View{Name: name, Resource: "certificates", Query: map[string]string{"q": `status == "Active"`}, Shared: shared})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestList_ShowsOnesOwnAndWhatIsSharedEveryOneOnce(t *testing.T) {
	s, c := newStore(t)
	var want []string
	for i := range 12 {
		who, shared := "ada", i%3 == 0
		if i%2 == 0 {
			who = "bob"
		}
		v := s.mustCreate(t, who, fmt.Sprint("view ", i), shared)
		if who == "ada" || shared {
			want = append([]string{v.ID}, want...)
		}
		if i%4 == 0 { // some at the same moment
			c.Advance(time.Second)
		}
	}
	for size := range 5 {
		var got []string
		asked := Asked{Size: size + 1}
		for {
			views, total, err := s.List(t.Context(), "ada", asked)
			if err != nil || total != int64(len(want)) {
				t.Fatalf("%d of %d (%v)", total, len(want), err)
			}
			for _, v := range views[:min(len(views), asked.Size)] {
				got = append(got, v.ID)
			}
			if len(views) <= asked.Size {
				break
			}
			last := page.At(views[asked.Size-1].CreatedAt, views[asked.Size-1].ID)
			asked.Behind = &last
		}
		slices.Sort(got)
		if d := cmp.Diff(slices.Sorted(slices.Values(want)), got); d != "" {
			t.Errorf("pages of %d: %s", size+1, d)
		}
	}
	views, total, err := s.List(t.Context(), "ada", Asked{Size: 2, Offset: 2, Resource: new("jobs")})
	if err != nil || total != 0 || len(views) != 0 {
		t.Errorf("of jobs: %d %v %v", total, views, err)
	}
}

func TestUpdate_IsItsMakersAlone(t *testing.T) {
	s, _ := newStore(t)
	private, shared := s.mustCreate(t, "ada", "mine", false), s.mustCreate(t, "ada", "ours", true)
	rename := func(v *View) error { v.Name = "theirs"; return nil }
	for _, c := range []struct {
		who  string
		view View
		want fault.Code
	}{{"bob", private, fault.NotFound}, {"bob", shared, fault.Forbidden}, {"ada", View{ID: "view-none"}, fault.NotFound}, {"ada", View{ID: "\x00"}, fault.NotFound}} {
		if _, err := s.Update(t.Context(), c.who, c.view.ID, rename); fault.CodeOf(err) != c.want {
			t.Errorf("%s changes %s: %v", c.who, c.view.Name, err)
		}
		if err := s.Delete(t.Context(), c.who, c.view.ID); fault.CodeOf(err) != c.want {
			t.Errorf("%s removes %s: %v", c.who, c.view.Name, err)
		}
	}
	if _, err := s.Get(t.Context(), "bob", private.ID); fault.CodeOf(err) != fault.NotFound {
		t.Errorf("bob reads what is private: %v", err)
	}
	if v, err := s.Get(t.Context(), "bob", shared.ID); err != nil || cmp.Diff(shared, v) != "" {
		t.Errorf("bob reads what is shared: %+v %v", v, err)
	}
	v, err := s.Update(t.Context(), "ada", private.ID, rename)
	if err != nil || v.Name != "theirs" || v.Revision != 2 {
		t.Errorf("%+v %v", v, err)
	}
	if _, err := s.Update(t.Context(), "ada", shared.ID, rename); fault.CodeOf(err) != fault.Conflict {
		t.Errorf("two views of one name: %v", err)
	}
	if err := s.Delete(t.Context(), "ada", shared.ID); err != nil {
		t.Error(err)
	}
	if _, err := s.Get(t.Context(), "ada", shared.ID); fault.CodeOf(err) != fault.NotFound {
		t.Errorf("after it was removed: %v", err)
	}
}

func TestCreate_RefusesWhatIsNoViewAndMoreThanAreKept(t *testing.T) {
	s, _ := newStore(t)
	good := View{Name: "a", Resource: "jobs", Query: map[string]string{}}
	for name, spoil := range map[string]func(*View){
		"no name": func(v *View) { v.Name = " " }, "a long name": func(v *View) { v.Name = strings.Repeat("ä", 256) },
		"another list": func(v *View) { v.Resource = "teams" }, "no query": func(v *View) { v.Query = nil },
		"a long value": func(v *View) { v.Query = map[string]string{"q": strings.Repeat("a", 2001)} },
	} {
		v := good
		spoil(&v)
		if _, err := s.Create(t.Context(), "ada", v); fault.CodeOf(err) != fault.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := s.Pool.Exec(t.Context(), `INSERT INTO saved_views (id, principal_id, name, resource, query, created_at, updated_at)
		SELECT 'view-' || i, 'ada', 'n' || i, 'jobs', '{}', now(), now() FROM generate_series(1, $1) i`, maxOwn); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(t.Context(), "ada", good); fault.CodeOf(err) != fault.Conflict {
		t.Errorf("one too many: %v", err)
	}
	if _, err := s.Create(t.Context(), "bob", good); err != nil {
		t.Errorf("of somebody else: %v", err)
	}
}
