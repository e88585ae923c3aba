package e2e

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/certctl/certctl/contracts/httpapi/client"
	"github.com/certctl/certctl/e2e/internal/rig"
)

// TestRollback_AnOlderVersionIsServedAgainUntilTheNextRenewal renews a certificate, goes
// back to the version before, sees that NGINX serves it, and renews again. On the way the
// agent is found in its groups.
func TestRollback_AnOlderVersionIsServedAgainUntilTheNextRenewal(t *testing.T) {
	t.Parallel()
	in := rig.Up(t, rig.Dir(t), "CERTCTL_LOG_LEVEL=warn")
	agent := in.Enrol("host", "site-local", in.LeafURL, "CERTCTL_LOG_LEVEL=warn")
	id, err := agent.Identity()
	if err != nil {
		t.Fatal(err)
	}
	for name, group := range map[string]client.AgentGroupCreate{
		"linux":   {Name: "linux", MatchOs: new("Linux"), MatchIPCidr: new("0.0.0.0/0")},
		"windows": {Name: "windows", MatchOs: new("windows")},
	} {
		made := rig.Must[client.AgentGroup](t)(in.CreateAgentGroup(t.Context(), group))
		members := rig.Must[client.AgentList](t)(in.ListAgentGroupMembers(t.Context(), made.ID, nil))
		if want := name == "linux"; want != (members.Total == 1) {
			t.Errorf("the group %s has %d members", name, members.Total)
		}
	}
	if groups := rig.Must[client.AgentGroupList](t)(in.ListGroupsOfAgent(t.Context(), id.AgentID)); groups.Total != 1 || groups.Data[0].Name != "linux" {
		t.Errorf("groups of the agent: %+v", groups)
	}

	nginx := rig.StartNGINX(t, in.Dir, "nginx", "www.e2e.test")
	target := in.Target(agent, nginx.Sites[0])
	created := rig.Must[client.Certificate](t)(in.CreateCertificate(t.Context(), client.CertificateCreate{
		CommonName: nginx.Sites[0].Name, TargetIds: &[]string{target.ID},
	}))
	first := rig.Value(in.Active(t, created.ID, "").FingerprintSha256)
	rig.Must[client.RenewalTriggered](t)(in.RenewCertificate(t.Context(), created.ID, client.CertificateRenew{}))
	second := rig.Value(in.Active(t, created.ID, first).FingerprintSha256)

	versions := rig.Must[client.CertificateVersionList](t)(in.ListCertificateVersions(t.Context(), created.ID, nil))
	older := versions.Data[1]
	if older.FingerprintSha256 != first {
		t.Fatalf("the versions are not newest first: %+v", versions.Data)
	}
	rig.Must[client.DeploymentTriggered](t)(in.DeployCertificate(t.Context(), created.ID, client.CertificateDeploy{VersionID: &older.ID}))
	rig.Within(t, rig.Patience, "the certificate says that it was rolled back", func() error {
		c, err := rig.Read[client.Certificate](in.GetCertificate(t.Context(), created.ID))
		if err == nil && (c.Status != client.CertificateStatusActive || rig.Value(c.StatusReason) != "rolled back to "+older.ID) {
			err = fmt.Errorf("it is %s: %s", c.Status, rig.Value(c.StatusReason))
		}
		return err
	})
	if got := nginx.Sites[0].Fingerprint(t); got != first {
		t.Errorf("NGINX serves %s, want the older %s and not %s", got, first, second)
	}
	shown := rig.Must[client.CertificateDeploymentList](t)(in.ListCertificateDeployments(t.Context(), created.ID)).Data
	if len(shown) != 1 || rig.Value(shown[0].VersionID) != older.ID || rig.Value(shown[0].FingerprintSha256) != first {
		t.Errorf("deployments: %+v", shown)
	}
	looked := rig.Must[client.ValidationTriggered](t)(in.ValidateCertificate(t.Context(), created.ID, client.CertificateValidate{}))
	rig.Within(t, rig.Patience, "the agent has looked", func() error {
		j, err := rig.Read[client.Job](in.GetJob(t.Context(), looked.JobIds[0]))
		if err == nil && j.Status != client.JobStatusCompleted {
			err = fmt.Errorf("the job is %s: %s", j.Status, rig.Value(j.LastError))
		}
		return err
	})
	alone := rig.Must[client.Certificate](t)(in.CreateCertificate(t.Context(), client.CertificateCreate{
		CommonName: "alone.e2e.test", CsrPem: new(rig.CSR(t, "alone.e2e.test")),
	}))
	if none := rig.Must[client.CertificateDeploymentList](t)(in.ListCertificateDeployments(t.Context(), alone.ID)); none.Total != 0 {
		t.Errorf("a certificate without targets: %+v", none)
	}
	if _, err := rig.Raw(in.ListCertificateDeployments(t.Context(), "mc-none")); rig.StatusOf(err) != 404 {
		t.Errorf("a certificate that does not exist: %v", err)
	}

	rig.Must[client.RenewalTriggered](t)(in.RenewCertificate(t.Context(), created.ID, client.CertificateRenew{}))
	third := in.Active(t, created.ID, second)
	if got := nginx.Sites[0].Fingerprint(t); got != rig.Value(third.FingerprintSha256) || third.StatusReason != nil {
		t.Errorf("after the next renewal %s is served, the record says %+v", got, third)
	}
}

// TestSite_WhoseLeafIsLostGoesOnWithAnother loses the folder of a leaf and puts another
// leaf in its place, to which the agent comes back by itself.
func TestSite_WhoseLeafIsLostGoesOnWithAnother(t *testing.T) {
	t.Parallel()
	in := rig.Up(t, rig.Dir(t), "CERTCTL_LOG_LEVEL=warn")
	leaf := in.NewSite("site-lost", "CERTCTL_LEAF_LOG_LEVEL=warn")
	agent := in.Enrol("host", leaf.SiteID, leaf.URL, "CERTCTL_LOG_LEVEL=warn")
	nginx := rig.StartNGINX(t, in.Dir, "nginx", "lost.e2e.test")
	target := in.Target(agent, nginx.Sites[0])
	created := rig.Must[client.Certificate](t)(in.CreateCertificate(t.Context(), client.CertificateCreate{
		CommonName: nginx.Sites[0].Name, TargetIds: &[]string{target.ID},
	}))
	first := in.Active(t, created.ID, "")

	kept := leaf.DataDir + "-kept"
	if err := os.CopyFS(kept, os.DirFS(leaf.DataDir)); err != nil {
		t.Fatal(err)
	}
	leaf.Kill()
	if err := os.RemoveAll(leaf.DataDir); err != nil {
		t.Fatal(err)
	}
	token := rig.Must[client.EnrolmentToken](t)(in.CreateSiteEnrolmentToken(t.Context(), leaf.SiteID))
	address := strings.TrimPrefix(leaf.URL, "nats://")
	other := rig.NewProgram(t, in.Dir, "other-leaf", "certctl-leaf",
		"CERTCTL_LEAF_TOKEN="+token.Token, "CERTCTL_LEAF_GATEWAY_URL="+in.URL, "CERTCTL_LEAF_DATA_DIR="+leaf.DataDir,
		"CERTCTL_LEAF_LISTEN="+address, "CERTCTL_LEAF_RECONNECT_DELAY=200ms", "CERTCTL_LEAF_LOG_LEVEL=warn")
	other.Start()
	rig.Must[client.RenewalTriggered](t)(in.RenewCertificate(t.Context(), created.ID, client.CertificateRenew{}))
	second := in.Active(t, created.ID, rig.Value(first.FingerprintSha256))
	if got := nginx.Sites[0].Fingerprint(t); got != rig.Value(second.FingerprintSha256) {
		t.Errorf("%s is served, the record says %s", got, rig.Value(second.FingerprintSha256))
	}

	// Whoever finds the old folder cannot speak for the site with it.
	thief := rig.NewProgram(t, in.Dir, "thief-leaf", "certctl-leaf",
		"CERTCTL_LEAF_SITE_ID="+leaf.SiteID, "CERTCTL_LEAF_GATEWAY_URL="+in.URL, "CERTCTL_LEAF_DATA_DIR="+kept,
		"CERTCTL_LEAF_LISTEN="+rig.FreeAddress(t), "CERTCTL_LEAF_RECONNECT_DELAY=200ms")
	thief.Start()
	rig.Within(t, rig.Patience, "the hub refuses the leaf before", func() error {
		if text := thief.Output(); !strings.Contains(text, "Authorization Violation") && !strings.Contains(text, "Revoked") {
			return errors.New("it says nothing of that")
		}
		return nil
	})
}
