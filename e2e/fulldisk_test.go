package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/certctl/certctl/contracts/httpapi/client"
	"github.com/certctl/certctl/e2e/internal/rig"
)

// TestFullDisk_LeavesTheOldCertificateServed renews a certificate onto a disk that has
// no room for it.
func TestFullDisk_LeavesTheOldCertificateServed(t *testing.T) {
	t.Parallel()
	in := rig.Up(t, rig.Dir(t), "CERTCTL_LOG_LEVEL=warn", "CERTCTL_DEPLOYMENT_RETRY_BASE=100ms", "CERTCTL_DEPLOYMENT_MAX_ATTEMPTS=2")
	const name = "www.e2e.test"
	folder := filepath.Join(in.Dir, "nginx", "tls", name)
	room := disk(t, folder)
	agent := in.Enrol("host", "site-local", in.LeafURL, "CERTCTL_LOG_LEVEL=warn")
	room.confine(agent.Program)
	nginx := rig.StartNGINX(t, in.Dir, "nginx", name)
	target := in.Target(agent, nginx.Sites[0])
	created := rig.Must[client.Certificate](t)(in.CreateCertificate(t.Context(), client.CertificateCreate{
		CommonName: name, TargetIds: &[]string{target.ID},
	}))
	first := in.Active(t, created.ID, "")
	before := content(t, folder)

	room.fill()
	rig.Must[client.RenewalTriggered](t)(in.RenewCertificate(t.Context(), created.ID, client.CertificateRenew{}))
	failed := in.Failed(t, created.ID)
	if reason := rig.Value(failed.StatusReason); !strings.Contains(reason, room.says) {
		t.Errorf("the reason does not say %q: %s", room.says, reason)
	}
	if got := nginx.Sites[0].Fingerprint(t); got != rig.Value(first.FingerprintSha256) {
		t.Errorf("%s is served instead of the old certificate", got)
	}
	room.free()
	for file, was := range before {
		if is := content(t, folder)[file]; is != was {
			t.Errorf("%s has changed", file)
		}
	}
	if n := len(content(t, folder)); n != len(before) {
		t.Errorf("there are %d files, before there were %d", n, len(before))
	}

	rig.Must[client.RenewalTriggered](t)(in.RenewCertificate(t.Context(), created.ID, client.CertificateRenew{}))
	second := in.Active(t, created.ID, rig.Value(first.FingerprintSha256))
	if got := nginx.Sites[0].Fingerprint(t); got != rig.Value(second.FingerprintSha256) {
		t.Errorf("when there was room again %s is served, the record says %s", got, rig.Value(second.FingerprintSha256))
	}
}

// room is a folder that can be filled up and freed.
type room struct {
	fill, free func()
	// says is what the system calls the trouble.
	says string
	// confine makes a program feel it, if it would not by itself.
	confine func(*rig.Program)
}

// disk makes a folder a small disk of its own. For whoever may not mount one it is a
// folder that is shut instead, which is just as little use to write to.
func disk(t *testing.T, folder string) room {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(folder, 0o755))
	if err := syscall.Mount("none", folder, "tmpfs", 0, "size=256k,mode=755"); err != nil {
		shut := room{
			fill: func() { must(os.Chmod(folder, 0o555)) },
			free: func() { must(os.Chmod(folder, 0o755)) },
			says: syscall.EACCES.Error(), confine: func(*rig.Program) {},
		}
		if os.Geteuid() == 0 {
			shut.confine = bindRoot
		}
		return shut
	}
	t.Cleanup(func() { _ = syscall.Unmount(folder, syscall.MNT_DETACH) })
	ballast := filepath.Join(folder, "ballast")
	return room{
		fill: func() {
			f, err := os.Create(ballast)
			must(err)
			defer f.Close()
			for err == nil {
				_, err = f.Write(make([]byte, 4096))
			}
			if !errors.Is(err, syscall.ENOSPC) {
				t.Fatal(err)
			}
		},
		free: func() { must(os.Remove(ballast)) },
		says: syscall.ENOSPC.Error(), confine: func(*rig.Program) {},
	}
}

// bindRoot runs a program again so that permissions bind it, as they do not bind root.
func bindRoot(p *rig.Program) {
	p.Kill()
	p.Args = append([]string{"--bounding-set", "-dac_override,-dac_read_search", p.Path}, p.Args...)
	p.Path = "/usr/bin/setpriv"
	p.Start()
}

func content(t *testing.T, folder string) map[string]string {
	t.Helper()
	files := map[string]string{}
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(folder, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = string(text)
	}
	return files
}
