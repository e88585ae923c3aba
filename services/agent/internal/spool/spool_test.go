package spool_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/agent/internal/spool"
)

func open(t *testing.T, dir string, limit int) *spool.Spool {
	t.Helper()
	s, err := spool.Open(dir, limit)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func add(t *testing.T, s *spool.Spool, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if err := s.Add(spool.Message{ID: id, Subject: "site.evt.a.deploy.j", Body: []byte(id), Header: map[string]string{"ce-id": id}}); err != nil {
			t.Fatal(err)
		}
	}
}

// taker takes messages, and refuses after some.
type taker struct {
	taken []string
	room  int
}

var errAway = errors.New("the leaf is away")

func (k *taker) take(_ context.Context, m spool.Message) error {
	if len(k.taken) == k.room {
		return errAway
	}
	k.taken = append(k.taken, m.ID)
	return nil
}

func TestSpool_SurvivesAKillAndKeepsOrder(t *testing.T) {
	dir := t.TempDir()
	add(t, open(t, dir, 100), "a", "b", "c")
	// No process closes a spool; each is opened over what the last one left.
	k := &taker{room: 1}
	s := open(t, dir, 100)
	if err := s.Flush(t.Context(), k.take); !errors.Is(err, errAway) {
		t.Fatalf("flush = %v", err)
	}
	s = open(t, dir, 100)
	add(t, s, "d")
	k.room = 100
	if err := s.Flush(t.Context(), k.take); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a", "b", "c", "d"}, k.taken); diff != "" {
		t.Errorf("taken (-want +got):\n%s", diff)
	}
	if n := open(t, dir, 100).Len(); n != 0 {
		t.Errorf("%d still wait", n)
	}
}

func TestSpool_HandsOnWhatItWasGiven(t *testing.T) {
	dir := t.TempDir()
	want := spool.Message{ID: "rep-1", Subject: "site.evt.a.deploy.j", Header: map[string]string{"ce-id": "rep-1"}, Body: []byte{0, 1, 255}}
	if err := open(t, dir, 1).Add(want); err != nil {
		t.Fatal(err)
	}
	err := open(t, dir, 1).Flush(t.Context(), func(_ context.Context, got spool.Message) error {
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("message (-want +got):\n%s", diff)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestSpool_RefusesWhenFull(t *testing.T) {
	s := open(t, t.TempDir(), 2)
	add(t, s, "a", "b")
	if err := s.Add(spool.Message{ID: "c"}); fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("add to a full spool = %v", err)
	}
	k := &taker{room: 2}
	if err := s.Flush(t.Context(), k.take); err != nil {
		t.Fatal(err)
	}
	add(t, s, "c")
}

func TestSpool_RefusesWhenItCannotWrite(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	s := open(t, dir, 2)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := s.Add(spool.Message{ID: "a"}); err == nil {
		t.Error("a message that is on no disk was taken")
	}
	if s.Len() != 0 {
		t.Error("a refused message waits")
	}
}

func TestSpool_SetsAsideWhatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	add(t, open(t, dir, 10), "a", "b")
	if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%020d", 1)), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir, 10)
	k := &taker{room: 10}
	if err := s.Flush(t.Context(), k.take); err == nil {
		t.Error("a message that cannot be read was passed over in silence")
	}
	if diff := cmp.Diff([]string{"b"}, k.taken); diff != "" {
		t.Errorf("taken (-want +got):\n%s", diff)
	}
	if err := s.Flush(t.Context(), k.take); err != nil || s.Len() != 0 {
		t.Errorf("flush again = %v, %d wait", err, s.Len())
	}
}
