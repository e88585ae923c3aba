package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/contracts/httpapi/client"
	"github.com/certctl/certctl/e2e/internal/rig"
)

// TestPowerLoss_WhatALeafForgotIsDoneAgain takes from a leaf all that it stored, which is
// more than its host's loss of power can: an order that its agent had not taken, then the
// report of one that was carried out. The hub gives the order again, and the agent repeats
// its answer.
func TestPowerLoss_WhatALeafForgotIsDoneAgain(t *testing.T) {
	t.Parallel()
	in := rig.Up(t, rig.Dir(t), "CERTCTL_LOG_LEVEL=warn", "CERTCTL_DEPLOYMENT_ORDER_DEADLINE=2s")
	leaf := in.NewSite("site-dark", "CERTCTL_LEAF_LOG_LEVEL=warn")
	agent := in.Enrol("host-dark", leaf.SiteID, leaf.URL)
	nginx := rig.StartNGINX(t, in.Dir, "nginx-dark", "dark.e2e.test")
	target := in.Target(agent, nginx.Sites[0])
	created := rig.Must[client.Certificate](t)(in.CreateCertificate(t.Context(), client.CertificateCreate{
		CommonName: nginx.Sites[0].Name, TargetIds: &[]string{target.ID},
	}))
	first := in.Active(t, created.ID, "")

	agent.Freeze()
	rig.Must[client.RenewalTriggered](t)(in.RenewCertificate(t.Context(), created.ID, client.CertificateRenew{}))
	// Nobody outside sees that the order is at the leaf, which takes milliseconds.
	rig.Pause(t, time.Second)
	forgets(t, leaf)
	agent.Thaw()
	second := in.Active(t, created.ID, rig.Value(first.FingerprintSha256))

	finished := finishedOrders(t, agent)
	agent.Freeze()
	rig.Must[client.RenewalTriggered](t)(in.RenewCertificate(t.Context(), created.ID, client.CertificateRenew{}))
	rig.Pause(t, time.Second)
	in.Kill()
	agent.Thaw()
	rig.Within(t, rig.Patience, "the agent carries out the order while the hub is away", func() error {
		if finishedOrders(t, agent) == finished {
			return errors.New("it has not")
		}
		return nil
	})
	rig.Pause(t, time.Second) // so that the leaf has the report
	forgets(t, leaf)
	in.Start()
	in.Ready()
	third := in.Active(t, created.ID, rig.Value(second.FingerprintSha256))
	if got := nginx.Sites[0].Fingerprint(t); got != rig.Value(third.FingerprintSha256) {
		t.Errorf("%s is served, the record says %s", got, rig.Value(third.FingerprintSha256))
	}
	if !strings.Contains(agent.Output(), "order answered from the journal") {
		t.Error("the agent was not asked again")
	}
}

// forgets takes from a leaf all messages, and starts it again.
func forgets(t *testing.T, leaf *rig.Leaf) {
	t.Helper()
	leaf.Kill()
	if err := os.RemoveAll(filepath.Join(leaf.DataDir, "jetstream")); err != nil {
		t.Fatal(err)
	}
	leaf.Start()
}

// finishedOrders is how many orders the journal of an agent knows the end of.
func finishedOrders(t *testing.T, agent *rig.Agent) int {
	t.Helper()
	done, err := os.ReadDir(filepath.Join(agent.StateDir, "journal", "done"))
	if err != nil {
		t.Fatal(fmt.Errorf("read the journal: %w", err))
	}
	return len(done)
}
