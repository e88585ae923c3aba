package e2e

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/certctl/certctl/contracts/httpapi/client"
	"github.com/certctl/certctl/e2e/internal/rig"
)

// TestOffline_ASiteWorksOnAndWhatItReportsArrivesLater takes the hub away from a site
// while an order for its agent lies at the leaf: the agent carries it out and reports,
// and when the hub is back everything goes on without a hand.
func TestOffline_ASiteWorksOnAndWhatItReportsArrivesLater(t *testing.T) {
	t.Parallel()
	in := rig.Up(t, rig.Dir(t), "CERTCTL_LOG_LEVEL=warn")
	leaf := in.NewSite("site-away", "CERTCTL_LEAF_LOG_LEVEL=warn")
	agent := in.Enrol("host-away", leaf.SiteID, leaf.URL, "CERTCTL_LOG_LEVEL=warn")
	nginx := rig.StartNGINX(t, in.Dir, "nginx-away", "away.e2e.test")
	target := in.Target(agent, nginx.Sites[0])
	created := rig.Must[client.Certificate](t)(in.CreateCertificate(t.Context(), client.CertificateCreate{
		CommonName: nginx.Sites[0].Name, TargetIds: &[]string{target.ID},
	}))
	first := in.Active(t, created.ID, "")

	agent.Freeze()
	rig.Must[client.RenewalTriggered](t)(in.RenewCertificate(t.Context(), created.ID, client.CertificateRenew{}))
	// The order is at the leaf when the hub's durable of the site has nothing left;
	// nobody outside can see that, and it takes milliseconds.
	rig.Pause(t, 2*time.Second)
	in.Kill()
	agent.Thaw()
	pending := filepath.Join(in.Dir, "host-away", "keys", created.ID+".key.*")
	rig.Within(t, rig.Patience, "the agent makes the key while the hub is away", func() error {
		if found, err := filepath.Glob(pending); err != nil || len(found) == 0 {
			return errors.Join(err, errors.New("there is no new key"))
		}
		return nil
	})
	if got := nginx.Sites[0].Fingerprint(t); got != rig.Value(first.FingerprintSha256) {
		t.Errorf("meanwhile %s is served instead of the old certificate", got)
	}

	in.Start()
	in.Ready()
	second := in.Active(t, created.ID, rig.Value(first.FingerprintSha256))
	if got := nginx.Sites[0].Fingerprint(t); got != rig.Value(second.FingerprintSha256) {
		t.Errorf("%s is served, the record says %s", got, rig.Value(second.FingerprintSha256))
	}
}
