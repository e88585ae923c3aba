package app_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/httpapi/issuerapi"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/services/issuer/internal/app"
)

const bulkPath = certificates + "/bulk/"

var bulkOperations = map[string]string{"renew": "bulkRenewCertificates", "archive": "bulkArchiveCertificates", "reassign": "bulkReassignCertificates"}

func (w *world) plan(action string, body any) (p issuerapi.BulkPlan) {
	w.t.Helper()
	w.must(http.StatusOK, http.MethodPost, bulkOperations[action], bulkPath+action, body, &p)
	return p
}

// bulk makes an operation and waits until it has ended.
func (w *world) bulk(action string, body any) issuerapi.BulkOperation {
	w.t.Helper()
	var o issuerapi.BulkOperation
	w.must(http.StatusAccepted, http.MethodPost, bulkOperations[action], bulkPath+action, body, &o)
	w.await("the operation to end", func() bool {
		w.must(http.StatusOK, http.MethodGet, "getBulkOperation", "/api/v1/bulk-operations/"+o.ID, nil, &o)
		return o.CompletedAt != nil
	})
	return o
}

func (w *world) items(operationID, query string) (l issuerapi.BulkItemList) {
	w.t.Helper()
	w.must(http.StatusOK, http.MethodGet, "listBulkItems", "/api/v1/bulk-operations/"+operationID+"/items?"+query, nil, &l)
	return l
}

// issued makes the certificates of fill look as if they had been issued, so that they can be renewed.
func (w *world) issued(n int) {
	w.t.Helper()
	w.fill(n)
	w.exec(`UPDATE issuer.certificates SET version_id = 'cv-' || id, status = CASE WHEN status = 'Pending' THEN 'Active' ELSE status END`)
}

func TestBulk_RenewsWhatAFilterChoosesAndRefusesWithReasons(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.issued(900)
	w.exec(`UPDATE issuer.certificates SET status = 'Archived' WHERE id = 'mc-00000003'`)
	w.exec(`UPDATE issuer.certificates SET status = 'RenewalInProgress' WHERE id = 'mc-00000006'`)
	filter := map[string]any{"environment": "prod", "q": `expires_at > timestamp("2026-01-01T00:00:00Z")`}

	plan := w.plan("renew", map[string]any{"filter": filter, "dry_run": true})
	if plan.Total != 300 || plan.WouldChange != 298 || plan.WouldRefuse != 2 || len(plan.Ids) != 100 || len(plan.Refusals) != 2 ||
		plan.ByOwner["o-default"] != 298 || plan.ByIssuer["iss-local"] != 298 || plan.ByStatus["Active"] == 0 || !plan.DryRun {
		t.Errorf("plan %+v", plan)
	}
	if l := w.renewals(); l != 0 {
		t.Errorf("a dry run has begun %d renewals", l)
	}

	o := w.bulk("renew", map[string]any{"filter": filter})
	if o.Status != "Completed" || o.Total != 300 || o.Succeeded != 298 || o.Refused != 2 || o.Pending != 0 || o.RequestedBy != admin.ID ||
		o.Filter == nil || *o.Filter.Environment != "prod" || o.StartedAt == nil {
		t.Errorf("operation %+v", o)
	}
	refused := w.items(o.ID, "status=Refused")
	if len(refused.Data) != 2 || *refused.Data[0].Reason != "certificate mc-00000003 is archived, and archived certificates are never renewed" {
		t.Errorf("refused %+v", refused.Data)
	}
	seen := map[string]bool{}
	for query := "status=Succeeded&per_page=120"; ; {
		page := w.items(o.ID, query)
		for _, i := range page.Data {
			seen[i.CertificateID] = true
			if j := w.job(*i.JobID); j.CertificateID != i.CertificateID || j.Type != "Renewal" {
				t.Fatalf("item %+v, job %+v", i, j)
			}
		}
		if page.NextCursor == nil {
			break
		}
		query = "status=Succeeded&per_page=120&cursor=" + *page.NextCursor
	}
	if len(seen) != 298 || !seen["mc-00000009"] || seen["mc-00000001"] {
		t.Errorf("%d items succeeded", len(seen))
	}
	w.await("an event for each", func() bool {
		return len(all(w.heard, func(e event.CertificateRequested) bool { return e.Renewal })) == 298
	})
	_, message := hear(w, func(e event.CertificateRequested) bool { return e.CertificateID == "mc-00000009" })
	if message.Actor != admin.ID || message.AggVersion != 2 {
		t.Errorf("event %+v", message)
	}
}

// renewals counts the jobs of renewals.
func (w *world) renewals() (n int) {
	w.t.Helper()
	if err := w.pool.QueryRow(w.t.Context(), `SELECT count(*) FROM jobs WHERE type = 'Renewal'`).Scan(&n); err != nil {
		w.t.Fatal(err)
	}
	return n
}

func TestBulk_ArchivesByIDsAndCancelsOpenJobs(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.issued(6)
	w.must(http.StatusAccepted, http.MethodPost, "renewCertificate", certificates+"/mc-00000001/renew", nil, nil)
	chosen := map[string]any{"ids": []string{"mc-00000002", "mc-00000001", "mc-00000002", "mc-nosuch"}}
	plan := w.plan("archive", map[string]any{"ids": chosen["ids"], "dry_run": true})
	if plan.WouldChange != 2 || len(plan.Refusals) != 1 || plan.Refusals[0].CertificateID != "mc-nosuch" {
		t.Errorf("plan %+v", plan)
	}
	o := w.bulk("archive", chosen)
	if o.Total != 3 || o.Succeeded != 2 || o.Refused != 1 {
		t.Errorf("operation %+v", o)
	}
	if c := w.certificate("mc-00000001"); c.Status != "Archived" {
		t.Errorf("certificate %+v", c)
	}
	var open int
	if err := w.pool.QueryRow(t.Context(), `SELECT count(*) FROM jobs WHERE status NOT IN ('Completed', 'Cancelled')`).Scan(&open); err != nil || open != 0 {
		t.Errorf("%d jobs are open, error %v", open, err)
	}
	hear(w, func(e event.CertificateArchived) bool { return e.CertificateID == "mc-00000002" })
	again := w.bulk("archive", map[string]any{"ids": []string{"mc-00000001"}})
	if again.Refused != 1 {
		t.Errorf("again %+v", again)
	}
	if none := w.bulk("archive", map[string]any{"ids": []string{"mc-nosuch"}}); none.Status != "Completed" || none.Refused != 1 {
		t.Errorf("none %+v", none)
	}
}

func TestBulk_ReassignsAndTellsWhatChanged(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.issued(6)
	w.exec(`INSERT INTO issuer.owners (id, name, team_id) VALUES ('o-bob', 'Bob', 't-web')`)
	w.exec(`UPDATE issuer.certificates SET status = 'Archived' WHERE id = 'mc-00000004'`)
	o := w.bulk("reassign", map[string]any{"filter": map[string]any{"q": "true"}, "owner_id": "o-bob", "team_id": "t-web"})
	if o.Succeeded != 5 || o.Refused != 1 || *o.OwnerID != "o-bob" || o.Environment != nil {
		t.Errorf("operation %+v", o)
	}
	if c := w.certificate("mc-00000002"); c.OwnerID != "o-bob" || c.TeamID != "t-web" || c.Environment != "" {
		t.Errorf("certificate %+v", c)
	}
	e, message := hear(w, func(e event.CertificateUpdated) bool { return e.CertificateID == "mc-00000001" })
	want := event.Changes{"owner_id": {Before: "o-default", After: "o-bob"}}
	if d := cmp.Diff(want, e.Changes); d != "" || e.TeamID != "t-web" || message.AggVersion != 2 {
		t.Errorf("event %+v\n%s", e, d)
	}
	// What is so already is left alone.
	again := w.bulk("reassign", map[string]any{"ids": []string{"mc-00000001"}, "owner_id": "o-bob"})
	if again.Succeeded != 1 {
		t.Errorf("again %+v", again)
	}
	if told := all(w.heard, func(e event.CertificateUpdated) bool { return e.CertificateID == "mc-00000001" }); len(told) != 1 {
		t.Errorf("told %d times", len(told))
	}
}

func TestBulk_NamesWhatIsWrong(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.fill(1)
	many := make([]string, 10_001)
	for i := range many {
		many[i] = fmt.Sprint("mc-", i)
	}
	for _, c := range []struct {
		action, field string
		body          map[string]any
	}{
		{"renew", "ids", map[string]any{}},
		{"renew", "ids", map[string]any{"ids": []string{"mc-1"}, "filter": map[string]any{"q": "true"}}},
		{"renew", "ids", map[string]any{"ids": many}},
		{"renew", "ids", map[string]any{"ids": []string{"\x00"}}},
		{"archive", "filter", map[string]any{"filter": map[string]any{}}},
		{"archive", "filter.env", map[string]any{"filter": map[string]any{"status": "Active", "env": "test"}}},
		{"archive", "q", map[string]any{"filter": map[string]any{"q": "nosuch"}}},
		{"archive", "filter.status", map[string]any{"filter": map[string]any{"status": "Banana"}, "dry_run": true}},
		{"reassign", "owner_id", map[string]any{"ids": []string{"mc-1"}}},
		{"reassign", "owner_id", map[string]any{"ids": []string{"mc-1"}, "owner_id": "o-nosuch"}},
		{"reassign", "owner_id", map[string]any{"ids": []string{"mc-1"}, "owner_id": ""}},
		{"reassign", "team_id", map[string]any{"ids": []string{"mc-1"}, "team_id": "t-nosuch"}},
		{"reassign", "environment", map[string]any{"ids": []string{"mc-1"}, "environment": "\x00"}},
	} {
		p := w.refused(http.StatusBadRequest, http.MethodPost, bulkOperations[c.action], bulkPath+c.action, c.body)
		if len(p.Errors) != 1 || p.Errors[0].Name != c.field {
			t.Errorf("%s: fields %+v, want %s", c.action, p.Errors, c.field)
		}
	}
	w.refused(http.StatusNotFound, http.MethodGet, "getBulkOperation", "/api/v1/bulk-operations/bulk-nosuch", nil)
	w.refused(http.StatusNotFound, http.MethodGet, "listBulkItems", "/api/v1/bulk-operations/bulk-nosuch/items", nil)
	w.refused(http.StatusNotFound, http.MethodPost, "cancelBulkOperation", "/api/v1/bulk-operations/bulk-nosuch/cancel", nil)
	done := w.bulk("archive", map[string]any{"ids": []string{"mc-00000001"}})
	w.refused(http.StatusConflict, http.MethodPost, "cancelBulkOperation", "/api/v1/bulk-operations/"+done.ID+"/cancel", nil)
}

func TestBulk_SeesAndTouchesNothingOutsideTheScope(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.issued(12)
	others := w.bulk("archive", map[string]any{"ids": []string{"mc-00000012"}})
	w.as = authn.Principal{ID: "key-web", Kind: authn.KindUser, Scope: authn.Scope{Teams: []string{"t-web"}}}
	plan := w.plan("archive", map[string]any{"filter": map[string]any{"q": "true"}, "dry_run": true})
	if plan.Total != 6 {
		t.Errorf("plan %+v", plan)
	}
	w.refused(http.StatusForbidden, http.MethodPost, bulkOperations["reassign"], bulkPath+"reassign",
		map[string]any{"ids": []string{"mc-00000001"}, "team_id": "t-default"})
	o := w.bulk("archive", map[string]any{"ids": []string{"mc-00000001", "mc-00000002"}})
	if o.Succeeded != 1 || o.Refused != 1 {
		t.Errorf("operation %+v", o)
	}
	if reason := *w.items(o.ID, "status=Refused").Data[0].Reason; reason != "there is no certificate mc-00000002" {
		t.Errorf("reason %q", reason)
	}
	w.refused(http.StatusNotFound, http.MethodGet, "getBulkOperation", "/api/v1/bulk-operations/"+others.ID, nil)
	w.refused(http.StatusNotFound, http.MethodPost, "cancelBulkOperation", "/api/v1/bulk-operations/"+others.ID+"/cancel", nil)
	var l issuerapi.BulkOperationList
	w.must(http.StatusOK, http.MethodGet, "listBulkOperations", "/api/v1/bulk-operations?status=Completed", nil, &l)
	if len(l.Data) != 1 || l.Data[0].ID != o.ID {
		t.Errorf("operations %+v", l.Data)
	}
	w.as = admin
	if c := w.certificate("mc-00000002"); c.Status == "Archived" {
		t.Error("what is outside was archived")
	}
	w.must(http.StatusOK, http.MethodGet, "listBulkOperations", "/api/v1/bulk-operations", nil, &l)
	if len(l.Data) != 2 {
		t.Errorf("operations %+v", l.Data)
	}
}

// Two replicas work side by side and one of them goes: each certificate is renewed once.
func TestBulk_IsDoneOnceByReplicasThatComeAndGo(t *testing.T) {
	w := newWorld(t)
	first := w.start(app.Settings{})
	w.start(app.Settings{})
	w.issued(3000)
	var wg sync.WaitGroup
	var made [3]issuerapi.BulkOperation
	for i := range made {
		// The three choose the same certificates.
		wg.Go(func() {
			w.must(http.StatusAccepted, http.MethodPost, bulkOperations["renew"], bulkPath+"renew",
				map[string]any{"filter": map[string]any{"issuer_id": "iss-local"}}, &made[i])
		})
	}
	wg.Wait()
	first.end()
	succeeded := 0
	for i := range made {
		w.await("the operations to end", func() bool {
			w.must(http.StatusOK, http.MethodGet, "getBulkOperation", "/api/v1/bulk-operations/"+made[i].ID, nil, &made[i])
			return made[i].CompletedAt != nil
		})
		if made[i].Status != "Completed" || made[i].Succeeded+made[i].Refused != 3000 {
			t.Errorf("operation %+v", made[i])
		}
		succeeded += made[i].Succeeded
	}
	if n := w.renewals(); succeeded != 3000 || n != 3000 {
		t.Errorf("%d items succeeded, %d jobs were made", succeeded, n)
	}
}

// A rule that blocks refuses items one by one, as it would each renewal, and says so beforehand.
func TestBulk_IsHeldToThePolicyRules(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.issued(9)
	w.policyRule(object{
		"id": "pr-prod", "name": "Only production", "type": "AllowedEnvironments", "severity": "Error", "enabled": true,
		"config": object{"environments": []string{"prod"}},
	})
	w.policyRule(object{
		"id": "pr-warn", "name": "Other CA", "type": "AllowedIssuers", "enabled": true, "config": object{"issuer_ids": []string{"iss-other"}},
	})
	chosen := object{"filter": object{"q": "true"}, "dry_run": true}
	plan := w.plan("renew", chosen)
	if plan.WouldChange != 3 || plan.WouldRefuse != 6 || !strings.Contains(plan.Refusals[0].Reason, "Only production") {
		t.Errorf("plan %+v", plan)
	}
	if found := w.violations("pr-prod"); len(found) != 0 {
		t.Errorf("a dry run has put %d violations on record", len(found))
	}
	chosen["dry_run"] = false
	o := w.bulk("renew", chosen)
	if o.Succeeded != 3 || o.Refused != 6 {
		t.Errorf("operation %+v", o)
	}
	if reason := *w.items(o.ID, "status=Refused&per_page=1").Data[0].Reason; !strings.Contains(reason, "Only production") {
		t.Errorf("reason %q", reason)
	}
	if blocked, warned := w.violations("pr-prod"), w.violations("pr-warn"); len(blocked) != 6 || len(warned) != 9 {
		t.Errorf("%d violations that block and %d that warn are on record", len(blocked), len(warned))
	}
}
