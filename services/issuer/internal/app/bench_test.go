package app_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/httpapi/issuerapi"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/services/issuer/internal/app"
	"github.com/certctl/certctl/services/issuer/internal/ca/catest"
)

// BenchmarkIssue issues certificates from signing requests over the bus, as the gateway asks for them: durable, with
// inventory, job, version and two events published. CPU is that of everything that takes part: this process (issuer,
// NATS, and the clients, whose share is reported apart as what it costs to make the requests) and Postgres. It is
// counted until the last event has been published.
func BenchmarkIssue(b *testing.B) {
	for _, clients := range []int{1, 8, 32} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			w := newWorld(b)
			w.start(app.Settings{PublicURL: "http://127.0.0.1:8080"})
			key := catest.NewKey(b, ecdsa)
			bodies := make([]string, 256)
			for i := range bodies {
				name := fmt.Sprintf("host-%d.example.com", i)
				csr := strings.ReplaceAll(catest.NewCSR(b, key, name, name), "\n", `\n`)
				bodies[i] = fmt.Sprintf(`{"common_name":%q,"csr_pem":"%s"}`, name, csr)
			}
			w.create(bodies[0])
			cpu := newMeter(b, w)
			b.ResetTimer()
			each(clients, b.N, func(n int) {
				if status, text := w.try(http.MethodPost, "createCertificate", "/api/v1/certificates", bodies[n%len(bodies)]); status != http.StatusCreated {
					b.Errorf("%d %s", status, text)
				}
			})
			b.StopTimer()
			elapsed := b.Elapsed()
			w.drained()
			cpu.report(b, elapsed)
		})
	}
}

// BenchmarkRenew has agents' requests signed: what bulk renewal costs the issuer from csr.submitted to the last event.
func BenchmarkRenew(b *testing.B) {
	w := newWorld(b)
	w.start(app.Settings{PublicURL: "http://127.0.0.1:8080"})
	w.target("tgt-1", "agent-1")
	key := catest.NewKey(b, ecdsa)
	ids := make([]string, b.N)
	each(32, b.N, func(n int) {
		ids[n] = w.create(map[string]any{"common_name": "www.example.com", "target_ids": []string{"tgt-1"}}).ID
	})
	asked := func() []event.CertificateKeyRequested {
		return asks(w.heard, func(event.CertificateKeyRequested) bool { return true })
	}
	w.await("all agents to be asked", func() bool { return len(asked()) == b.N })
	csr := catest.NewCSR(b, key, "www.example.com", "www.example.com")
	questions := asked()
	cpu := newMeter(b, w)
	b.ResetTimer()
	each(64, b.N, func(n int) {
		q := questions[n]
		w.publish(event.CSRSubmitted{
			CertificateID: q.CertificateID, JobID: q.JobID, Attempt: q.Attempt, AgentID: q.AgentID, CSRPEM: csr,
		}, 1)
	})
	w.await("all to be issued", func() bool {
		var n int
		if err := w.pool.QueryRow(b.Context(), `SELECT count(*) FROM certificate_versions`).Scan(&n); err != nil {
			b.Fatal(err)
		}
		return n == b.N
	})
	b.StopTimer()
	elapsed := b.Elapsed()
	w.drained()
	cpu.report(b, elapsed)
}

// BenchmarkTrigger is one certificate on an idle system: from the trigger of a renewal, over the request to the agent and
// its answer, until the new version has been told of. What the agent and the services between take is not in it.
func BenchmarkTrigger(b *testing.B) {
	w := newWorld(b)
	w.start(app.Settings{PublicURL: "http://127.0.0.1:8080"})
	w.target("tgt-1", "agent-1")
	listen := func(subject string) *nats.Subscription {
		sub, err := w.conn.NC.SubscribeSync(subject)
		if err != nil {
			b.Fatal(err)
		}
		return sub
	}
	asked, renewed := listen(subject.Events("certificate", "requested")), listen(subject.Events("certificate", "renewed"))
	next := func(sub *nats.Subscription, into any) {
		m, err := sub.NextMsg(patience)
		if err != nil {
			b.Fatal(err)
		}
		if err := json.Unmarshal(m.Data, into); err != nil {
			b.Fatal(err)
		}
	}
	c := w.create(map[string]any{"common_name": "www.example.com", "csr_pem": csrFor(b, "www.example.com")})
	w.exec(`INSERT INTO issuer.certificate_targets (certificate_id, target_id, position) VALUES ($1, 'tgt-1', 1)`, c.ID)
	csr := csrFor(b, "www.example.com")
	took := make([]time.Duration, 0, b.N)
	for range b.N {
		began := time.Now()
		w.renew(c.ID, nil)
		var q event.CertificateRequested
		next(asked, &q)
		w.publish(event.CSRSubmitted{CertificateID: q.CertificateID, JobID: q.JobID, Attempt: q.KeyRequest.Attempt, AgentID: q.KeyRequest.AgentID, CSRPEM: csr}, 1)
		var done event.CertificateRenewed
		next(renewed, &done)
		took = append(took, time.Since(began))
		b.StopTimer()
		w.publish(event.DeploymentCompleted{Deployment: deploymentOf(&done.CertificateIssued, "tgt-1")}, 1)
		w.await("it to be active", func() bool { return w.certificate(c.ID).Status == issuerapi.CertificateStatusActive })
		b.StartTimer()
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}

// drained waits until every event has been published.
func (w *world) drained() {
	w.t.Helper()
	w.await("the outbox to be empty", func() bool {
		var n int
		if err := w.pool.QueryRow(w.t.Context(), `SELECT count(*) FROM outbox_queue`).Scan(&n); err != nil {
			w.t.Fatal(err)
		}
		return n == 0
	})
}

// each runs n pieces of work by so many at once.
func each(workers, n int, do func(int)) {
	next := make(chan int, n)
	for i := range n {
		next <- i
	}
	close(next)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := range next {
				do(i)
			}
		})
	}
	wg.Wait()
}

// meter reads the CPU time of this process and of Postgres.
type meter struct {
	w              *world
	commits        int64
	postmaster     int
	here, postgres time.Duration
}

func newMeter(b *testing.B, w *world) *meter {
	b.Helper()
	var backend int
	if err := w.pool.QueryRow(b.Context(), `SELECT pg_backend_pid()`).Scan(&backend); err != nil {
		b.Fatal(err)
	}
	m := &meter{w: w, postmaster: stat(backend)[1]}
	m.commits = m.committed(b)
	m.here, m.postgres = m.read(b)
	return m
}

// committed is how many transactions there have been; Postgres counts with a delay of up to a second.
func (m *meter) committed(b *testing.B) (n int64) {
	b.Helper()
	err := m.w.pool.QueryRow(b.Context(), `SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()`).Scan(&n)
	if err != nil {
		b.Fatal(err)
	}
	return n
}

func (m *meter) read(b *testing.B) (here, postgres time.Duration) {
	b.Helper()
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		b.Fatal(err)
	}
	here = time.Duration(use.Utime.Nano() + use.Stime.Nano())
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		b.Fatal(err)
	}
	const tick = 10 * time.Millisecond
	for _, p := range processes {
		pid, err := strconv.Atoi(filepath.Base(p))
		if err != nil {
			continue
		}
		s := stat(pid)
		if s == nil || pid != m.postmaster && s[1] != m.postmaster {
			continue
		}
		postgres += time.Duration(s[11]+s[12]) * tick
		if pid == m.postmaster {
			// Of the children that have ended.
			postgres += time.Duration(s[13]+s[14]) * tick
		}
	}
	return here, postgres
}

// stat returns the numbers of /proc/<pid>/stat behind the command's name: [1] the parent, [11] to [14] utime, stime and
// those of ended children.
func stat(pid int) []int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	out := make([]int, len(fields))
	for i, f := range fields {
		out[i], _ = strconv.Atoi(f)
	}
	return out
}

func (m *meter) report(b *testing.B, elapsed time.Duration) {
	b.Helper()
	here, postgres := m.read(b)
	n := float64(b.N)
	b.ReportMetric(n/elapsed.Seconds(), "certs/s")
	b.ReportMetric(float64((here-m.here).Microseconds())/n, "µs-go/op")
	b.ReportMetric(float64((postgres-m.postgres).Microseconds())/n, "µs-pg/op")
	b.ReportMetric(float64(m.committed(b)-m.commits)/n, "tx/op")
}

// BenchmarkList reads pages of 50 certificates over the bus, the first and one deep in the list.
func BenchmarkList(b *testing.B) {
	w := newWorld(b)
	w.start(app.Settings{})
	w.fill(100_000)
	deep := w.list(url.Values{"sort": {"-notAfter"}, "per_page": {"500"}, "page": {"20"}})
	for name, query := range map[string]string{"first": "", "deep": "&cursor=" + *deep.NextCursor, "filtered": "&status=Failed"} {
		b.Run(name, func(b *testing.B) {
			cpu := newMeter(b, w)
			b.ResetTimer()
			each(8, b.N, func(int) {
				if status, text := w.try(http.MethodGet, "listCertificates", "/api/v1/certificates?per_page=50&sort=-notAfter"+query, nil); status != http.StatusOK {
					b.Errorf("%d %s", status, text)
				}
			})
			b.StopTimer()
			cpu.report(b, b.Elapsed())
		})
	}
}
