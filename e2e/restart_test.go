package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/contracts/httpapi/client"
	"github.com/certctl/certctl/e2e/internal/rig"
)

func TestRestart_ASecondStartFindsAllData(t *testing.T) {
	t.Parallel()
	in := rig.Up(t, rig.Dir(t), "CERTCTL_LOG_LEVEL=warn")
	agent := in.Enrol("host", "site-local", in.LeafURL, "CERTCTL_LOG_LEVEL=warn")
	nginx := rig.StartNGINX(t, in.Dir, "nginx", "www.e2e.test")
	target := in.Target(agent, nginx.Sites[0])
	issue(t, in, "mc-own", "own.e2e.test")
	created := rig.Must[client.Certificate](t)(in.CreateCertificate(t.Context(), client.CertificateCreate{
		CommonName: nginx.Sites[0].Name, TargetIds: &[]string{target.ID},
	}))
	first := in.Active(t, created.ID, "")
	before := everything(t, in)

	stopsCleanly(t, in)
	if _, err := os.Stat(filepath.Join(in.DataDir, "running.json")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("running.json is left: %v", err)
	}
	in.Start()
	in.Ready()
	if diff := cmp.Diff(before, everything(t, in)); diff != "" {
		t.Errorf("after the restart something is different (-before +after):\n%s", diff)
	}
	// The agent was not touched, and goes on by itself.
	rig.Must[client.RenewalTriggered](t)(in.RenewCertificate(t.Context(), created.ID, client.CertificateRenew{}))
	second := in.Active(t, created.ID, rig.Value(first.FingerprintSha256))
	if got := nginx.Sites[0].Fingerprint(t); got != rig.Value(second.FingerprintSha256) {
		t.Errorf("%s is served, the record says %s", got, rig.Value(second.FingerprintSha256))
	}
}

// issue has a certificate issued for a key of the client's own.
func issue(t *testing.T, in *rig.Installation, id, name string) {
	t.Helper()
	rig.Must[client.Certificate](t)(in.CreateCertificate(t.Context(), client.CertificateCreate{
		ID: &id, CommonName: name, CsrPem: new(rig.CSR(t, name)),
	}))
}

// inventory is what has to be the same after a restart.
type inventory struct {
	Certificates []client.Certificate
	Versions     []client.CertificateVersion
	Jobs         []client.Job
	Targets      []client.Target
	Sites        []client.Site
	CA           string
}

func everything(t *testing.T, in *rig.Installation) inventory {
	t.Helper()
	var all inventory
	var err error
	if all.Certificates, err = in.Certificates(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, c := range all.Certificates {
		list := rig.Must[client.CertificateVersionList](t)(in.ListCertificateVersions(t.Context(), c.ID, nil))
		all.Versions = append(all.Versions, list.Data...)
	}
	if all.Jobs, err = in.Jobs(t.Context()); err != nil {
		t.Fatal(err)
	}
	all.Targets = rig.Must[client.TargetList](t)(in.ListTargets(t.Context(), nil)).Data
	all.Sites = rig.Must[client.SiteList](t)(in.ListSites(t.Context(), nil)).Data
	ca, err := rig.Raw(in.GetCACertificates(t.Context(), "iss-local"))
	if err != nil {
		t.Fatal(err)
	}
	all.CA = string(ca)
	return all
}

// stopsCleanly ends an installation and sees that nothing of it is left running.
func stopsCleanly(t *testing.T, in *rig.Installation) {
	t.Helper()
	code, took := in.Stop()
	t.Logf("it stopped within %s", took.Round(time.Millisecond))
	if code != 0 {
		t.Errorf("certctl up exited with %d: %s", code, in.Tail(1000))
	}
	if left := runningIn(in.DataDir); len(left) > 0 {
		t.Errorf("processes %v are left in the data folder", left)
	}
}

// runningIn lists the processes whose working folder is under a folder.
func runningIn(dir string) (pids []int) {
	links, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, link := range links {
		if at, err := os.Readlink(link); err == nil && strings.HasPrefix(at, dir) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(link)))
			pids = append(pids, pid)
		}
	}
	return pids
}

func TestRestart_ASecondCertctlOnTheSameFolderIsRefused(t *testing.T) {
	t.Parallel()
	in := rig.Up(t, rig.Dir(t), "CERTCTL_LOG_LEVEL=warn")
	second := rig.NewProgram(t, in.Dir, "second", "certctl", append(in.Env, "CERTCTL_SERVER_PORT=0")...)
	second.Args = []string{"up"}
	second.Start()
	if code := second.Wait(rig.Patience); code != 1 {
		t.Errorf("it exited with %d", code)
	}
	if out := second.Output(); !strings.Contains(out, "another certctl runs on "+in.DataDir) {
		t.Errorf("it does not say why: %s", out)
	}
	issue(t, in, "mc-after", "after.e2e.test")
}

func TestRestart_AnOrdinaryUserNeedsNothingElse(t *testing.T) {
	t.Parallel()
	dir := rig.Dir(t)
	in := rig.NewInstallation(t, dir, "CERTCTL_LOG_LEVEL=warn")
	if os.Geteuid() == 0 {
		const nobody = 65534
		in.As = &syscall.Credential{Uid: nobody, Gid: nobody}
		if err := errors.Join(os.Mkdir(in.DataDir, 0o700), os.Chown(in.DataDir, nobody, nobody)); err != nil {
			t.Fatal(err)
		}
	}
	in.Start()
	in.Ready()
	issue(t, in, "mc-own", "own.e2e.test")
	stopsCleanly(t, in)
	in.Start()
	in.Ready()
	in.Active(t, "mc-own", "")
	stopsCleanly(t, in)
}
