package api_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/contracts/httpapi/deploymentapi"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
)

const groups = "/api/v1/agent-groups"

// host is an agent that told of itself.
func (s *server) host(agentID, os, architecture, ip, version string) {
	s.Helper()
	s.agent(agentID)
	s.exec(`UPDATE agents SET os = $2, architecture = $3, ip_address = $4, version = $5 WHERE id = $1`, agentID, os, architecture, ip, version)
}

// members lists a group's agents, in the order of their ids.
func (s *server) members(group, query string) []string {
	s.Helper()
	var list deploymentapi.AgentList
	s.call(200, "GET", groups+"/"+group+"/members"+query, nil, &list)
	if int(list.Total) != len(list.Data) || list.PerPage != len(list.Data) || list.Page != 1 {
		s.Errorf("%d agents, total %d, page %d of %d", len(list.Data), list.Total, list.Page, list.PerPage)
	}
	ids := []string{}
	for _, a := range list.Data {
		ids = append(ids, a.ID)
	}
	slices.Sort(ids)
	return ids
}

func (s *server) group(body map[string]any) deploymentapi.AgentGroup {
	s.Helper()
	var g deploymentapi.AgentGroup
	s.call(201, "POST", groups, body, &g)
	return g
}

func TestGroups_MembersAreThoseThatMeetEveryCriterion(t *testing.T) {
	s := newServer(t)
	s.host("agent-a", "linux", "amd64", "10.20.0.7", "v1.4.0")
	s.host("agent-b", "Linux", "arm64", "10.30.0.7", "1.9.3")
	s.host("agent-c", "windows", "amd64", "10.20.0.8", "2.0.0")
	s.host("agent-d", "linux", "amd64", "not an address", "devel")
	s.host("agent-e", "linux", "amd64", "2001:db8::7", "1.10.0")
	s.host("agent-gone", "linux", "amd64", "10.20.0.9", "1.4.0")
	s.exec(`UPDATE agents SET status = 'Retired', retired_at = now() WHERE id = 'agent-gone'`)
	for i, tt := range []struct {
		criteria map[string]any
		want     []string
	}{
		{map[string]any{}, []string{}},
		{map[string]any{"match_os": "LINUX"}, []string{"agent-a", "agent-b", "agent-d", "agent-e"}},
		{map[string]any{"match_architecture": "arm64"}, []string{"agent-b"}},
		{map[string]any{"match_ip_cidr": "10.20.0.0/16"}, []string{"agent-a", "agent-c"}},
		{map[string]any{"match_ip_cidr": "2001:db8::/32"}, []string{"agent-e"}},
		{map[string]any{"match_ip_cidr": "10.20.0.8"}, []string{"agent-c"}},
		{map[string]any{"match_version": ">= 1.5, < 2"}, []string{"agent-b", "agent-e"}},
		{map[string]any{"match_version": "^1.4", "match_ip_cidr": "10.0.0.0/8", "match_os": "linux"}, []string{"agent-a", "agent-b"}},
		{map[string]any{"match_os": "plan9"}, []string{}},
	} {
		tt.criteria["name"] = fmt.Sprint("group ", i)
		g := s.group(tt.criteria)
		if got := s.members(g.ID, ""); !cmp.Equal(got, tt.want) {
			t.Errorf("%v: %v, want %v", tt.criteria, got, tt.want)
		}
	}
}

func TestGroups_WhatIsSaidByHandBeatsTheCriteriaBothWays(t *testing.T) {
	s := newServer(t)
	s.host("agent-a", "linux", "", "", "")
	s.host("agent-b", "linux", "", "", "")
	s.host("agent-c", "windows", "", "", "")
	g := s.group(map[string]any{"id": "ag-linux", "name": "linux", "match_os": "linux"})
	path := groups + "/" + g.ID + "/members/"
	s.call(200, "PUT", path+"agent-b", `{"membership_type": "exclude"}`, nil)
	s.call(200, "PUT", path+"agent-c", `{"membership_type": "include"}`, nil)
	for query, want := range map[string][]string{
		"": {"agent-a", "agent-c"}, "?membership=include": {"agent-c"}, "?membership=dynamic": {"agent-a"}, "?membership=exclude": {"agent-b"},
	} {
		if got := s.members(g.ID, query); !cmp.Equal(got, want) {
			t.Errorf("%q: %v, want %v", query, got, want)
		}
	}
	for agent, want := range map[string]int64{"agent-a": 1, "agent-b": 0, "agent-c": 1} {
		var list deploymentapi.AgentGroupList
		s.call(200, "GET", "/api/v1/agents/"+agent+"/groups", nil, &list)
		if list.Total != want || len(list.Data) != int(want) {
			t.Errorf("%s is in %+v", agent, list.Data)
		}
	}
	s.call(204, "DELETE", path+"agent-b", nil, nil)
	s.call(204, "DELETE", path+"agent-b", nil, nil)
	if got := s.members(g.ID, ""); !cmp.Equal(got, []string{"agent-a", "agent-b", "agent-c"}) {
		t.Errorf("%v", got)
	}
	// Of a disabled group one sees whom it would have; it applies to nobody.
	s.call(200, "PUT", groups+"/"+g.ID, `{"enabled": false}`, nil)
	var none deploymentapi.AgentGroupList
	s.call(200, "GET", "/api/v1/agents/agent-a/groups", nil, &none)
	if none.Total != 0 || none.Data == nil || len(s.members(g.ID, "")) != 3 {
		t.Errorf("%+v", none)
	}
	s.refused(400, "PUT", path+"agent-a", `{"membership_type": "perhaps"}`)
	s.refused(400, "GET", groups+"/"+g.ID+"/members?membership=perhaps", nil)
	s.refused(404, "PUT", path+"agent-none", `{"membership_type": "include"}`)
	s.refused(404, "PUT", groups+"/ag-none/members/agent-a", `{"membership_type": "include"}`)
	s.refused(404, "GET", groups+"/ag-none/members", nil)
	s.refused(404, "GET", "/api/v1/agents/agent-none/groups", nil)
}

func TestGroups_LiveThroughTheirLifeAndAreToldFieldByField(t *testing.T) {
	s := newServer(t)
	s.host("agent-a", "linux", "", "", "")
	g := s.group(map[string]any{"name": "Berlin", "match_ip_cidr": "10.20.30.40/16"})
	if !strings.HasPrefix(g.ID, "ag-") || !g.Enabled || g.MatchIPCidr != "10.20.0.0/16" {
		t.Errorf("%+v", g)
	}
	path := groups + "/" + g.ID
	s.refused(409, "POST", groups, map[string]any{"name": "Berlin"})
	s.refused(409, "POST", groups, map[string]any{"name": "Hamburg", "id": g.ID})
	var changed deploymentapi.AgentGroup
	s.call(200, "PUT", path, map[string]any{"id": "other", "match_os": "linux", "match_ip_cidr": ""}, &changed)
	if changed.ID != g.ID || changed.Name != "Berlin" || changed.MatchOs != "linux" || changed.MatchIPCidr != "" || !changed.UpdatedAt.Equal(s.clock.Now()) {
		t.Errorf("%+v", changed)
	}
	s.call(200, "PUT", path, map[string]any{"match_os": "linux"}, nil)
	s.call(200, "PUT", path+"/members/agent-a", `{"membership_type": "include"}`, nil)
	s.call(204, "DELETE", path, nil, nil)
	s.refused(404, "GET", path, nil)
	s.refused(404, "DELETE", path, nil)

	rows, err := s.db.Query(t.Context(), `SELECT (headers->'ce-aggversion'->>0) || ' ' || convert_from(body, 'UTF8') FROM outbox
		WHERE subject LIKE 'certctl.evt.agentgroup.%.changed' ORDER BY id`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var told []string
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			t.Fatal(err)
		}
		told = append(told, strings.ReplaceAll(text, g.ID, "ID"))
	}
	want := []string{
		`1 {"id":"ID","name":"Berlin","verb":"created","changes":{"description":{"before":null,"after":""},"enabled":{"before":null,"after":true},"match_architecture":{"before":null,"after":""},"match_ip_cidr":{"before":null,"after":"10.20.0.0/16"},"match_os":{"before":null,"after":""},"match_version":{"before":null,"after":""},"name":{"before":null,"after":"Berlin"}}}`,
		`2 {"id":"ID","name":"Berlin","verb":"updated","changes":{"match_ip_cidr":{"before":"10.20.0.0/16","after":""},"match_os":{"before":"","after":"linux"}}}`,
		`4 {"id":"ID","name":"Berlin","verb":"updated","changes":{"members.agent-a":{"before":null,"after":"include"}}}`,
	}
	if len(told) != 4 || !strings.HasPrefix(told[3], `5 {"id":"ID","name":"Berlin","verb":"deleted"`) {
		t.Fatalf("told %v", told)
	}
	if diff := cmp.Diff(want, told[:3]); diff != "" {
		t.Error(diff)
	}
}

func TestGroups_ListedNewestFirstByCursorAndFilter(t *testing.T) {
	s := newServer(t)
	for i := range 7 {
		s.group(map[string]any{"id": fmt.Sprint("ag-", i), "name": fmt.Sprint("group ", i), "enabled": i%2 == 0})
		s.clock.Advance(1000)
	}
	var ids []string
	for path := groups + "?per_page=3"; ; {
		var list deploymentapi.AgentGroupList
		s.call(200, "GET", path, nil, &list)
		for _, g := range list.Data {
			ids = append(ids, g.ID)
		}
		if list.NextCursor == nil {
			break
		}
		path = groups + "?per_page=3&cursor=" + *list.NextCursor
	}
	if !cmp.Equal(ids, []string{"ag-6", "ag-5", "ag-4", "ag-3", "ag-2", "ag-1", "ag-0"}) {
		t.Errorf("%v", ids)
	}
	for query, want := range map[string]int64{"?enabled=true": 4, "?enabled=false": 3, "?name=group%203": 1, "?name=nobody": 0} {
		var list deploymentapi.AgentGroupList
		s.call(200, "GET", groups+query, nil, &list)
		if list.Total != want || int64(len(list.Data)) != want {
			t.Errorf("%s: %d of %d, want %d", query, len(list.Data), list.Total, want)
		}
	}
}

func TestGroups_WrongInputIsNamed(t *testing.T) {
	s := newServer(t)
	for field, body := range map[string]string{
		"name": `{"name": " "}`, "match_ip_cidr": `{"name": "g", "match_ip_cidr": "10.0.0.0/64"}`,
		"match_version": `{"name": "g", "match_version": "new"}`, "id": `{"name": "g", "id": "A.B"}`, "match_os": `{"name": "g", "match_os": "a\u0000"}`,
	} {
		if why := s.refused(400, "POST", groups, body); !strings.Contains(why, field) {
			t.Errorf("%s: %s", field, why)
		}
	}
	s.refused(400, "GET", groups+"?cursor=Banana", nil)
	s.refused(400, "GET", groups+"?enabled=Banana", nil)
	s.caller.Scope = authn.Scope{Teams: []string{"t-red"}}
	s.call(200, "GET", groups, nil, nil)
	s.refused(403, "POST", groups, `{"name": "g"}`)
	s.refused(403, "PUT", groups+"/ag-1", `{"name": "g"}`)
	s.refused(403, "DELETE", groups+"/ag-1", nil)
	s.refused(403, "PUT", groups+"/ag-1/members/agent-a", `{"membership_type": "include"}`)
	s.refused(403, "DELETE", groups+"/ag-1/members/agent-a", nil)
}

// send makes a request with If-Match and returns the status and the ETag of the answer.
func (s *server) send(method, path, ifMatch, body string) (int, string) {
	s.Helper()
	r := httptest.NewRequestWithContext(authn.NewContext(s.Context(), s.caller), method, path, strings.NewReader(body))
	if ifMatch != "" {
		r.Header.Set("If-Match", ifMatch)
	}
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	return w.Code, w.Header().Get("ETag")
}

func TestUpdates_AreHeldToWhatTheirSenderHasSeen(t *testing.T) {
	s := newServer(t)
	s.agent("agent-a")
	s.call(201, "POST", "/api/v1/targets", map[string]any{"id": "tgt-1", "name": "web-1", "type": "NGINX", "agent_id": "agent-a", "config": nginx}, nil)
	s.group(map[string]any{"id": "ag-1", "name": "g"})
	for _, path := range []string{"/api/v1/targets/tgt-1", groups + "/ag-1"} {
		_, seen := s.send(http.MethodGet, path, "", "")
		status, now := s.send(http.MethodPut, path, seen, `{"enabled": false}`)
		if status != 200 || seen == "" || now == "" || now == seen {
			t.Errorf("%s: %d, seen %s, now %s", path, status, seen, now)
		}
		if status, _ := s.send(http.MethodPut, path, seen, `{"enabled": true}`); status != 412 {
			t.Errorf("%s: a lost update answers %d", path, status)
		}
		if status, _ := s.send(http.MethodPut, path, "", `{"enabled": true}`); status != 200 {
			t.Errorf("%s: without a condition %d", path, status)
		}
	}
}

func TestAgents_AreFilteredAndNeverShowAHash(t *testing.T) {
	s := newServer(t)
	s.host("agent-a", "Linux", "amd64", "", "1.0.0")
	s.host("agent-b", "linux", "amd64", "", "1.1.0")
	s.host("agent-c", "windows", "amd64", "", "1.1.0")
	s.exec(`UPDATE agents SET name = id, status = CASE id WHEN 'agent-c' THEN 'Offline' ELSE status END`)
	for query, want := range map[string]int64{
		"": 3, "?os=LINUX": 2, "?version=1.1.0": 2, "?name=agent-a": 1, "?status=Offline": 1, "?os=linux&version=1.1.0": 1,
		"?site_id=site-local": 3, "?site_id=site-none": 0,
	} {
		var list deploymentapi.AgentList
		s.call(200, "GET", "/api/v1/agents"+query, nil, &list)
		if list.Total != want || int64(len(list.Data)) != want {
			t.Errorf("%s: %d of %d, want %d", query, len(list.Data), list.Total, want)
		}
	}
	var agent map[string]any
	s.call(200, "GET", "/api/v1/agents/agent-a", nil, &agent)
	if hash, there := agent["api_key_hash"]; !there || hash != "" {
		t.Errorf("api_key_hash is %v", hash)
	}
	seen := map[string]bool{}
	for path := "/api/v1/agents?per_page=2"; ; {
		var list deploymentapi.AgentList
		s.call(200, "GET", path, nil, &list)
		for _, a := range list.Data {
			seen[a.ID] = true
		}
		if list.NextCursor == nil {
			break
		}
		path = "/api/v1/agents?per_page=2&cursor=" + *list.NextCursor
	}
	if len(seen) != 3 {
		t.Errorf("saw %v", seen)
	}
	if why := s.refused(400, "GET", "/api/v1/agents?status=Banana&site_id=A.B", nil); !strings.Contains(why, "status") || !strings.Contains(why, "site_id") {
		t.Errorf("refused because %q", why)
	}
}

func TestTargets_AreFiltered(t *testing.T) {
	s := newServer(t)
	s.agent("agent-a")
	s.agent("agent-b")
	for i, agent := range []string{"agent-a", "agent-a", "agent-b"} {
		s.call(201, "POST", "/api/v1/targets", map[string]any{
			"name": fmt.Sprint("web-", i), "type": "NGINX", "agent_id": agent, "config": nginx, "enabled": i > 0,
		}, nil)
	}
	for query, want := range map[string]int64{
		"?agent_id=agent-a": 2, "?type=nginx": 3, "?type=f5": 0, "?name=web-2": 1, "?enabled=false": 1, "?enabled=true&agent_id=agent-a": 1,
	} {
		var list deploymentapi.TargetList
		s.call(200, "GET", "/api/v1/targets"+query, nil, &list)
		if list.Total != want || int64(len(list.Data)) != want {
			t.Errorf("%s: %d of %d, want %d", query, len(list.Data), list.Total, want)
		}
	}
	s.refused(400, "GET", "/api/v1/targets?type=tomcat", nil)
	s.refused(400, "GET", "/api/v1/targets?agent_id=A.B", nil)
	s.exec(`INSERT INTO certificates (id, target_ids) SELECT 'mc-' || lpad(i::text, 2, '0'), ARRAY[(SELECT min(id) FROM targets)] FROM generate_series(1, 14) i`)
	var list deploymentapi.TargetList
	s.call(200, "GET", "/api/v1/targets", nil, &list)
	used := list.Data[len(list.Data)-1].ID
	for _, target := range list.Data {
		used = min(used, target.ID)
	}
	if why := s.refused(409, "DELETE", "/api/v1/targets/"+used, nil); !strings.Contains(why, "mc-10 and 4 more") {
		t.Errorf("refused because %q", why)
	}
}

// elsewhere plays the issuer, who knows some certificates.
type elsewhere []string

func (e elsewhere) Check(_ context.Context, id string) error {
	if !slices.Contains(e, id) {
		return fault.New(fault.NotFound, "there is no certificate %s", id)
	}
	return nil
}

// UsesOfGroup knows one policy, which is limited to one of them.
func (e elsewhere) UsesOfGroup(_ context.Context, groupID string) ([]string, int64, error) {
	if slices.Contains(e, groupID) {
		return []string{"pr-1"}, 1, nil
	}
	return nil, 0, nil
}

func TestGroups_StayWhilePoliciesAreLimitedToThem(t *testing.T) {
	s := newServer(t)
	for _, id := range []string{"ag-used", "ag-free"} {
		s.group(map[string]any{"id": id, "name": id})
	}
	if message := s.refused(http.StatusConflict, http.MethodDelete, groups+"/ag-used", nil); !strings.Contains(message, "pr-1") {
		t.Error(message)
	}
	s.call(http.StatusNoContent, http.MethodDelete, groups+"/ag-free", nil, nil)
}

func TestDeployments_ShowWhatEachTargetServes(t *testing.T) {
	s := newServer(t)
	s.agent("agent-a")
	for _, id := range []string{"tgt-1", "tgt-2", "tgt-3"} {
		s.call(201, "POST", "/api/v1/targets", map[string]any{"id": id, "name": id, "type": "NGINX", "agent_id": "agent-a", "config": nginx}, nil)
	}
	s.exec(`INSERT INTO certificates (id, team_id, target_ids) VALUES ('mc-1', 't-red', '{tgt-2,tgt-1,tgt-gone}')`)
	s.exec(`INSERT INTO versions (id, certificate_id, fingerprint_sha256, not_before, not_after, pem_chain)
		VALUES ('cv-1', 'mc-1', 'f1', now(), now(), ''), ('cv-2', 'mc-1', 'f2', now(), now(), '')`)
	job := func(id, version, target, status, why string, at int) {
		s.exec(`INSERT INTO jobs (id, type, certificate_id, version_id, fingerprint_sha256, target_id, status, last_error, scheduled_at, created_at, completed_at)
			VALUES ($1, 'Deployment', 'mc-1', $2, replace($2, 'cv-', 'f'), $3, $4, $5, now(), $6::timestamptz + $7 * interval '1 hour',
				CASE WHEN $4 <> 'Pending' THEN $6::timestamptz + $7 * interval '1 hour' END)`, id, version, target, status, why, s.clock.Now(), at)
	}
	job("job-d-1", "cv-1", "tgt-1", "Completed", "", 1)
	job("job-d-2", "cv-2", "tgt-1", "Completed", "", 2)
	job("job-d-3", "cv-1", "tgt-1", "Failed", "no room", 3)
	var list deploymentapi.CertificateDeploymentList
	s.call(200, "GET", "/api/v1/certificates/mc-1/deployments", nil, &list)
	if list.Total != 2 || len(list.Data) != 2 || list.Data[0].ID != "tgt-2" || list.Data[0].VersionID != nil || list.Data[0].JobID != nil {
		t.Fatalf("%+v", list)
	}
	d := list.Data[1]
	if *d.VersionID != "cv-2" || *d.FingerprintSha256 != "f2" || *d.JobID != "job-d-3" || *d.JobStatus != "Failed" || *d.JobError != "no room" ||
		d.Name != "tgt-1" || d.Config["cert_path"] != nginx["cert_path"] || d.DeployedAt == nil {
		t.Errorf("%+v", d)
	}
	s.call(200, "GET", "/api/v1/certificates/mc-without-targets/deployments", nil, &list)
	if list.Total != 0 || list.Data == nil {
		t.Errorf("%+v", list)
	}
	s.refused(404, "GET", "/api/v1/certificates/mc-none/deployments", nil)
	s.caller.Scope = authn.Scope{Teams: []string{"t-blue"}}
	s.refused(404, "GET", "/api/v1/certificates/mc-1/deployments", nil)
	s.refused(404, "POST", "/api/v1/jobs/job-d-3/retry", nil)
}

func TestValidate_IsForThoseWhoSeeTheCertificate(t *testing.T) {
	s := newServer(t)
	s.exec(`INSERT INTO certificates (id, team_id, target_ids) VALUES ('mc-1', 't-red', '{tgt-1}')`)
	validate := func(id string) string { return "/api/v1/certificates/" + id + "/validate" }
	s.refused(409, "POST", validate("mc-1"), nil)
	s.refused(409, "POST", validate("mc-without-targets"), nil)
	s.refused(404, "POST", validate("mc-none"), nil)
	s.refused(400, "POST", validate("mc-1"), `{"target_id": "tgt-2"}`)
	s.refused(400, "POST", validate("mc-1"), `{"target_id": "T 2"}`)
	s.caller.Scope = authn.Scope{Teams: []string{"t-blue"}}
	s.refused(404, "POST", validate("mc-1"), nil)
}

func TestRetry_OfAJobThatHasNotFailedIsRefused(t *testing.T) {
	s := newServer(t)
	s.deployed(1, "mc-1", "iss-local", "t-red")
	s.refused(409, "POST", "/api/v1/jobs/job-d-mc-11/retry", nil)
	s.refused(404, "POST", "/api/v1/jobs/job-d-none/retry", nil)
}

func TestSites_ALeafThatLostItsCredentialIsReplaced(t *testing.T) {
	s := newServer(t)
	var site deploymentapi.Site
	s.call(201, "POST", "/api/v1/sites", map[string]any{"name": "Berlin"}, &site)
	path := "/api/v1/sites/" + site.ID
	enrol := func(want int, token, key string) {
		s.Helper()
		s.call(want, "POST", path+"/enrol", map[string]any{"token": token, "public_key": key}, nil)
	}
	before, after := userKey(t), userKey(t)
	enrol(200, *site.Token, before)

	var unused, token deploymentapi.EnrolmentToken
	s.call(201, "POST", path+"/enrolment-token", nil, &unused)
	s.call(201, "POST", path+"/enrolment-token", nil, &token)
	if token.SiteID != site.ID || token.Token == unused.Token {
		t.Errorf("%+v", token)
	}
	enrol(401, unused.Token, after)
	if n := s.count(`SELECT count(*) FROM replaced_leaves`); n != 0 {
		t.Error("the leaf was replaced before the token was used")
	}
	enrol(200, token.Token, after)
	enrol(200, token.Token, after)
	if n := s.count(`SELECT count(*) FROM replaced_leaves WHERE public_key = $1 AND revoke_at IS NOT NULL`, before); n != 1 {
		t.Error("the key of the leaf before is not revoked")
	}
	// The leaf before cannot come back, neither by its own token nor by a new one.
	enrol(409, *site.Token, before)
	s.call(201, "POST", path+"/enrolment-token", nil, &token)
	enrol(409, token.Token, before)
	if n := s.count(`SELECT count(*) FROM sites WHERE id = $1 AND public_key = $2`, site.ID, after); n != 1 {
		t.Error("the site has another key")
	}
	s.refused(404, "POST", "/api/v1/sites/site-none/enrolment-token", nil)
	s.refused(409, "POST", "/api/v1/sites/site-local/enrolment-token", nil)
	s.caller.Scope = authn.Scope{Teams: []string{"t-red"}}
	s.refused(403, "POST", path+"/enrolment-token", nil)
}
