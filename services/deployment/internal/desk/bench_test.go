package desk_test

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/bus"
)

// BenchmarkRenewal is what a renewal costs here, without the bus, from the event that asks for it to the agent's last
// report, in batches as under load: processor time of this process and of the Postgres that serves it, and write-ahead
// log. What agents do, and the events themselves, are not counted.
func BenchmarkRenewal(b *testing.B) {
	const batch = 200
	w := newWorld(b)
	hosts := map[string]host{}
	for i := range batch {
		agent := fmt.Sprint("agent-", i%50)
		if _, there := hosts[agent]; !there {
			hosts[agent] = w.host(agent)
		}
		w.target(fmt.Sprint("tgt-", i), hosts[agent])
	}
	m := meter{world: w, b: b, backend: one[int](w, `SELECT pg_backend_pid()`)}
	rounds := 0
	for b.Loop() {
		b.StopTimer()
		rounds++
		w.clock.Advance(time.Second)
		requests, renewals := renewals(rounds, batch)
		m.count(func() { w.hear(requests...) })
		reports := w.answers(hosts, command.OutcomeCSR)
		m.count(func() { w.told(reports...) })
		m.count(func() { w.hear(renewals...) })
		reports = w.answers(hosts, command.OutcomeCompleted)
		m.count(func() { w.told(reports...) })
		b.StartTimer()
	}
	if got := one[int](w, `SELECT count(*) FROM jobs WHERE status = 'Completed'`); got != rounds*batch {
		b.Errorf("%d of %d are done", got, rounds*batch)
	}
	m.report(rounds * batch)
}

// renewals are the events of a round: those that ask for certificates and keys, and those that bring certificates.
func renewals(round, batch int) (requests, renewed []bus.Message) {
	chain := strings.Repeat("-----BEGIN CERTIFICATE-----\n"+strings.Repeat(strings.Repeat("MIIB", 16)+"\n", 19)+"-----END CERTIFICATE-----\n", 2)
	revision := int64(2 * round)
	for i := range batch {
		agent, target := fmt.Sprint("agent-", i%50), fmt.Sprint("tgt-", i)
		key := keyRequested(fmt.Sprintf("job-i-%d-%d", round, i), 1, agent)
		key.CertificateID = fmt.Sprintf("mc-%d-%d", round%5, i)
		e := issued(key.CertificateID, fmt.Sprintf("cv-%d-%d", round, i), round, target)
		e.PEMChain, e.KeyAgentID, e.FingerprintSHA256 = chain, agent, strings.Repeat("0123456789abcdef", 4)
		requests = append(requests, message(event.CertificateRequested{
			CertificateID: key.CertificateID, JobID: key.JobID, CommonName: e.CommonName, IssuerID: e.IssuerID, TeamID: "t-1",
			Environment: "production", TargetIDs: e.TargetIDs, Renewal: true,
		}, revision), message(key, revision))
		renewed = append(renewed, message(event.CertificateRenewed{CertificateIssued: e}, revision+1))
	}
	return requests, renewed
}

// answers are the reports of hosts on all orders in the outbox, which is empty then.
func (w *world) answers(hosts map[string]host, outcome string) []bus.Message {
	w.Helper()
	var reports []bus.Message
	for _, o := range w.orders() {
		h := hosts[o.command.AgentID]
		reports = append(reports, h.signed(subject.AgentReport("site-local", h.id, subject.KindDeploy, o.command.JobID), command.AgentReport{
			JobID: o.command.JobID, Attempt: o.command.Attempt, AgentID: h.id, Verb: o.command.Verb, Outcome: outcome, At: start,
			CSRPEM: strings.Repeat("x", 600),
		}))
	}
	w.exec(`DELETE FROM outbox`)
	w.exec(`DELETE FROM outbox_queue`)
	return reports
}

// meter adds up what is counted.
type meter struct {
	*world
	b       *testing.B
	backend int
	spent   [3]int64
}

func (m *meter) count(do func()) {
	m.Helper()
	if m.backend != one[int](m.world, `SELECT pg_backend_pid()`) {
		m.b.Fatal("Postgres is served by another process")
	}
	before := m.read()
	m.b.StartTimer()
	do()
	m.b.StopTimer()
	for i, after := range m.read() {
		m.spent[i] += after - before[i]
	}
}

// read tells the nanoseconds of this process and of Postgres', of which there are none if it is not on this host, and
// the bytes of the log.
func (m *meter) read() (now [3]int64) {
	log := one[int64](m.world, `SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint`)
	var own syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &own); err != nil {
		m.b.Fatal(err)
	}
	var postgres int64
	if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", m.backend)); err == nil {
		if _, err := fmt.Sscan(string(text), &postgres); err != nil {
			m.b.Fatal(err)
		}
	}
	return [3]int64{own.Utime.Nano() + own.Stime.Nano(), postgres, log}
}

func (m *meter) report(n int) {
	for i, unit := range []string{"go-us/renewal", "postgres-us/renewal", "log-KB/renewal"} {
		m.b.ReportMetric(float64(m.spent[i])/1000/float64(n), unit)
	}
}
