package app_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/contracts/httpapi/issuerapi"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/services/issuer/internal/app"
)

// raw is a list as it comes.
func (w *world) raw(query string) (envelope map[string]json.RawMessage) {
	w.t.Helper()
	w.must(http.StatusOK, http.MethodGet, "listCertificates", certificates+"?"+query, nil, &envelope)
	return envelope
}

func keys(m map[string]json.RawMessage) string {
	var out []string
	for _, k := range []string{"data", "total", "page", "per_page", "next_cursor", "page_size"} {
		if _, ok := m[k]; ok {
			out = append(out, k+"="+strings.Trim(string(m[k]), `"`))
		}
	}
	return strings.Join(out[1:], " ")
}

func TestList_ChangesItsEnvelopeWithACursor(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.fill(7)
	first := w.raw("per_page=3")
	var cursor string
	if err := json.Unmarshal(first["next_cursor"], &cursor); err != nil {
		t.Fatal(err)
	}
	if got := keys(first); got != "total=7 page=1 per_page=3 next_cursor="+cursor {
		t.Errorf("first page: %s", got)
	}
	if got := keys(w.raw("cursor=" + cursor)); got != "total=7 page_size=50" {
		t.Errorf("rest: %s", got)
	}
	if got := keys(w.raw("page_size=2&page=4&per_page=3")); got != "total=7 page=4 per_page=3" {
		t.Errorf("page_size: %s", got)
	}
	var rows []json.RawMessage
	if err := json.Unmarshal(w.raw("page_size=2&per_page=3")["data"], &rows); err != nil || len(rows) != 2 {
		t.Errorf("page_size gives %d rows, error %v", len(rows), err)
	}
}

func TestList_ShowsOnlyTheFieldsThatAreAskedFor(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.fill(2)
	for fields, want := range map[string]string{
		"id":                    `[{"id":"mc-00000001"},{"id":"mc-00000002"}]`,
		"status,common_name,xy": `[{"common_name":"host-919.example.com","status":"Expiring"},{"common_name":"host-838.example.com","status":"Failed"}]`,
		"nosuch":                `[{},{}]`,
	} {
		if got := string(w.raw("fields=" + fields)["data"]); got != want {
			t.Errorf("%s: %s", fields, got)
		}
	}
}

func TestList_FiltersByTimeStatusAndExpression(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.fill(12)
	w.exec(`UPDATE issuer.certificates SET tags = '{"tier": "gold"}', certificate_profile_id = 'prof-1' WHERE id = 'mc-00000003'`)
	w.exec(`UPDATE issuer.certificates SET updated_at = '2030-01-01' WHERE id = 'mc-00000004'`)
	for query, want := range map[string]string{
		"expires_before=2027-01-03T00:00:00Z":                                    "1",
		"expires_after=2027-01-11T00:00:00Z":                                     "11 12",
		"expires_after=2027-01-03T00:00:00Z&expires_before=2027-01-05T00:00:00Z": "3",
		"created_after=2026-01-01T00:00:03Z":                                     "12",
		"updated_after=2029-01-01T00:00:00Z":                                     "4",
		"status=Failed, Pending&created_after=2026-01-01T00:00:01Z":              "6 7 10 11",
		"profile_id=prof-1":                                                      "3",
		"sort=name&sort_desc=true&status=Failed":                                 "10 6 2",
		"sort=-expires_at&status=Failed":                                         "10 6 2",
		"sort=-status&environment=prod&created_after=2026-01-01T00:00:02Z":       "9 12",
		`q=tags["tier"] == "gold"`:                                               "3",
		`q=status == "Failed" && expires_at > timestamp("2027-01-05T00:00:00Z")`: "6 10",
		`q=id in ["mc-00000001", "x"]`:                                           "1",
		`q=common_name.endsWith("19.example.com") || has(tags.tier)`:             "1 3",
		`q=created_at > now()`:                                                   "",
		`q=name == "'; DROP TABLE issuer.certificates; --"`:                      "",
	} {
		values := url.Values{}
		if q, is := strings.CutPrefix(query, "q="); is {
			values.Set("q", q)
		} else if values, _ = url.ParseQuery(query); values == nil {
			t.Fatal(query)
		}
		var got []string
		for _, id := range ids(w.list(values)) {
			got = append(got, strings.TrimLeft(strings.TrimPrefix(id, "mc-"), "0"))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %s, want %s", query, strings.Join(got, " "), want)
		}
	}
}

func TestList_NamesWrongFiltersAndWhereAnExpressionIsWrong(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	for query, want := range map[string]string{
		"expires_before=soon": "expires_before", "created_after=1": "created_after", "updated_after=2026-13-01T00:00:00Z": "updated_after",
		"status=Active,Banana": "status", "sort_desc=maybe": "sort_desc",
		"page_size=0": "page_size", "page_size=x": "page_size", "sort=-": "sort", "q=nosuch": "q", "profile_id=%00": "profile_id", "agent_id=%ff": "agent_id",
		"q=" + strings.Repeat("a", 3000): "q", "q=%00": "q", "q=%ff": "q", `q=status+%3D%3D+"active"`: "q",
	} {
		p := w.refused(http.StatusBadRequest, http.MethodGet, "listCertificates", certificates+"?"+query, nil)
		if len(p.Errors) != 1 || p.Errors[0].Name != want {
			t.Errorf("%s: fields %+v, want %s", query, p.Errors, want)
		}
	}
	p := w.refused(http.StatusBadRequest, http.MethodGet, "listCertificates", certificates+"?q="+url.QueryEscape(`status == "Failed" && owner == "x"`), nil)
	if reason := p.Errors[0].Reason; !strings.Contains(reason, "line 1, column 23") || !strings.Contains(reason, "owner_id") {
		t.Errorf("reason %q", reason)
	}
	p = w.refused(http.StatusBadRequest, http.MethodGet, "listJobs", "/api/v1/jobs?q="+url.QueryEscape(`common_name == "x"`), nil)
	if reason := p.Errors[0].Reason; !strings.Contains(reason, "certificate_id") {
		t.Errorf("reason %q", reason)
	}
}

func TestSearch_NeverReachesBeyondTheScope(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.fill(12)
	w.as = authn.Principal{ID: "key-web", Kind: authn.KindUser, Scope: authn.Scope{Teams: []string{"t-web"}}}
	for _, q := range []string{`true`, `team_id == "t-default" || true`, `team_id == "t-default"`} {
		for _, c := range w.list(url.Values{"q": {q}}).Data {
			if c.TeamID != "t-web" {
				t.Errorf("%s shows %s of %s", q, c.ID, c.TeamID)
			}
		}
	}
	var l issuerapi.JobList
	w.must(http.StatusOK, http.MethodGet, "listJobs", "/api/v1/jobs?q="+url.QueryEscape(`status == "Completed" || true`), nil, &l)
	if len(l.Data) != 6 {
		t.Errorf("%d jobs", len(l.Data))
	}
}

func TestJobs_AreFilteredByTimeAndExpression(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.fill(12)
	w.exec(`UPDATE issuer.jobs SET attempts = 3, last_error = 'the CA is away', started_at = now() WHERE id = 'job-i-00000005'`)
	for query, want := range map[string]int{
		"created_after=2026-01-01T00:00:03Z":    1,
		"created_before=2026-01-01T00:00:01Z":   2,
		`q=attempts >= 3`:                       1,
		`q=last_error.contains("away")`:         1,
		`q=started_at == null`:                  11,
		`q=started_at > now() - duration("1h")`: 1,
		`q=type in ["Issuance", "Deployment"]`:  12,
		`q=target_id == "tgt-1"`:                0,
		`q=certificate_id == "mc-00000007"`:     1,
	} {
		values, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		var l issuerapi.JobList
		w.must(http.StatusOK, http.MethodGet, "listJobs", "/api/v1/jobs?"+values.Encode(), nil, &l)
		if len(l.Data) != want {
			t.Errorf("%s: %d jobs, want %d", query, len(l.Data), want)
		}
	}
}

func TestVersionsAndIssuers_AreReadByCursor(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.fill(1)
	w.exec(`INSERT INTO issuer.certificate_versions (id, certificate_id, imported, serial_number, fingerprint_sha256, spki_sha256,
			not_before, not_after, pem_chain, csr_pem, key_algorithm, key_size, created_at)
		SELECT 'cv-' || i, 'mc-00000001', true, i::text, i::text, '', now(), now(), '', '', '', 0, '2026-01-01' FROM generate_series(1, 5) i`)
	w.exec(`INSERT INTO issuer.issuers (id, name, type, created_at) SELECT 'iss-' || i, 'n', 'ACME', '2026-01-01' FROM generate_series(1, 4) i`)
	var seen []string
	for cursor := ""; ; {
		var l issuerapi.CertificateVersionList
		w.must(http.StatusOK, http.MethodGet, "listCertificateVersions", certificates+"/mc-00000001/versions?per_page=2&cursor="+cursor, nil, &l)
		for _, v := range l.Data {
			seen = append(seen, v.ID)
			if v.IssuerID != nil {
				t.Errorf("%s was imported, and is said to be of issuer %s", v.ID, *v.IssuerID)
			}
		}
		if l.NextCursor == nil {
			break
		}
		cursor = *l.NextCursor
	}
	if d := cmp.Diff([]string{"cv-5", "cv-4", "cv-3", "cv-2", "cv-1"}, seen); d != "" {
		t.Error(d)
	}
	seen = nil
	for cursor := ""; ; {
		var l issuerapi.IssuerList
		w.must(http.StatusOK, http.MethodGet, "listIssuers", "/api/v1/issuers?per_page=2&cursor="+cursor, nil, &l)
		for _, i := range l.Data {
			seen = append(seen, i.ID)
		}
		if l.NextCursor == nil {
			break
		}
		cursor = *l.NextCursor
	}
	if d := cmp.Diff([]string{"iss-1", "iss-2", "iss-3", "iss-4", "iss-local"}, seen); d != "" {
		t.Error(d)
	}
}
