package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/certctl/certctl/contracts/httpapi/client"
)

// underWay is a campaign with a certificate that waits for its CA.
func underWay() client.Campaign {
	c := campaign("Running", 4, 1)
	c.Counts.Renewing, c.Counts.Pending = 1, 4
	return c
}

// serves answers a number of looks at a campaign, then the last of them again, and says what its items wait for.
func serves(t *testing.T, looks ...func(http.ResponseWriter)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/items") {
			why := "it\x1b[2J is sealed; next attempt at 2026-11-28T18:04:12Z"
			status := client.CampaignItemStatus(r.URL.Query().Get("status"))
			shows(t, w, client.CampaignItemList{Data: []client.CampaignItem{{CertificateID: "mc-7", Status: status, Reason: &why}}})
			return
		}
		looks[0](w)
		looks = looks[min(1, len(looks)-1):]
	})
}

func shows(t *testing.T, w http.ResponseWriter, v any) {
	if err := json.NewEncoder(w).Encode(v); err != nil {
		t.Error(err)
	}
}

func TestCampaigns_WatchSaysWhatIsWaitedForIfNothingMoves(t *testing.T) {
	a := newAPI(t)
	is := func(c client.Campaign) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) { shows(t, w, c) }
	}
	a.server.Config.Handler = serves(t, is(underWay()), is(underWay()), is(campaign("Completed", 9, 1)))
	out, _ := a.want(0, "campaigns", "status", "cmp-1", "--watch", "--interval", "1ms")
	if lines := strings.Split(out, "\n"); !strings.HasSuffix(lines[1], "  mc-7: it?[2J is sealed; next attempt at 2026-11-28T18:04:12Z") {
		t.Errorf("%q", out)
	}
}

func TestCampaigns_WatchOutlastsARestartOfTheServer(t *testing.T) {
	a := newAPI(t)
	away := func(w http.ResponseWriter) {
		w.WriteHeader(http.StatusServiceUnavailable)
		shows(t, w, client.Problem{Message: "issuer is not running"})
	}
	a.server.Config.Handler = serves(t, func(w http.ResponseWriter) { shows(t, w, campaign("Running", 4, 1)) }, away, away,
		func(w http.ResponseWriter) { shows(t, w, campaign("Completed", 9, 1)) })
	out, errs := a.want(0, "campaigns", "status", "cmp-1", "--watch", "--interval", "1ms")
	if !strings.Contains(out, "Completed") || strings.Count(errs, "issuer is not running (HTTP 503); looked at again until it answers") != 1 {
		t.Errorf("%q, %q", out, errs)
	}
	// Somebody who has mistaken the server is told at once.
	a.server.Config.Handler = serves(t, away)
	a.want(1, "campaigns", "status", "cmp-1", "--watch", "--interval", "1ms")
}

func TestCampaigns_WatchThatIsInterruptedSaysThatTheCampaignGoesOn(t *testing.T) {
	a := newAPI(t)
	ctx, stop := context.WithCancel(t.Context())
	a.server.Config.Handler = serves(t, func(w http.ResponseWriter) { shows(t, w, campaign("Running", 4, 1)); stop() })
	var out, errs bytes.Buffer
	code := Run(ctx, []string{"campaigns", "status", "cmp-1", "--watch"}, Streams{Out: &out, Err: &errs}, func(name string) string { return a.env[name] })
	if code != 1 || !strings.Contains(errs.String(), "cmp-1 is not watched any more, and goes on; certctl-cli campaigns pause cmp-1") {
		t.Errorf("%d: %q", code, errs.String())
	}
}

func TestCampaigns_StatusNamesWhatIsWaitedForAndWhatFailed(t *testing.T) {
	a := newAPI(t)
	a.server.Config.Handler = serves(t, func(w http.ResponseWriter) { shows(t, w, underWay()) })
	out, _ := a.want(0, "campaigns", "status", "cmp-1")
	equal(t, `
cmp-1  Away
Running  50 %  wave 1/2  4 done, 1 under way, 1 failed, 0 skipped, 4 to come

CERTIFICATE  IS        WHY
mc-7         Renewing  it?[2J is sealed; next attempt at 2026-11-28T18:04:12Z
mc-7         Failed    it?[2J is sealed; next attempt at 2026-11-28T18:04:12Z
`, out)
}

func TestDisplay_TakesBackALineThatIsLongerThanTheTerminalIsWide(t *testing.T) {
	var out bytes.Buffer
	d := display{out: &out, width: 10}
	for _, line := range []string{"123456789012345678901", "123456789012345678901", "short", "1234567890", "next"} {
		if err := d.show(line); err != nil {
			t.Fatal(err)
		}
	}
	d.end()
	equal(t, "\r123456789012345678901\x1b[J\r\x1b[2Ashort\x1b[J\r1234567890\x1b[J\rnext\x1b[J\n", out.String())
}

func TestCampaigns_APlanOfNothingSaysSoAndNoMore(t *testing.T) {
	a := newAPI(t)
	a.on("POST /api/v1/campaigns", 200, client.CampaignPlan{Waves: []int{}})
	out, _ := a.want(0, "campaigns", "plan", "Nothing", "--q", "false")
	equal(t, "0 certificates are chosen; 0 would be re-issued, 0 would fail, 0 would be skipped.\n", out)
}

func TestCampaigns_HelpShowsNoDefaultThatIsNone(t *testing.T) {
	a := newAPI(t)
	out, _ := a.want(0, "campaigns", "plan", "--help")
	if strings.Contains(out, "-1") || !strings.Contains(out, "(default a hundredth, 1 to 10)\n") {
		t.Errorf("%s", out)
	}
	a.want(1, "campaigns", "plan", "Back in time", "--q", "true", "--pause", "-5m")
}
