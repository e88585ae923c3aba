package postgres_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/id"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/libs/testkit/pgtest"
	"github.com/certctl/certctl/services/issuer/internal/bulk"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
	"github.com/certctl/certctl/services/issuer/internal/postgres"
)

// batchOf is how many answers of agents, or reports, come in one transaction when much is under way.
const batchOf = 200

// BenchmarkRenewal is what a renewal costs Postgres: as it begins in a bulk operation, as its version is stored, and as
// that is served. Give it thousands (-benchtime 10000x): CPU is counted in hundredths of a second.
func BenchmarkRenewal(b *testing.B) {
	e := newEngine(b)
	n := max(b.N, 20_000)
	e.fill(n)
	admin := pgtest.Admin(b, e.pool)
	for _, sql := range []string{
		`UPDATE issuer.jobs SET status = 'Completed', next_action_at = NULL`,
		`UPDATE issuer.certificates SET status = 'Active', certificate_profile_id = '', tags = '{}'`,
		`ANALYZE issuer.jobs, issuer.certificates`,
	} {
		if _, err := admin.Exec(b.Context(), sql); err != nil {
			b.Fatal(err)
		}
	}
	m := &pgMeter{e: e}
	b.ResetTimer()
	m.measure("begin", func() { e.renewMany(b.N, n) })
	var deployed []issuance.Deployed
	m.measure("store", func() { deployed = e.answerAll(b.N) })
	m.measure("active", func() {
		for at := 0; at < len(deployed); at += batchOf {
			part := deployed[at:min(at+batchOf, len(deployed))]
			if err := pg.InTx(b.Context(), e.pool, func(tx pgx.Tx) error { return postgres.In(tx).Completed(b.Context(), part) }); err != nil {
				b.Fatal(err)
			}
		}
	})
	m.report(b)
	if active := e.count(`SELECT count(*) FROM certificates WHERE status = 'Active' AND last_deployment_at IS NOT NULL`); active != b.N {
		b.Fatalf("%d of %d certificates are served anew", active, b.N)
	}
}

// renewMany renews n of the certificates, here and there.
func (e *engine) renewMany(n, of int) {
	e.t.Helper()
	service := bulkService(e.pool)
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprint("mc-", 1+i*7919%of)
	}
	for at := 0; at < n; at += bulk.MaxIDs {
		_, err := service.Start(e.t.Context(), somebody, issuance.Origin{Actor: "key-1", CorrelationID: "req-1"}, bulk.Request{
			Action: bulk.Renew, Selection: bulk.Selection{IDs: ids[at:min(at+bulk.MaxIDs, n)]},
		})
		if err != nil {
			e.t.Fatal(err)
		}
	}
	for more := true; more; {
		var err error
		if more, err = service.Work(e.t.Context()); err != nil {
			e.t.Fatal(err)
		}
	}
}

// answerAll stores a version for each of n jobs that wait for an agent, and returns how its target would tell of it.
func (e *engine) answerAll(n int) (deployed []issuance.Deployed) {
	e.t.Helper()
	rows, err := e.pool.Query(e.t.Context(), `SELECT id FROM jobs WHERE status = 'AwaitingCSR' ORDER BY md5(id)`)
	if err != nil {
		e.t.Fatal(err)
	}
	jobs, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(jobs) != n {
		e.t.Fatalf("%d of %d jobs wait for an agent, error %v", len(jobs), n, err)
	}
	for at := 0; at < n; at += batchOf {
		part := jobs[at:min(at+batchOf, n)]
		err := pg.InTx(e.t.Context(), e.pool, func(tx pgx.Tx) error {
			found, err := postgres.In(tx).Load(e.t.Context(), part)
			if err != nil {
				return err
			}
			changes := make([]issuance.Change, len(part))
			for i, job := range part {
				w := found[job]
				changes[i] = answered(&w)
				deployed = append(deployed, issuance.Deployed{
					CertificateID: w.CertificateID, VersionID: changes[i].Version.ID, TargetID: w.Targets[0].ID, At: time.Now(),
					Fact: issuance.Activation(w.CertificateID, changes[i].Version.ID, w.Origin, "ev-1", time.Now()),
				})
			}
			_, err = postgres.In(tx).Apply(e.t.Context(), changes)
			return err
		})
		if err != nil {
			e.t.Fatal(err)
		}
	}
	return deployed
}

// answered is the change of a job whose request was signed, of the size that this has.
func answered(w *issuance.Work) issuance.Change {
	now, line := time.Now(), strings.Repeat("MIIB0TCC", 8)+"\n"
	v := &issuance.Version{
		ID: id.New("cv-"), IssuerID: "iss-local", SerialNumber: w.ID, Fingerprint: strings.Repeat(w.ID, 2), SPKI: strings.Repeat(w.ID, 2),
		NotBefore: now, NotAfter: now.Add(90 * day), PEMChain: strings.Repeat(line, 28), KeyAlgorithm: "ECDSA", KeySize: 256, CreatedAt: now,
		AuthorityKeyID: strings.Repeat("ab", 20),
	}
	return issuance.Change{
		JobID: w.ID, Token: w.Token, Status: issuance.JobCompleted, Attempts: 1, AgentID: w.AgentID, CSRPEM: strings.Repeat(line, 9), At: now,
		Reason: "issued; waits to be installed on its targets", Version: v, Renewal: true,
		Fact: &issuance.Fact{Origin: w.Origin, At: now, CausationID: "ev-1", Event: event.CertificateRenewed{CertificateIssued: event.CertificateIssued{
			CertificateID: w.CertificateID, JobID: w.ID, IssuerID: v.IssuerID, CommonName: w.CommonName, SANs: w.SANs, KeyAgentID: w.AgentID,
			Version: event.Version{VersionID: v.ID, SerialNumber: v.SerialNumber, NotBefore: now, NotAfter: v.NotAfter, PEMChain: v.PEMChain},
		}}},
	}
}

// pgMeter reads what CPU the server's processes use, and what it writes to its log.
type pgMeter struct {
	e       *engine
	metrics []metric
}

type metric struct {
	value float64
	unit  string
}

func (m *pgMeter) measure(name string, do func()) {
	m.e.t.Helper()
	cpu, written := m.read()
	do()
	cpuAfter, writtenAfter := m.read()
	m.metrics = append(m.metrics, metric{float64((cpuAfter - cpu).Microseconds()), name + "-µs"}, metric{float64(writtenAfter-written) / 1024, name + "-KiB"})
}

func (m *pgMeter) report(b *testing.B) {
	for _, of := range m.metrics {
		b.ReportMetric(of.value/float64(b.N), of.unit)
	}
}

func (m *pgMeter) read() (cpu time.Duration, written int64) {
	m.e.t.Helper()
	var backend int
	if err := m.e.pool.QueryRow(m.e.t.Context(), `SELECT pg_backend_pid(), pg_current_wal_insert_lsn() - '0/0'`).Scan(&backend, &written); err != nil {
		m.e.t.Fatal(err)
	}
	processes, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		m.e.t.Fatal(err)
	}
	const tick = 10 * time.Millisecond
	server := stat(fmt.Sprintf("/proc/%d/stat", backend))[1]
	for _, file := range processes {
		if s := stat(file); s != nil && s[1] == server {
			cpu += time.Duration(s[11]+s[12]) * tick
		}
	}
	return cpu, written
}

// stat returns the numbers behind a process' name: [1] the parent, [11] and [12] the CPU time.
func stat(file string) []int {
	text, err := os.ReadFile(file)
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
