package leaf_test

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/contracts/subject"
)

// process is a leaf in a process of its own, which can be killed.
type process struct {
	cmd *exec.Cmd
	url string
}

func (w *world) process(dir string) *process {
	w.t.Helper()
	self, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(
		os.Environ(), childEnv+"=1",
		"CERTCTL_LEAF_TOKEN="+siteToken("site-1"), "CERTCTL_LEAF_GATEWAY_URL="+w.url, "CERTCTL_LEAF_DATA_DIR="+dir,
		"CERTCTL_LEAF_LISTEN=127.0.0.1:0", "CERTCTL_LEAF_RECONNECT_DELAY=50ms", "CERTCTL_LEAF_LOG_LEVEL=warn",
		"CERTCTL_LEAF_COMMAND_BYTES=33554432", "CERTCTL_LEAF_REPORT_BYTES=33554432",
	)
	cmd.Stderr = testWriter{w.t}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	p := &process{cmd: cmd}
	w.t.Cleanup(p.kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		w.t.Fatalf("leaf did not start: %v", err)
	}
	p.url = strings.TrimSpace(line)
	return p
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// An agent reports, and is sent orders, without pause while its leaf is killed again
// and again: what was acknowledged arrives at the hub, and every order at the site, in
// order.
func TestLeaf_KilledAtAnyTimeLosesNothingItAcknowledged(t *testing.T) {
	t.Parallel()
	const kills = 5
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	chance := rand.New(rand.NewPCG(seed, 0))
	w := newWorld(t, "site-1")
	dir := filepath.Join(t.TempDir(), "leaf")
	a := w.newAgent("agent-a", "site-1")

	var acknowledged, taken []string
	sent := 0
	for round := range kills + 1 {
		p := w.process(dir)
		w.connect(a, p.url)
		if r := w.ask(a, command.VerbHello, nil); r.Fault != nil {
			t.Fatal(r.Fault)
		}
		end := make(chan struct{})
		if round < kills {
			timer := time.AfterFunc(time.Duration(100+chance.IntN(400))*time.Millisecond, func() { p.kill(); close(end) })
			defer timer.Stop()
		} else {
			time.AfterFunc(300*time.Millisecond, func() { close(end) })
		}
		for alive := true; alive; {
			select {
			case <-end:
				alive = false
				continue
			default:
			}
			job := fmt.Sprintf("job-%05d", sent)
			w.order("site-1", "agent-a", job)
			sent++
			if w.tryReport(a, job) == nil {
				acknowledged = append(acknowledged, job)
			}
		}
		if round == kills {
			for _, m := range w.orders(a, sent) {
				taken = append(taken, string(m.Data()))
			}
		}
		a.nc.Close()
	}

	// The hub may hold a report that was stored but whose acknowledgement the kill
	// swallowed: more than was promised, never less.
	reports := w.stored(subject.StreamAgentReports, subject.AgentReports("site-1"), len(acknowledged))
	var there []string
	for _, m := range reports {
		there = append(there, string(m.Data()))
	}
	assertInOrder(t, "report", there)
	if missing := without(acknowledged, there); len(missing) > 0 {
		t.Errorf("%d acknowledged reports are lost: %v", len(missing), missing)
	}
	// Each once and in order, so each that was sent.
	assertInOrder(t, "order", taken)
	t.Logf("%d orders, %d reports acknowledged, %d kills", sent, len(acknowledged), kills)
}

func (w *world) tryReport(a *agent, job string) error {
	m := nats.NewMsg(subject.SiteReport(a.id, subject.KindDeploy, job))
	m.Data = []byte(job)
	m.Header.Set(nats.MsgIdHdr, "r-"+job)
	_, err := a.js.PublishMsg(w.t.Context(), m, jetstream.WithRetryAttempts(0))
	return err
}

func assertInOrder(t *testing.T, what string, jobs []string) {
	t.Helper()
	for i := 1; i < len(jobs); i++ {
		if jobs[i] <= jobs[i-1] {
			t.Errorf("%s %s comes after %s", what, jobs[i], jobs[i-1])
			return
		}
	}
}

func without(all, some []string) (missing []string) {
	there := map[string]bool{}
	for _, j := range some {
		there[j] = true
	}
	for _, j := range all {
		if !there[j] {
			missing = append(missing, j)
		}
	}
	return missing
}
