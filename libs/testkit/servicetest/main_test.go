// Package servicetest holds the tests of libs/service against a real NATS server and a real Postgres, which that module
// itself must not depend on. The process under test is this test binary, started again.
package servicetest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/libs/secret"
	"github.com/certctl/certctl/libs/service"
	"github.com/certctl/certctl/libs/testkit/natstest"
	"github.com/certctl/certctl/libs/testkit/pgtest"
)

const (
	asService = "SERVICETEST_AS_SERVICE"
	patience  = 30 * time.Second
)

type settings struct {
	Greeting string `split_words:"true" default:"hello" desc:"What is said first."`
	Fate     string `split_words:"true" desc:"What becomes of the service."`
}

func TestMain(m *testing.M) {
	if os.Getenv(asService) != "" {
		service.Main("demo", new(settings), run)
	}
	os.Exit(pgtest.M{M: m}.Run())
}

// run is the service: it proves that it has been given what it needs, and then waits.
func run(ctx context.Context, cfg settings, deps service.Deps) error {
	if cfg.Fate == "fail" {
		return errors.New("no luck with postgres://demo:hunter2@db/x")
	}
	if cfg.Fate == "leave" {
		return nil
	}
	var schema string
	if err := deps.DB.QueryRow(ctx, "SELECT current_schema()").Scan(&schema); err != nil {
		return err
	}
	if _, err := deps.Bus.NC.Subscribe("demo.ping", nil); err == nil {
		return errors.New("a subscription without a handler was accepted")
	}
	deps.Log.Info(cfg.Greeting, "schema", schema, "sealer", deps.Sealer != nil)
	<-ctx.Done()
	if cfg.Fate == "hang" {
		deps.Log.Info("hanging")
		select {}
	}
	return ctx.Err()
}

// process is a running service.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	done chan struct{}

	mu  sync.Mutex
	out bytes.Buffer // guarded by mu
}

func start(t *testing.T, env ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.CommandContext(t.Context(), os.Args[0]), done: make(chan struct{})}
	p.cmd.Env = []string{asService + "=1"}
	for _, e := range append(os.Environ(), env...) {
		if !strings.HasPrefix(e, "CERTCTL_") {
			p.cmd.Env = append(p.cmd.Env, e)
		}
	}
	p.cmd.Env = append(p.cmd.Env, env...)
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go p.follow(stderr)
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.done
	})
	return p
}

func (p *process) follow(stderr io.Reader) {
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		p.mu.Lock()
		fmt.Fprintln(&p.out, lines.Text())
		p.mu.Unlock()
	}
	_ = p.cmd.Wait()
	close(p.done)
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// says waits for a line of the log and returns what the groups of the pattern match.
func (p *process) says(pattern string) []string {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	deadline := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if m := re.FindStringSubmatch(p.output()); m != nil {
			return m[1:]
		}
		select {
		case <-tick.C:
		case <-deadline:
			p.t.Fatalf("%q was not said:\n%s", pattern, p.output())
		}
	}
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// ends waits for the process to end and returns its exit code.
func (p *process) ends() int {
	p.t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		p.t.Fatalf("the process does not end:\n%s", p.output())
		return -1
	}
}

func environment(t *testing.T) []string {
	t.Helper()
	pool := pgtest.New(t, fstest.MapFS{"0001_demo.sql": {Data: []byte("-- +goose Up\nCREATE TABLE demo (id text PRIMARY KEY);\n")}}, "demo")
	key := filepath.Join(t.TempDir(), "sealing.key")
	k := secret.NewKey()
	if err := os.WriteFile(key, []byte(base64.StdEncoding.EncodeToString(k[:])), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{
		"CERTCTL_NATS_URL=" + natstest.Start(t, natstest.Listen).URL(),
		"CERTCTL_DATABASE_URL=" + pool.Config().ConnString(),
		"CERTCTL_SEALING_KEY_FILE=" + key,
		"CERTCTL_LOG_FORMAT=text",
		"CERTCTL_DEMO_HEALTH_ADDR=127.0.0.1:0",
	}
}

func TestMain_RunsAServiceUntilItIsTold(t *testing.T) {
	p := start(t, append(environment(t), "CERTCTL_GREETNG=x")...)
	url := p.says(`msg="answering probes".* url=(\S+)`)[0]
	p.says(`service=demo.* schema=demo sealer=true`)
	p.says(`level=WARN .*name=CERTCTL_GREETNG nearest=CERTCTL_GREETING`)

	if status, body := get(t, url+"/ready"); status != 200 || checks(t, body) != "database nats start" {
		t.Errorf("/ready: %d %s", status, body)
	}
	if status, body := get(t, url+"/health"); status != 200 || !strings.Contains(body, "healthy") {
		t.Errorf("/health: %d %s", status, body)
	}
	if status, body := get(t, url+"/metrics"); status != 200 || !strings.Contains(body, "go_goroutines") {
		t.Errorf("/metrics: %d", status)
	}
	if status, _ := get(t, url+"/"); status != 404 {
		t.Errorf("/: %d", status)
	}
	p.signal(syscall.SIGTERM)
	if code := p.ends(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, p.output())
	}
}

func TestMain_DiesOfTheSecondSignal(t *testing.T) {
	p := start(t, append(environment(t), "CERTCTL_FATE=hang")...)
	p.says("schema=demo")
	p.signal(os.Interrupt)
	p.says("msg=hanging")
	p.signal(os.Interrupt)
	p.ends()
	if status := p.cmd.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != syscall.SIGINT {
		t.Errorf("ended with %v:\n%s", p.cmd.ProcessState, p.output())
	}
}

func TestMain_IsUnreadyWhileItWaitsAndStopsAllTheSame(t *testing.T) {
	env := environment(t)
	env[0] = "CERTCTL_NATS_URL=nats://127.0.0.1:1"
	p := start(t, env...)
	url := p.says(`msg="answering probes".* url=(\S+)`)[0]
	if status, body := get(t, url+"/ready"); status != 503 || !strings.Contains(body, "the service is starting") {
		t.Errorf("/ready: %d %s", status, body)
	}
	if status, _ := get(t, url+"/health"); status != 200 {
		t.Errorf("/health: %d", status)
	}
	p.signal(syscall.SIGTERM)
	if code := p.ends(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, p.output())
	}
}

func TestMain_TellsTheSupervisorOfFailure(t *testing.T) {
	env := environment(t)
	tests := map[string]struct {
		env  []string
		says string
	}{
		"the service fails":     {append(env, "CERTCTL_FATE=fail"), "demo: no luck with postgres://demo:[redacted]@db/x"},
		"it leaves unasked":     {append(env, "CERTCTL_FATE=leave"), "ended without having been told to"},
		"nothing is configured": {nil, "CERTCTL_NATS_URL is not set"},
		"no such sealing key":   {append(env, "CERTCTL_SEALING_KEY_FILE=/nonexistent"), "/nonexistent"},
		"a bad level":           {append(env, "CERTCTL_LOG_LEVEL=loud"), `"loud"`},
		"a bad number":          {append(env, "CERTCTL_DATABASE_MAX_CONNS=many"), "CERTCTL_DATABASE_MAX_CONNS is not"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := start(t, tt.env...)
			if code := p.ends(); code != 1 || !strings.Contains(p.output(), tt.says) {
				t.Errorf("exit code %d, want 1 and %q:\n%s", code, tt.says, p.output())
			}
		})
	}
}

func TestMain_ExplainsItself(t *testing.T) {
	for arg, want := range map[string]int{"--help": 0, "serve": 2} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], arg)
		cmd.Env = append(os.Environ(), asService+"=1")
		out, _ := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != want {
			t.Errorf("%s: exit code %d, want %d", arg, code, want)
		}
		for _, name := range []string{"CERTCTL_NATS_CREDS_FILE", "CERTCTL_DEMO_HEALTH_ADDR", "CERTCTL_GREETING", "CERTCTL_DATABASE_URL_FILE", "Default: hello."} {
			if !strings.Contains(string(out), name) {
				t.Errorf("%s: %s is missing:\n%s", arg, name, out)
			}
		}
	}
}

func TestVariables_AreThoseOfProcessAndService(t *testing.T) {
	vars, err := service.Variables("demo", new(settings))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, v := range vars {
		if v.Description == "" {
			t.Errorf("%s is not described", v.Name)
		}
		names = append(names, strings.TrimPrefix(v.Name, "CERTCTL_"))
	}
	want := []string{
		"NATS_URL", "NATS_CREDS_FILE", "DATABASE_URL", "DATABASE_MAX_CONNS", "SEALING_KEY_FILE", "LOG_LEVEL", "LOG_FORMAT",
		"DEMO_HEALTH_ADDR", "GREETING", "FATE",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// checks returns the names of the checks in a report.
func checks(t *testing.T, report string) string {
	t.Helper()
	var r struct{ Checks []struct{ Name string } }
	if err := json.Unmarshal([]byte(report), &r); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range r.Checks {
		names = append(names, c.Name)
	}
	return strings.Join(names, " ")
}
