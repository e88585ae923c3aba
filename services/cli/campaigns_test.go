package cli

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certctl/certctl/contracts/httpapi/client"
)

func campaign(status client.CampaignStatus, done, failed int) client.Campaign {
	return client.Campaign{
		ID: "cmp-1", Name: "Away", Status: status, Canary: 1, LastWave: 2, Wave: 1, CreatedAt: day, InFlight: 500,
		Counts: client.CampaignCounts{Total: 10, Done: done, Failed: failed, Pending: 10 - done - failed},
	}
}

const caPEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"

func TestCampaigns_PlanAndCreateSendWhatIsAskedFor(t *testing.T) {
	a := newAPI(t)
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, []byte(caPEM), 0o600); err != nil {
		t.Fatal(err)
	}
	a.on("POST /api/v1/campaigns", 200, client.CampaignPlan{
		Total: 3, WouldIssue: 2, WouldSkip: 1, Canary: 1, Waves: []int{1, 1}, EstimatedSeconds: 301, ByOwner: map[string]int{"o-alice": 1, "o-bob": 2},
		Costs:    []client.CampaignCost{{IssuerID: "iss-new", Requests: 2, AtLeastSeconds: 1}},
		Refusals: []client.CampaignRefusal{{CertificateID: "mc-3", Reason: "it is\x1b[2J archived"}}, Warnings: []string{"beware"},
	})
	out, _ := a.want(0, "campaigns", "plan", "Away", "--ca-cert", file, "--to-issuer=iss-new", "--wave-size", "500", "--pause", "5m", "--max-failures", "0", "--canary-id", "mc-1")
	const head = "3 certificates are chosen; 2 would be re-issued, 0 would fail, 1 would be skipped. Waves: 1 + 1, of which the canary has 1. It would take about 5m1s. " +
		"BY CERTIFICATES owner o-bob 2 owner o-alice 1 requests to iss-new (no limit, at least 1s) 2 "
	if text := strings.Join(strings.Fields(out), " "); !strings.HasPrefix(text, head) {
		t.Errorf("%q", text)
	}
	if !strings.Contains(out, "refused: mc-3: it is?[2J archived\nwarning: beware\n") {
		t.Errorf("%q", out)
	}
	var asked client.CampaignCreate
	if err := json.Unmarshal([]byte(strings.TrimPrefix(a.last(), "POST /api/v1/campaigns ")), &asked); err != nil {
		t.Fatal(err)
	}
	// SHA-256 of three zero bytes.
	const fingerprint = "709e80c88487a2411e1ee4dfb9f22a861492d20c4765150c0c794abd70f8147c"
	if *asked.Selection.CaFingerprintSha256 != fingerprint || !*asked.DryRun || *asked.ToIssuerID != "iss-new" || *asked.WaveSize != 500 ||
		*asked.PauseBetweenSeconds != 300 || *asked.MaxFailures != 0 || asked.MaxFailurePercent != nil || (*asked.Canary.Ids)[0] != "mc-1" || asked.InFlight != nil {
		t.Errorf("asked %s", a.last())
	}
	a.on("POST /api/v1/campaigns", 201, campaign("Planned", 0, 0))
	out, _ = a.want(0, "campaigns", "create", "Away", "--q", "true")
	equal(t, "cmp-1 is Planned with 10 certificates; certctl-cli campaigns start cmp-1\n", out)
	if _, errs := a.want(1, "campaigns", "plan", "Away", "--ca-cert", "campaigns.go"); !strings.Contains(errs, "no certificate in PEM") {
		t.Errorf("%q", errs)
	}
}

func TestCampaigns_AreSteeredAndWatchedToTheirEnd(t *testing.T) {
	a := newAPI(t)
	a.on("POST /api/v1/campaigns/cmp-1/pause", 200, campaign("Paused", 4, 1))
	out, _ := a.want(0, "campaigns", "pause", "cmp-1")
	equal(t, "cmp-1 is paused: Paused  50 %  wave 1/2  4 done, 0 under way, 1 failed, 0 skipped, 5 to come\n", out)
	// The line changes until the campaign has ended.
	steps := []client.Campaign{campaign("Running", 4, 1), campaign("Running", 4, 1), campaign("Running", 6, 1), campaign("Completed", 9, 1)}
	a.server.Config.Handler = answers(t, steps)
	out, _ = a.want(0, "campaigns", "status", "cmp-1", "--watch", "--interval", "1ms")
	if lines := strings.Split(strings.TrimSpace(out), "\n"); len(lines) != 3 || !strings.HasPrefix(lines[2], "Completed  100 %") {
		t.Errorf("%q", out)
	}
	stopped := campaign("Stopped", 4, 1)
	reason := "1 of the canary's 1 failed"
	stopped.Reason = &reason
	a.server.Config.Handler = answers(t, []client.Campaign{stopped})
	if out, errs := a.want(1, "campaigns", "status", "cmp-1", "--watch"); !strings.Contains(out, reason) || !strings.Contains(errs, "stopped before its end") {
		t.Errorf("%q, %q", out, errs)
	}
}

// answers gives one answer after the other.
func answers(t *testing.T, steps []client.Campaign) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err := json.NewEncoder(w).Encode(steps[0]); err != nil {
			t.Error(err)
		}
		steps = steps[1:]
	})
}

func TestCampaigns_ReportsAndLists(t *testing.T) {
	a := newAPI(t)
	a.on("GET /api/v1/campaigns/cmp-1/report", 200, "# Campaign\n\nall is \x1b[2Jwell\n")
	out, _ := a.want(0, "campaigns", "report", "cmp-1")
	equal(t, "# Campaign\n\nall is ?[2Jwell\n", out)
	equal(t, "GET /api/v1/campaigns/cmp-1/report?format=markdown", a.last())
	a.want(0, "campaigns", "report", "cmp-1", "--csv")
	equal(t, "GET /api/v1/campaigns/cmp-1/report?format=csv", a.last())
	if _, errs := a.want(1, "campaigns", "report", "cmp-2"); !strings.Contains(errs, "HTTP 404") {
		t.Errorf("%q", errs)
	}
	a.on("GET /api/v1/campaigns", 200, client.CampaignList{Data: []client.Campaign{campaign("Running", 4, 1)}, Total: 1})
	out, _ = a.want(0, "campaigns", "list", "--status", "Running")
	equal(t, `
ID     NAME  KIND      STATUS   DONE  FAILED  MADE
cmp-1  Away  re-issue  Running  4/10  1       2026-11-23 12:30
`, out)
	if _, errs := a.want(2, "campaigns", "explode", "cmp-1"); errs == "" {
		t.Error("nothing is said")
	}
	if _, errs := a.want(2, "campaigns", "explode"); !strings.Contains(errs, `no verb "explode"`) {
		t.Errorf("%q", errs)
	}
	if out, _ := a.want(0, "help", "campaigns", "status"); !strings.Contains(out, "certctl-cli campaigns status ID [--watch]") {
		t.Errorf("%q", out)
	}
	if out, _ := a.want(0, "campaigns", "status", "--help"); !strings.Contains(out, "certctl-cli campaigns status ID [--watch]") {
		t.Errorf("%q", out)
	}
}
