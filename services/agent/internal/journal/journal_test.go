package journal_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/services/agent/internal/journal"
)

func open(t *testing.T, dir string) *journal.Journal {
	t.Helper()
	j, err := journal.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestJournal_RemembersOverARestart(t *testing.T) {
	dir := t.TempDir()
	key := journal.Key{JobID: "job-d-1", Attempt: 2}
	begun := journal.Begun{
		Order: command.Signed{Payload: []byte("order"), KeyID: "N"}, Origin: json.RawMessage(`{"cause_id":"cmd-1"}`),
		At: time.Unix(1, 0).UTC(), Checkpoint: json.RawMessage(`{"phase":"staging"}`),
	}
	must(t, open(t, dir).Save(key, begun))
	begun.Checkpoint = json.RawMessage(`{"phase":"installing"}`)
	must(t, open(t, dir).Save(key, begun))

	j := open(t, dir)
	got, ok, err := j.Begun(key)
	if err != nil || !ok {
		t.Fatalf("begun: %t, %v", ok, err)
	}
	if diff := cmp.Diff(begun, got); diff != "" {
		t.Errorf("begun (-want +got):\n%s", diff)
	}
	if _, ok, err := j.Finished(key); ok || err != nil {
		t.Errorf("finished before it was: %t, %v", ok, err)
	}
	done := journal.Done{Report: command.Signed{Payload: []byte("report")}, At: time.Unix(2, 0).UTC()}
	must(t, j.Finish(key, done))

	j = open(t, dir)
	unsettled, err := j.Unsettled()
	if diff := cmp.Diff([]journal.Key{key}, unsettled); diff != "" || err != nil {
		t.Errorf("unsettled (-want +got):\n%s%v", diff, err)
	}
	must(t, j.Settle(key))
	must(t, j.Settle(key))
	j = open(t, dir)
	if unsettled, err := j.Unsettled(); len(unsettled) > 0 || err != nil {
		t.Errorf("unsettled: %v, %v", unsettled, err)
	}
	kept, ok, err := j.Finished(key)
	if diff := cmp.Diff(done, kept); diff != "" || !ok || err != nil {
		t.Errorf("finished (-want +got):\n%s%t, %v", diff, ok, err)
	}
}

func TestJournal_KnowsALaterAttempt(t *testing.T) {
	dir := t.TempDir()
	must(t, open(t, dir).Finish(journal.Key{JobID: "job-d-1", Attempt: 2}, journal.Done{}))
	j := open(t, dir)
	for attempt, want := range map[int]bool{1: true, 2: false, 3: false} {
		if got := j.Superseded(journal.Key{JobID: "job-d-1", Attempt: attempt}); got != want {
			t.Errorf("attempt %d superseded = %t", attempt, got)
		}
	}
	if j.Superseded(journal.Key{JobID: "job-d-2", Attempt: 1}) {
		t.Error("an unknown job is superseded")
	}
}

func TestJournal_ForgetsWhatWasFinishedLongAgo(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	old, fresh := journal.Key{JobID: "job-d-1", Attempt: 1}, journal.Key{JobID: "job-d-2", Attempt: 1}
	must(t, j.Finish(old, journal.Done{}))
	must(t, j.Finish(fresh, journal.Done{}))
	past := time.Now().Add(-time.Hour)
	must(t, os.Chtimes(filepath.Join(dir, "done", old.String()), past, past))
	must(t, j.Prune(time.Now().Add(-time.Minute)))
	if _, ok, _ := j.Finished(old); ok {
		t.Error("the old one is remembered")
	}
	if _, ok, _ := j.Finished(fresh); !ok {
		t.Error("the fresh one is forgotten")
	}
}
