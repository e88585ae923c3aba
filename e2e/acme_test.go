package e2e

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/certctl/certctl/contracts/httpapi/client"
	"github.com/certctl/certctl/e2e/internal/rig"
)

// TestACME_ProvesANameOnItsHostAndServesTheCertificateThere has a CA outside issue for the
// name of an NGINX. The CA looks where the name leads, and only the agent of that host is
// there; nothing listens there before or after.
func TestACME_ProvesANameOnItsHostAndServesTheCertificateThere(t *testing.T) {
	t.Parallel()
	in := rig.Up(t, rig.Dir(t), "CERTCTL_LOG_LEVEL=warn")
	pebble := rig.StartPebble(t, in.Dir)
	in.Trusted = append(in.Trusted, pebble.CA)
	agent := in.Enrol("host", "site-local", in.LeafURL, "CERTCTL_LOG_LEVEL=warn", "CERTCTL_AGENT_HTTP01_ADDRESS="+pebble.HTTP)
	nginx := rig.StartNGINX(t, in.Dir, "nginx", "acme.e2e.test")
	target := in.Target(agent, nginx.Sites[0])
	issuer := rig.Must[client.Issuer](t)(in.CreateIssuer(t.Context(), client.IssuerCreate{
		Name: "Pebble", Type: "ACME", Enabled: new(true), Config: &map[string]any{
			"directory_url": pebble.Directory, "ca_certificate_pem": pebble.Root, "http01_via": "agent",
		},
	}))
	created := rig.Must[client.Certificate](t)(in.CreateCertificate(t.Context(), client.CertificateCreate{
		CommonName: nginx.Sites[0].Name, IssuerID: &issuer.ID, TargetIds: &[]string{target.ID},
	}))
	first := in.Active(t, created.ID, "")
	leaf, err := nginx.Sites[0].Leaf(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := nginx.Sites[0].Fingerprint(t); got != rig.Value(first.FingerprintSha256) || !strings.Contains(leaf.Issuer.CommonName, "Pebble") {
		t.Errorf("%s is served, by %s; the record says %+v", got, leaf.Issuer.CommonName, first)
	}
	rig.Must[client.RenewalTriggered](t)(in.RenewCertificate(t.Context(), created.ID, client.CertificateRenew{}))
	second := in.Active(t, created.ID, rig.Value(first.FingerprintSha256))
	if got := nginx.Sites[0].Fingerprint(t); got != rig.Value(second.FingerprintSha256) {
		t.Errorf("after the renewal %s is served, the record says %+v", got, second)
	}
	if n := pebble.Issued(); n != 2 {
		t.Errorf("the CA has issued %d certificates", n)
	}
	rig.Within(t, rig.Patience, "the agent listens no more", func() error {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", pebble.HTTP)
		if err == nil {
			_ = conn.Close()
			return fmt.Errorf("somebody listens on %s", pebble.HTTP)
		}
		return nil
	})
}
