package record_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/record"
)

func TestChanges_AreTheFieldsThatDiffer(t *testing.T) {
	before := record.Fields{"name": "Web", "email": "a@example.com", "members": []string{"x"}, "gone": 1}
	after := record.Fields{"name": "Web", "email": "b@example.com", "members": []string{"x"}, "new": 2}
	want := event.Changes{
		"email": {Before: "a@example.com", After: "b@example.com"}, "gone": {Before: 1}, "new": {After: 2},
	}
	if d := cmp.Diff(want, record.Changes(before, after)); d != "" {
		t.Error(d)
	}
	if c := record.Changes(before, before); len(c) != 0 {
		t.Errorf("nothing changed, and yet %v", c)
	}
	if c := record.Changes(nil, after); len(c) != 4 || c["name"].Before != nil {
		t.Errorf("of a new record: %v", c)
	}
}

func TestInUse_NamesTheUsersAndHowManyThereAre(t *testing.T) {
	if err := record.InUse("team", "t-1", record.Uses{Kind: "owner"}); err != nil {
		t.Error(err)
	}
	err := record.InUse("team", "t-1",
		record.Uses{Kind: "owner", First: []string{"o-1"}, Total: 1},
		record.Uses{Kind: "certificate", First: []string{"mc-1", "mc-2"}, Total: 7},
		record.Uses{Kind: "version", First: []string{"cv-1"}, Total: record.MaxUses})
	want := "team t-1 is in use by 1 owner (o-1) and 7 certificates (mc-1, mc-2, …) and at least 10000 versions (cv-1, …)"
	if fault.CodeOf(err) != fault.Conflict || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
