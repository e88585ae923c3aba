package nginx_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/agent/internal/atomicfile"
	"github.com/certctl/certctl/services/agent/internal/process"
	"github.com/certctl/certctl/services/agent/internal/served"
	"github.com/certctl/certctl/services/agent/internal/target"
	"github.com/certctl/certctl/services/agent/internal/target/nginx"
	"github.com/certctl/certctl/services/agent/internal/target/nginx/nginxtest"
	"github.com/certctl/certctl/services/agent/internal/target/targettest"
)

// childVariable names the task of a process that is this test's binary once more, to
// be killed or to be short of space.
const childVariable = "CERTCTL_TEST_DEPLOYMENT"

func TestMain(m *testing.M) {
	if path := os.Getenv(childVariable); path != "" {
		if err := child(path); err != nil {
			fmt.Fprint(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// task is one deployment by a process of its own.
type task struct {
	Config   json.RawMessage
	Binary   string
	Chain    string
	Key      []byte
	Progress string
	// FileLimit is the most bytes that the process may write to one file; none if zero.
	FileLimit uint64
}

func child(path string) error {
	var job task
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &job); err != nil {
		return err
	}
	if job.FileLimit > 0 {
		// Without this the kernel ends the process instead of failing the write.
		signal.Ignore(syscall.SIGXFSZ)
		limit := syscall.Rlimit{Cur: job.FileLimit, Max: job.FileLimit}
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
			return err
		}
	}
	return job.deploy(context.Background())
}

func (job task) bundle() (target.Bundle, error) {
	chain, err := x509x.ParseCertificates([]byte(job.Chain))
	if err != nil {
		return target.Bundle{}, err
	}
	return target.Bundle{Chain: chain, KeyPEM: job.Key, Fingerprint: x509x.Fingerprint(chain[0].Raw)}, nil
}

func (job task) open() (target.Target, error) {
	return nginx.Kind{Commands: process.Policy{Allowed: []string{job.Binary}}}.Open(job.Config)
}

func (job task) deploy(ctx context.Context) error {
	b, err := job.bundle()
	if err != nil {
		return err
	}
	opened, err := job.open()
	if err != nil {
		return err
	}
	_, err = opened.Deploy(ctx, b, onDisk(job.Progress))
	return err
}

// onDisk is a progress that survives the process.
type onDisk string

func (path onDisk) Load() json.RawMessage {
	text, err := os.ReadFile(string(path))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return text
}

func (path onDisk) Save(state json.RawMessage) error {
	return atomicfile.Write(string(path), state, 0o600)
}

func newTask(t *testing.T, s *nginxtest.Server, b target.Bundle) task {
	t.Helper()
	return task{
		Config: config(t, s), Binary: s.Binary, Chain: string(x509x.EncodeCertificates(b.Chain...)), Key: b.KeyPEM,
		Progress: filepath.Join(t.TempDir(), "progress"),
	}
}

func (job task) process(t *testing.T) (*exec.Cmd, *strings.Builder) {
	t.Helper()
	text, err := json.Marshal(job)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "task")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+path)
	said := &strings.Builder{}
	cmd.Stderr = said
	return cmd, said
}

func TestNGINX_GoesOnAfterAKillAtAnyMoment(t *testing.T) {
	authority := targettest.NewAuthority(t)
	server := start(t, authority.Bundle(host))
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	chance := rand.New(rand.NewPCG(seed, 1))
	early := 0
	for range 15 {
		next := authority.Bundle(host)
		job := newTask(t, server, next)
		cmd, _ := job.process(t)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(time.Duration(chance.IntN(250))*time.Millisecond, func() { _ = cmd.Process.Kill() })
		if cmd.Wait() != nil {
			early++
		}
		timer.Stop()
		if _, err := server.Serial(t.Context()); err != nil {
			t.Fatalf("after the kill: %v", err)
		}
		if err := job.deploy(t.Context()); err != nil {
			t.Fatalf("taken up again: %v", err)
		}
		if _, err := served.Await(t.Context(), server.Address, host, next.Fingerprint, 10*time.Second); err != nil {
			t.Fatal(err)
		}
		opened, err := job.open()
		if err != nil {
			t.Fatal(err)
		}
		if err := opened.Clear(onDisk(job.Progress)); err != nil {
			t.Fatal(err)
		}
		if left := leftovers(t, server); len(left) > 0 {
			t.Fatalf("left behind: %v", left)
		}
	}
	t.Logf("%d of 15 were killed before their end", early)
}

func TestNGINX_TouchesNothingOnAFullDisk(t *testing.T) {
	authority := targettest.NewAuthority(t)
	before := authority.Bundle(host)
	server := start(t, before)
	var names []string
	for i := range 200 {
		names = append(names, fmt.Sprintf("host-%d.%s", i, host))
	}
	job := newTask(t, server, authority.Bundle(names...))
	job.FileLimit = 4 << 10
	if len(job.Chain) <= int(job.FileLimit) {
		t.Fatal("the chain fits into the limit")
	}
	cmd, said := job.process(t)
	if err := cmd.Run(); err == nil {
		t.Fatal("a deployment without room succeeded")
	}
	if !strings.Contains(said.String(), "file too large") || !strings.Contains(said.String(), server.CertPath) {
		t.Errorf("the deployment says: %s", said)
	}
	if got, err := served.Fingerprint(t.Context(), server.Address, host); err != nil || got != before.Fingerprint {
		t.Errorf("served is %s, %v", got, err)
	}
	if got := read(t, server.CertPath); got != string(x509x.EncodeCertificates(before.Chain...)) {
		t.Error("the certificate file was changed")
	}
	if left := leftovers(t, server); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
