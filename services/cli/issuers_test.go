package cli

import (
	"strings"
	"testing"

	"github.com/certctl/certctl/contracts/httpapi/client"
)

func TestPreflight_ShowsWhatWasFoundAndFailsIfSomethingForbids(t *testing.T) {
	a := newAPI(t)
	found := client.Preflight{Verdict: "warning", Findings: []client.PreflightFinding{
		{Name: "a.test", Check: "caa", Verdict: "ok", Message: "there are no CAA records"},
		{Name: "a.test", Check: "address", Verdict: "warning", Message: "there is no address"},
	}}
	a.on("POST /api/v1/issuers/iss-1/preflight", 200, found)
	out, errs := a.want(0, "preflight", "iss-1", "a.test")
	equal(t, `
NAME    CHECK    VERDICT  MESSAGE
a.test  caa      ok       there are no CAA records
a.test  address  warning  there is no address
`, out)
	equal(t, "", errs)
	equal(t, `POST /api/v1/issuers/iss-1/preflight {"names":["a.test"]}`, a.last())
	found.Verdict = "forbidden"
	a.on("POST /api/v1/issuers/iss-1/preflight", 200, found)
	out, errs = a.want(1, "preflight", "iss-1", "a.test", "b.test")
	if !strings.Contains(errs, "cannot issue") || !strings.Contains(out, "a.test") {
		t.Errorf("prints %q and %q", out, errs)
	}
	a.want(2, "preflight", "iss-1")
}
