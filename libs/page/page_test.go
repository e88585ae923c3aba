package page

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/certctl/certctl/libs/fault"
)

func TestCursor_ComesBackAsItWas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := Cursor{
			Key: rapid.StringMatching(`[^\x00]*`).Draw(t, "key"),
			ID:  rapid.StringMatching(`[a-z0-9_-]{1,64}`).Draw(t, "id"),
		}
		got, err := Parse(want.String())
		if err != nil || got != want {
			t.Fatalf("got %+v, %v; want %+v", got, err, want)
		}
	})
}

func TestCursor_KeepsATimeToTheNanosecond(t *testing.T) {
	want := time.Date(2026, 11, 23, 1, 2, 3, 123456789, time.FixedZone("x", 3600))
	c, err := Parse(At(want, "mc-1").String())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.Time(); err != nil || !got.Equal(want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
}

func TestParse_RefusesWhatNoListHasGiven(t *testing.T) {
	for _, s := range []string{"x", "!!!!", "bm8tc2VwYXJhdG9y", Cursor{Key: "k"}.String()} {
		if _, err := Parse(s); fault.CodeOf(err) != fault.Invalid {
			t.Errorf("Parse(%q) = %v", s, err)
		}
	}
}

func TestSizeAndNumber_AreBounded(t *testing.T) {
	n := func(i int) *int { return &i }
	if s, err := Size(n(10_000)); s != MaxSize || err != nil {
		t.Errorf("per_page 10000 is read as %d, %v", s, err)
	}
	if s, err := Size(nil); s != DefaultSize || err != nil {
		t.Errorf("no per_page is read as %d, %v", s, err)
	}
	if _, err := Size(n(0)); fault.CodeOf(err) != fault.Invalid {
		t.Errorf("per_page 0 gives %v", err)
	}
	if _, err := Number(n(201), 50); fault.CodeOf(err) != fault.Invalid {
		t.Errorf("page 201 of 50 gives %v", err)
	}
	if p, err := Number(n(200), 50); p != 200 || err != nil {
		t.Errorf("page 200 of 50 gives %d, %v", p, err)
	}
}

func TestParse_RefusesWhatNoDatabaseTakes(t *testing.T) {
	for _, c := range []Cursor{{Key: "k", ID: "a\x00b"}, {Key: "k", ID: "\xff"}, {Key: "\xff", ID: "a"}} {
		if _, err := Parse(c.String()); err == nil {
			t.Errorf("%q was taken", c)
		}
	}
}
