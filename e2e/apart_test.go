package e2e

import (
	"fmt"
	"testing"

	"github.com/certctl/certctl/contracts/httpapi/client"
	"github.com/certctl/certctl/e2e/internal/rig"
)

// TestApart_TheLeafOfThisHostIsKnownToADeploymentServiceOfItsOwn: otherwise the leaf's
// credentials would not be renewed, and end after a month.
func TestApart_TheLeafOfThisHostIsKnownToADeploymentServiceOfItsOwn(t *testing.T) {
	t.Parallel()
	in := rig.NewInstallation(t, rig.Dir(t), "CERTCTL_LOG_LEVEL=warn")
	in.Args = []string{"up", "--without", "deployment"}
	in.Start()
	in.Apart("deployment", "CERTCTL_LOG_LEVEL=warn").Start()
	in.Ready()
	rig.Within(t, rig.Patience, "site-local is Connected", func() error {
		list, err := rig.Read[client.SiteList](in.ListSites(t.Context(), nil))
		if err != nil {
			return err
		}
		for _, s := range list.Data {
			if s.ID == "site-local" && s.Status == client.Connected {
				return nil
			}
		}
		return fmt.Errorf("the sites are %v", list.Data)
	})
	in.Enrol("host", "site-local", in.LeafURL, "CERTCTL_LOG_LEVEL=warn")
}
