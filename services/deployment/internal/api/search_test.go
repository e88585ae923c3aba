package api_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/certctl/certctl/contracts/httpapi/deploymentapi"
)

func TestSearch_FindsAgents(t *testing.T) {
	s := newServer(t)
	for _, id := range []string{"ag-1", "ag-2", "ag-3"} {
		s.agent(id)
	}
	s.exec(`UPDATE agents SET os = 'linux', version = '1.2.0', hostname = 'web-1.example.com' WHERE id = 'ag-1'`)
	s.exec(`UPDATE agents SET os = 'linux', status = 'Offline', last_heartbeat_at = now() - interval '1 day' WHERE id = 'ag-2'`)
	for q, want := range map[string]string{
		`os == "linux" && status == "Online"`:           "ag-1",
		`last_heartbeat_at < now() - duration("1h")`:    "ag-2",
		`hostname.endsWith(".example.com")`:             "ag-1",
		`!(os == "linux")`:                              "ag-3",
		`version in ["1.2.0", "'; DROP TABLE agents"]`:  "ag-1",
		`site_id == "site-local" && id.startsWith("x")`: "",
	} {
		var list deploymentapi.AgentList
		s.call(200, "GET", "/api/v1/agents?q="+url.QueryEscape(q), nil, &list)
		var got []string
		for _, a := range list.Data {
			got = append(got, a.ID)
		}
		if strings.Join(got, " ") != want || int(list.Total) != len(got) {
			t.Errorf("%s: %v of %d, want %s", q, got, list.Total, want)
		}
	}
	if why := s.refused(400, "GET", "/api/v1/agents?q="+url.QueryEscape(`status == "online"`), nil); !strings.Contains(why, "Online, Offline, Degraded, Retired") {
		t.Errorf("refused: %s", why)
	}
}

func TestSearch_FindsJobsWithinTimeAndScope(t *testing.T) {
	s := newServer(t)
	s.deployed(3, "mc-1", "iss-local", "t-red")
	s.deployed(2, "mc-2", "iss-local", "t-blue")
	for query, want := range map[string]int64{
		"q=" + url.QueryEscape(`certificate_id == "mc-1"`):                 3,
		"q=" + url.QueryEscape(`type == "Deployment" && attempts < 9`):     5,
		"q=" + url.QueryEscape(`type == "Renewal"`):                        0,
		"q=" + url.QueryEscape(`completed_at != null`) + "&status=Pending": 0,
		"created_after=2020-01-01T00:00:00Z":                               5,
		"created_before=2020-01-01T00:00:00Z":                              0,
	} {
		var list deploymentapi.JobList
		s.call(200, "GET", "/api/v1/jobs?"+query, nil, &list)
		if list.Total != want {
			t.Errorf("%s: %d, want %d", query, list.Total, want)
		}
	}
	s.caller.Scope.Teams = []string{"t-blue"}
	var list deploymentapi.JobList
	s.call(200, "GET", "/api/v1/jobs?q="+url.QueryEscape(`certificate_id == "mc-1" || true`), nil, &list)
	if list.Total != 2 {
		t.Errorf("beyond the scope: %d", list.Total)
	}
	s.refused(400, "GET", "/api/v1/jobs?q=nosuch", nil)
}
