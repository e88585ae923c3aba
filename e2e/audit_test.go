package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certctl/certctl/contracts/httpapi/client"
	"github.com/certctl/certctl/e2e/internal/rig"
)

// TestAudit_AnOutsiderFindsWhatWasAlteredInAnExport is the auditor's story: a key and a
// checkpoint are kept elsewhere, an export is taken, and verified where there is no
// installation.
func TestAudit_AnOutsiderFindsWhatWasAlteredInAnExport(t *testing.T) {
	t.Parallel()
	dir := rig.Dir(t)
	in := rig.Up(t, dir, "CERTCTL_LOG_LEVEL=warn", "CERTCTL_AUDIT_CHECKPOINT_INTERVAL=1s")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	const issued = 5
	for i := range issued {
		name := fmt.Sprintf("audit-%d.e2e.test", i)
		csr := rig.SignCSR(t, key, name)
		rig.Must[client.Certificate](t)(in.CreateCertificate(t.Context(), client.CreateCertificateJSONRequestBody{CommonName: name, CsrPem: &csr}))
	}
	rig.Within(t, rig.Patience, "a checkpoint of everything", func() error {
		list, err := rig.Read[client.AuditCheckpointList](in.ListAuditCheckpoints(t.Context(), nil))
		events, err2 := rig.Read[client.AuditEventList](in.ListAuditEvents(t.Context(), &client.ListAuditEventsParams{Resource: new("certificate")}))
		if err = errors.Join(err, err2); err != nil {
			return err
		}
		if events.Total < 2*issued || len(list.Data) == 0 || list.Data[0].Sequence < events.Data[0].Sequence {
			return fmt.Errorf("%d events, %+v", events.Total, list.Data)
		}
		return nil
	})

	keep := func(name string) func([]byte, error) string {
		return func(text []byte, err error) string {
			path := filepath.Join(dir, name)
			if err = errors.Join(err, os.WriteFile(path, text, 0o600)); err != nil {
				t.Fatal(err)
			}
			return path
		}
	}
	public := keep("checkpoint-key.pem")(rig.Raw(in.GetAuditCheckpointKey(t.Context())))
	kept := keep("checkpoints.json")(rig.Raw(in.ListAuditCheckpoints(t.Context(), nil)))
	exports := map[string]string{}
	for _, f := range []client.ExportAuditEventsParamsFormat{"json", "jsonl", "csv"} {
		exports[string(f)] = keep("audit." + string(f))(rig.Raw(in.ExportAuditEvents(t.Context(), &client.ExportAuditEventsParams{Format: &f})))
	}
	if said, err := in.Admin("audit", "verify", "--key", public, "--checkpoints", kept); err != nil || !strings.Contains(said, "intact") {
		t.Errorf("the chain: %v, %s", err, said)
	}
	if code, _ := in.Stop(); code != 0 {
		t.Errorf("the installation ended with %d: %s", code, in.Tail(2000))
	}

	for format, file := range exports {
		verify := func(name string) (string, int) {
			cmd := exec.CommandContext(t.Context(), rig.Binary("certctl"), "admin", "audit", "verify", "--export", name, "--key", public, "--checkpoints", kept)
			cmd.Env = []string{"CERTCTL_DATA_DIR=" + filepath.Join(dir, "nowhere")}
			out, _ := cmd.CombinedOutput()
			return string(out), cmd.ProcessState.ExitCode()
		}
		if said, code := verify(file); code != 0 || !strings.Contains(said, "intact") || !strings.Contains(said, "signatures against the key") {
			t.Errorf("%s: exit code %d, %s", format, code, said)
		}
		whole, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		lines := bytes.SplitAfter(whole, []byte("\n"))
		first := 0
		for !bytes.Contains(lines[first], []byte("audit-0.e2e.test")) {
			first++
		}
		changed := bytes.Replace(whole, []byte("audit-0.e2e.test"), []byte("audit-9.e2e.test"), 1)
		removed := bytes.Join(append(append([][]byte{}, lines[:first]...), lines[first+1:]...), nil)
		for what, c := range map[string]struct {
			text []byte
			says string
		}{"changed": {changed, "does not match its hash"}, "removed": {removed, "is missing"}} {
			said, code := verify(keep("altered."+format)(c.text, nil))
			if code != 1 || !strings.Contains(said, c.says) || !strings.Contains(said, "this contradicts checkpoint") {
				t.Errorf("%s, %s: exit code %d, %s", format, what, code, said)
			}
		}
	}
}

// TestStats_TellOfTheWholeFleetAsDeployedClientsReadThem is traps 82 and 83 on the whole
// system.
func TestStats_TellOfTheWholeFleetAsDeployedClientsReadThem(t *testing.T) {
	t.Parallel()
	in := rig.Up(t, rig.Dir(t), "CERTCTL_LOG_LEVEL=warn")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	const issued, waiting = 60, 3
	for i := range issued + waiting {
		name := fmt.Sprintf("stats-%d.e2e.test", i)
		body := client.CreateCertificateJSONRequestBody{CommonName: name}
		if i < issued {
			csr := rig.SignCSR(t, key, name)
			body.CsrPem = &csr
		}
		rig.Must[client.Certificate](t)(in.CreateCertificate(t.Context(), body))
	}
	rig.Within(t, rig.Patience, "the figures", func() error {
		s, err := rig.Read[client.StatsSummary](in.GetStatsSummary(t.Context()))
		if err != nil {
			return err
		}
		if s.TotalCertificates != issued+waiting || s.CompleteJobs != issued || s.Data == nil || s.Data.TotalCertificates != issued+waiting {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	sum := int64(0)
	for _, s := range rig.Must[[]client.StatsStatusCount](t)(in.GetStatsCertificatesByStatus(t.Context())) {
		sum += s.Count
	}
	if sum != issued+waiting {
		t.Errorf("by status there are %d", sum)
	}
	m := rig.Must[client.FleetMetrics](t)(in.GetFleetMetrics(t.Context()))
	if m.Gauge.CertificateTotal != issued+waiting || m.Counter.IssuanceCompletedTotal != issued || m.Uptime.UptimeSeconds <= 0 {
		t.Errorf("%+v", m)
	}
	rig.Within(t, rig.Patience, "today's share of the curves", func() error {
		days := rig.Must[[]client.StatsIssuances](t)(in.GetStatsIssuanceRate(t.Context(), nil))
		trends := rig.Must[[]client.StatsJobs](t)(in.GetStatsJobTrends(t.Context(), nil))
		if len(days) != 30 || len(trends) != 30 || days[28].IssuedCount+days[29].IssuedCount != issued || trends[28].CompletedCount+trends[29].CompletedCount != issued {
			return fmt.Errorf("%+v %+v", days[28:], trends[28:])
		}
		return nil
	})
}
