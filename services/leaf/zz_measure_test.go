package leaf_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/certctl/certctl/contracts/subject"
)

func rss(pid int) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	var out []string
	for _, l := range strings.Split(string(b), "\n") {
		if strings.HasPrefix(l, "VmRSS") || strings.HasPrefix(l, "RssAnon") || strings.HasPrefix(l, "RssFile") || strings.HasPrefix(l, "Threads") {
			out = append(out, strings.Join(strings.Fields(l), " "))
		}
	}
	return strings.Join(out, ", ")
}

func TestZZMeasure(t *testing.T) {
	w := newWorld(t, "site-1")
	cmd := exec.Command("/tmp/certctl-leaf")
	cmd.Env = append(os.Environ(), "CERTCTL_LEAF_TOKEN="+siteToken("site-1"), "CERTCTL_LEAF_GATEWAY_URL="+w.url, "CERTCTL_LEAF_DATA_DIR="+t.TempDir(),
		"GOMEMLIMIT=64MiB", "GOGC=50", "CERTCTL_LEAF_LISTEN=127.0.0.1:14223", "CERTCTL_LEAF_LOG_LEVEL=warn", "CERTCTL_LEAF_STATUS_LISTEN=127.0.0.1:14224")
	cmd.Stderr = os.Stderr
	start := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	l := &runningLeaf{url: "nats://127.0.0.1:14223"}
	for {
		nc, err := nats.Connect(l.url)
		if err == nil || strings.Contains(err.Error(), "uthoriz") {
			if nc != nil { nc.Close() }
			break
		}
		time.Sleep(time.Millisecond)
	}
	t.Logf("start to agents welcome (enrolment included): %v", time.Since(start))
	time.Sleep(5 * time.Second)
	t.Logf("idle: %s", rss(cmd.Process.Pid))
	var as []*agent
	for i := range 50 {
		as = append(as, w.enter(fmt.Sprintf("agent-%d", i), "site-1", l))
	}
	time.Sleep(5 * time.Second)
	t.Logf("50 agents: %s", rss(cmd.Process.Pid))
	cpu := func() string { b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid)); f := strings.Fields(string(b)); return f[13] + "+" + f[14] }
	c0 := cpu()
	time.Sleep(10 * time.Second)
	t.Logf("cpu ticks over 10 s idle with 50 agents: %s -> %s", c0, cpu())
	const n = 5000
	msgs := func(prefix, id string, from, k int) (out []*nats.Msg) {
		for i := from; i < from+k; i++ {
			m := nats.NewMsg(fmt.Sprintf(prefix, i))
			m.Header.Set(nats.MsgIdHdr, fmt.Sprintf("%s-%d", id, i))
			m.Data = make([]byte, 2048)
			out = append(out, m)
		}
		return
	}
	t0 := time.Now()
	for i := 0; i < n; i += 200 {
		if _, err := jetstreamext.PublishMsgBatch(t.Context(), w.js, msgs("certctl.agent.cmd.site-1.agent-0.deploy.job-%d", "c", i, 200)); err != nil { t.Fatal(err) }
	}
	t1 := time.Now()
	eventually(t, "relayed", func() bool {
		c, err := w.js.Consumer(t.Context(), "AGENT_CMD", "site-1")
		if err != nil { return false }
		i := c.CachedInfo()
		return i.NumPending == 0 && i.NumAckPending == 0
	})
	t.Logf("%d orders: hub published in %v, relayed %v after begin = %.0f/s", n, t1.Sub(t0), time.Since(t0), n/time.Since(t0).Seconds())
	t0 = time.Now()
	fs := []jetstream.PubAckFuture{}
	for i := range n {
		a := as[i%50]
		m := nats.NewMsg(subject.SiteReport(a.id, "deploy", fmt.Sprintf("job-%d", i)))
		m.Header.Set(nats.MsgIdHdr, fmt.Sprintf("r-%d", i))
		m.Data = make([]byte, 2048)
		f, err := a.js.PublishMsgAsync(m)
		if err != nil { t.Fatal(err) }
		fs = append(fs, f)
	}
	for _, f := range fs { select { case <-f.Ok(): case err := <-f.Err(): t.Fatal(err) } }
	t1 = time.Now()
	w.stored(subject.StreamAgentReports, subject.AgentReports("site-1"), n)
	t.Logf("%d reports: agents' acks after %v, all at the hub after %v = %.0f/s", n, t1.Sub(t0), time.Since(t0), n/time.Since(t0).Seconds())
	t.Logf("after load: %s", rss(cmd.Process.Pid))
	// latency of one order and one report
	a := as[1]
	c, _ := a.js.Consumer(t.Context(), "SITE_CMD", a.id)
	var sum, sum2 time.Duration
	for i := range 50 {
		done := make(chan time.Time, 1)
		go func() { m, err := c.Next(jetstream.FetchMaxWait(5*time.Second)); if err == nil { m.Ack() }; done <- time.Now() }()
		time.Sleep(20 * time.Millisecond)
		t0 := time.Now()
		w.order("site-1", a.id, fmt.Sprintf("lat-%d", i))
		sum += (<-done).Sub(t0)
		sub, _ := w.nc.SubscribeSync(subject.AgentReports("site-1"))
		w.nc.Flush()
		t0 = time.Now()
		w.report(a, fmt.Sprintf("lat-%d", i))
		sub.NextMsg(5 * time.Second)
		sum2 += time.Since(t0)
		sub.Unsubscribe()
	}
	t.Logf("one order hub->agent %v, one report agent->hub %v", sum/50, sum2/50)
	time.Sleep(15 * time.Second)
	t.Logf("20 s later: %s", rss(cmd.Process.Pid))
	resp, _ := exec.Command("curl", "-s", "http://127.0.0.1:14224/metrics").Output()
	t.Logf("%s", resp)
}
