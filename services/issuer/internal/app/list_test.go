package app_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/contracts/httpapi/issuerapi"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/services/issuer/internal/app"
)

// fill puts certificates and their jobs into the database as a service with a past would have them.
func (w *world) fill(n int) {
	w.t.Helper()
	w.exec(`INSERT INTO issuer.teams (id, name) VALUES ('t-web', 'Web') ON CONFLICT DO NOTHING`)
	w.exec(`INSERT INTO issuer.certificates (id, name, common_name, sans, environment, owner_id, team_id, issuer_id,
			renewal_policy_id, status, expires_at, created_at, updated_at)
		SELECT 'mc-' || lpad(i::text, 8, '0'), 'n', 'host-' || (i * 7919 % 1000) || '.example.com', '{x}',
			(ARRAY['prod', 'test', ''])[i % 3 + 1], 'o-default', (ARRAY['t-default', 't-web'])[i % 2 + 1], 'iss-local',
			'rp-default', (ARRAY['Active', 'Expiring', 'Failed', 'Pending'])[i % 4 + 1],
			'2027-01-01'::timestamptz + (i % 50) * interval '1 day', '2026-01-01'::timestamptz + (i / 3) * interval '1 second', now()
		FROM generate_series(1, $1::int) i`, n)
	w.exec(`INSERT INTO issuer.jobs (id, type, certificate_id, status, requested_by, created_at)
		SELECT 'job-i-' || substr(id, 4), 'Issuance', id, 'Completed', 'key-1', created_at FROM issuer.certificates`)
	w.exec(`ANALYZE issuer.certificates, issuer.jobs`)
}

func (w *world) list(query url.Values) (l issuerapi.CertificateList) {
	w.t.Helper()
	w.must(http.StatusOK, http.MethodGet, "listCertificates", certificates+"?"+query.Encode(), nil, &l)
	return l
}

func ids(l issuerapi.CertificateList) []string {
	out := make([]string, len(l.Data))
	for i := range l.Data {
		out[i] = l.Data[i].ID
	}
	return out
}

func TestList_EveryOrderReadsEveryRowOnceWhileRowsAreAdded(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	const n = 100
	w.fill(n)
	for i, sort := range []string{"", "createdAt", "-created_at", "notAfter", "-expiresAt", "commonName", "-common_name", "updatedAt", "-name", "status", "-environment"} {
		t.Run("sort="+sort, func(t *testing.T) {
			query := url.Values{"per_page": {"7"}}
			if sort != "" {
				query.Set("sort", sort)
			}
			seen := map[string]int{}
			var keys []string
			for pages := 0; ; pages++ {
				l := w.list(query)
				for _, c := range l.Data {
					seen[c.ID]++
					keys = append(keys, sortKey(&c, strings.TrimPrefix(sort, "-")))
				}
				if pages == 3 {
					w.create(map[string]any{"common_name": fmt.Sprintf("new-%d.example.com", i)})
				}
				if l.NextCursor == nil {
					break
				}
				query.Set("cursor", *l.NextCursor)
			}
			old := 0
			for certificateID, times := range seen {
				if times != 1 {
					t.Errorf("%s came %d times", certificateID, times)
				}
				if strings.HasPrefix(certificateID, "mc-000") {
					old++
				}
			}
			if old != n {
				t.Errorf("%d of %d rows came", old, n)
			}
			if strings.HasPrefix(sort, "-") {
				slices.Reverse(keys)
			}
			if !slices.IsSorted(keys) {
				t.Error("the rows are not in order")
			}
		})
	}
}

func sortKey(c *issuerapi.Certificate, sort string) string {
	switch sort {
	case "notAfter", "expiresAt":
		return c.ExpiresAt.Format(time.RFC3339Nano)
	case "commonName", "common_name":
		return c.CommonName
	case "name":
		return c.Name
	case "status":
		return string(c.Status)
	case "environment":
		return c.Environment
	case "updatedAt":
		return c.UpdatedAt.Format(sortable)
	default:
		return c.CreatedAt.Format(sortable)
	}
}

// sortable is RFC 3339 with a fraction of one length.
const sortable = "2006-01-02T15:04:05.000000000Z07:00"

func TestList_PagesAndTotals(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.fill(100)
	l := w.list(url.Values{"page": {"3"}, "per_page": {"40"}})
	if len(l.Data) != 20 || l.Total != 100 || *l.Page != 3 || *l.PerPage != 40 || l.NextCursor != nil {
		t.Errorf("last page: %d rows, total %d", len(l.Data), l.Total)
	}
	l = w.list(url.Values{"page": {"9"}, "per_page": {"40"}})
	if len(l.Data) != 0 || l.Total != 100 {
		t.Errorf("behind the end: %d rows, total %d", len(l.Data), l.Total)
	}
	if l = w.list(url.Values{"per_page": {"9999"}}); *l.PerPage != 500 || len(l.Data) != 100 {
		t.Errorf("per_page %d", l.PerPage)
	}
	if l = w.list(url.Values{"status": {"Failed"}, "environment": {"prod"}, "per_page": {"2"}}); l.Total != 8 || len(l.Data) != 2 {
		t.Errorf("filtered: %d rows, total %d", len(l.Data), l.Total)
	}
	if l = w.list(url.Values{"team_id": {"t-web"}, "owner_id": {"o-default"}, "issuer_id": {"iss-local"}, "per_page": {"1"}}); l.Total != 50 {
		t.Errorf("team t-web: total %d", l.Total)
	}
	if l = w.list(url.Values{"team_id": {"t-none"}}); l.Data == nil || len(l.Data) != 0 || l.Total != 0 {
		t.Errorf("nothing: %+v", l)
	}
	first := w.list(url.Values{"per_page": {"10"}})
	second := w.list(url.Values{"per_page": {"10"}, "cursor": {*first.NextCursor}})
	if diff := cmp.Diff(ids(w.list(url.Values{"per_page": {"10"}, "page": {"2"}})), ids(second)); diff != "" || second.Total != 100 {
		t.Errorf("page 2 and the cursor differ, or total %d:\n%s", second.Total, diff)
	}
}

func TestList_NamesWrongParameters(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.fill(3)
	byName := w.list(url.Values{"sort": {"commonName"}, "per_page": {"1"}})
	for query, field := range map[string]string{
		"status=Banana": "status", "sort=size": "sort", "page=0": "page", "page=x": "page", "per_page=0": "per_page",
		"per_page=-1": "per_page", "cursor=!!": "cursor", "cursor=AAAA": "cursor", "environment=%00": "environment",
		"team_id=%ff": "team_id", "page=1000&per_page=500": "page",
		"sort=notAfter&cursor=" + *byName.NextCursor: "cursor",
	} {
		p := w.refused(http.StatusBadRequest, http.MethodGet, "listCertificates", certificates+"?"+query, nil)
		if len(p.Errors) != 1 || p.Errors[0].Name != field {
			t.Errorf("%s: fields %+v, want %s", query, p.Errors, field)
		}
	}
	for query, field := range map[string]string{"status=Active": "status", "type=Banana": "type", "cursor=x": "cursor"} {
		p := w.refused(http.StatusBadRequest, http.MethodGet, "listJobs", "/api/v1/jobs?"+query, nil)
		if len(p.Errors) != 1 || p.Errors[0].Name != field {
			t.Errorf("jobs %s: fields %+v, want %s", query, p.Errors, field)
		}
	}
}

func TestList_OfJobsIsNewestFirst(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.fill(30)
	var l issuerapi.JobList
	query := url.Values{"per_page": {"20"}, "status": {"Completed"}, "type": {"Issuance"}}
	w.must(http.StatusOK, http.MethodGet, "listJobs", "/api/v1/jobs?"+query.Encode(), nil, &l)
	if len(l.Data) != 20 || l.Total != 30 || l.Data[0].ID != "job-i-00000030" || l.NextCursor == nil {
		t.Errorf("%d rows of %d, first %s", len(l.Data), l.Total, l.Data[0].ID)
	}
	query.Set("cursor", *l.NextCursor)
	w.must(http.StatusOK, http.MethodGet, "listJobs", "/api/v1/jobs?"+query.Encode(), nil, &l)
	if len(l.Data) != 10 || l.Data[9].ID != "job-i-00000001" || l.Data[0].ScheduledAt.IsZero() {
		t.Errorf("rest: %d rows, last %s", len(l.Data), l.Data[len(l.Data)-1].ID)
	}
	l = issuerapi.JobList{}
	w.must(http.StatusOK, http.MethodGet, "listJobs", "/api/v1/jobs?certificate_id=mc-00000007&type=Deployment", nil, &l)
	if l.Data == nil || len(l.Data) != 0 {
		t.Errorf("deployment jobs are not the issuer's: %+v", l)
	}
}

// What is outside of a scope is not there, to read and to change.
func TestScope_HidesWhatIsOutside(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.fill(12)
	const inside, outside = "mc-00000001", "mc-00000002"
	in, out := w.certificate(inside), w.certificate(outside)
	if in.TeamID != "t-web" || in.Environment != "test" || out.TeamID != "t-default" || out.Environment != "" {
		t.Fatalf("the rows are not what this test needs: %+v %+v", in, out)
	}
	scopes := map[string]authn.Scope{
		"team":        {Teams: []string{"t-web"}},
		"environment": {Environments: []string{"test"}},
		"both":        {Teams: []string{"t-web"}, Environments: []string{"test", "prod"}},
	}
	for name, scope := range scopes {
		t.Run(name, func(t *testing.T) {
			w.as = authn.Principal{ID: "key-web", Kind: authn.KindUser, Scope: scope}
			defer func() { w.as = admin }()
			for _, call := range []struct{ method, operation, path string }{
				{http.MethodGet, "getCertificate", certificates + "/" + outside},
				{http.MethodGet, "listCertificateVersions", certificates + "/" + outside + "/versions"},
				{http.MethodPost, "renewCertificate", certificates + "/" + outside + "/renew"},
				{http.MethodDelete, "archiveCertificate", certificates + "/" + outside},
				{http.MethodGet, "getJob", "/api/v1/jobs/job-i-00000002"},
				{http.MethodPost, "cancelJob", "/api/v1/jobs/job-i-00000002/cancel"},
				{http.MethodPost, "approveJob", "/api/v1/jobs/job-i-00000002/approve"},
				{http.MethodPost, "rejectJob", "/api/v1/jobs/job-i-00000002/reject"},
				{http.MethodGet, "getRenewalPlan", certificates + "/" + outside + "/renewal-plan"},
			} {
				w.refused(http.StatusNotFound, call.method, call.operation, call.path, nil)
			}
			w.refused(http.StatusNotFound, http.MethodPost, "submitCertificateCSR", certificates+"/"+outside+"/csr", map[string]any{"csr_pem": "x"})
			w.refused(http.StatusForbidden, http.MethodPost, "createCertificate", certificates, map[string]any{"common_name": "a.example.com"})
			w.certificate(inside)
			w.job("job-i-00000001")
			for _, c := range w.list(nil).Data {
				if c.ID == outside {
					t.Errorf("the list shows %s", outside)
				}
			}
			var jobs issuerapi.JobList
			w.must(http.StatusOK, http.MethodGet, "listJobs", "/api/v1/jobs", nil, &jobs)
			if len(jobs.Data) == 0 || slices.ContainsFunc(jobs.Data, func(j issuerapi.Job) bool { return j.CertificateID == outside }) {
				t.Errorf("jobs %+v", jobs.Data)
			}
		})
	}
	if now := w.certificate(outside); now.Status != out.Status {
		t.Errorf("what is outside changed: %+v", now)
	}
	w.as = authn.Principal{ID: "key-none", Kind: authn.KindUser, Scope: authn.Scope{Teams: []string{}}}
	if l := w.list(nil); l.Total != 0 || len(l.Data) != 0 {
		t.Errorf("an empty scope shows %d rows", l.Total)
	}
	w.as = authn.Principal{ID: "key-iss", Kind: authn.KindUser, Scope: authn.Scope{Issuers: []string{"iss-other"}}}
	w.refused(http.StatusNotFound, http.MethodGet, "getIssuer", "/api/v1/issuers/iss-local", nil)
	w.refused(http.StatusForbidden, http.MethodPost, "createCertificate", certificates, map[string]any{"common_name": "a.example.com"})
	w.as = authn.Principal{}
	w.refused(http.StatusUnauthorized, http.MethodGet, "listCertificates", certificates, nil)
}
