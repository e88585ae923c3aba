package rig

import (
	"crypto/x509"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/certctl/certctl/contracts/httpapi/client"
)

// Installation is `certctl up` on a data folder, at addresses that stay the same when it
// is started again.
type Installation struct {
	*Program
	*API
	// Dir is for whatever belongs to the story; DataDir is the installation's own.
	Dir, DataDir string
	// LeafURL is where agents of this host connect, NATSURL where services that run
	// apart do, HubURL where leaves that run apart do.
	LeafURL, NATSURL, HubURL string
	// Trusted are roots of CAs elsewhere that never show them.
	Trusted []*x509.Certificate

	t testing.TB
	// looked tells that what was issued was looked at before the installation was stopped.
	looked bool
	ended  sync.Once
}

// unlimited lets stories ask as often as they like; one about limits sets its own.
const unlimited = "CERTCTL_RATE_LIMIT_ENABLED=false"

// NewInstallation prepares an installation without starting it.
func NewInstallation(t testing.TB, dir string, env ...string) *Installation {
	t.Helper()
	httpAddress, nats, hub, leaf := FreeAddress(t), FreeAddress(t), FreeAddress(t), FreeAddress(t)
	_, port, _ := net.SplitHostPort(httpAddress)
	in := &Installation{
		Dir: dir, DataDir: filepath.Join(dir, "data"), t: t,
		LeafURL: "nats://" + leaf, NATSURL: "nats://" + nats, HubURL: "nats://" + hub,
	}
	in.Program = NewProgram(t, dir, "up", "certctl", append(in.settings(),
		unlimited, "CERTCTL_SERVER_PORT="+port, "CERTCTL_NATS_LISTEN="+nats, "CERTCTL_NATS_LEAF_LISTEN="+hub, "CERTCTL_LOCAL_LEAF_LISTEN="+leaf,
	)...)
	in.Args = []string{"up"}
	in.Env = append(in.Env, env...)
	in.API = &API{URL: "http://" + httpAddress}
	t.Cleanup(in.atTheEnd)
	return in
}

// settings are those of every command on this installation.
func (in *Installation) settings() []string {
	env := []string{"CERTCTL_DATA_DIR=" + in.DataDir}
	if peers, err := filepath.Abs("../.peers"); err == nil {
		env = append(env, "CERTCTL_PEERS_DIR="+peers)
	}
	return env
}

// Up starts an installation and returns when it is ready.
func Up(t testing.TB, dir string, env ...string) *Installation {
	t.Helper()
	in := NewInstallation(t, dir, env...)
	in.Start()
	in.Ready()
	return in
}

// Ready waits until the installation answers, and takes up its first API key.
func (in *Installation) Ready() {
	in.t.Helper()
	if in.API.Client == nil {
		Within(in.t, Patience, "the first API key is there", func() error {
			key, err := os.ReadFile(filepath.Join(in.DataDir, "admin.key"))
			if err != nil {
				if !in.Running() {
					in.t.Fatalf("certctl up has ended: %s", in.Tail(2000))
				}
				return err
			}
			in.API = newAPI(in.t, in.API.URL, strings.TrimSpace(string(key)))
			return nil
		})
	}
	Within(in.t, Patience, "the installation is ready", func() error {
		_, err := Read[client.Readiness](in.GetReady(in.t.Context()))
		return err
	})
}

// Stop is that of a program, after a look at what was issued.
func (in *Installation) Stop() (code int, took time.Duration) {
	in.t.Helper()
	in.HoldsUp()
	in.looked = true
	return in.Program.Stop()
}

// Admin runs one of the operator's tools and returns what it printed.
func (in *Installation) Admin(args ...string) (string, error) {
	cmd := exec.CommandContext(in.t.Context(), Binary("certctl"), append([]string{"admin"}, args...)...)
	cmd.Env = append(in.settings(), "PATH="+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// Credentials writes what a service needs to run apart, and returns the folder.
func (in *Installation) Credentials(service string) string {
	in.t.Helper()
	dir := filepath.Join(in.Dir, "apart", service)
	// The servers are there a little later than the process.
	Within(in.t, Patience, "the credentials of "+service, func() error {
		out, err := in.Admin("credentials", service, dir)
		if err != nil {
			return errors.New(out)
		}
		return nil
	})
	return dir
}

// Apart prepares a service as a process of its own. The installation must run without
// it.
func (in *Installation) Apart(service string, env ...string) *Program {
	in.t.Helper()
	text, err := os.ReadFile(filepath.Join(in.Credentials(service), "env"))
	if err != nil {
		in.t.Fatal(err)
	}
	settings := strings.Fields(string(text))
	if service == "gateway" {
		settings = append(settings, unlimited)
	}
	p := NewProgram(in.t, in.Dir, service, service, append(settings, env...)...)
	in.t.Cleanup(in.atTheEnd)
	return p
}

// KillPostgres kills the private Postgres and tells whether there was one.
func (in *Installation) KillPostgres() bool {
	data := filepath.Join(in.DataDir, "postgres", "data")
	text, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		return false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(strings.SplitN(string(text), "\n", 2)[0]))
	if err != nil {
		return false
	}
	// The file outlives the server, and its number may have gone to somebody else.
	if at, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "cwd")); err != nil || at != data {
		return false
	}
	return syscall.Kill(pid, syscall.SIGKILL) == nil
}
