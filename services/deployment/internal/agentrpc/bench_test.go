package agentrpc_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/testkit/pgtest"
)

// BenchmarkHeartbeats is the cost of 10,000 agents that report once, from 20 sites.
func BenchmarkHeartbeats(b *testing.B) {
	const sites, each = 20, 500
	o := open(b)
	fill := []string{
		`INSERT INTO sites (id, name) SELECT 'site-' || s, 'site ' || s FROM generate_series(1, 20) s`,
		`INSERT INTO agents (id, site_id, public_key, hostname, status, last_heartbeat_at, registered_at)
			SELECT 'agent-' || s || '-' || a, 'site-' || s, 'U' || s || '-' || a, 'host', 'Online', now() - interval '1 minute', now()
			FROM generate_series(1, 20) s, generate_series(1, 500) a`,
		`ANALYZE agents`,
	}
	admin := pgtest.Admin(b, o.db)
	for _, sql := range fill {
		if _, err := admin.Exec(b.Context(), sql); err != nil {
			b.Fatal(err)
		}
	}
	bundles := make([][]byte, sites)
	for s := range sites {
		var bundle command.Heartbeats
		for a := range each {
			bundle.Heartbeats = append(bundle.Heartbeats, command.Heartbeat{
				AgentID: fmt.Sprintf("agent-%d-%d", s+1, a+1), Hostname: "host", OS: "linux", Architecture: "amd64", IPAddress: "192.0.2.7", Version: "1.0.0",
			})
		}
		text, err := json.Marshal(bundle)
		if err != nil {
			b.Fatal(err)
		}
		bundles[s] = text
	}
	before := cpu(o)
	for b.Loop() {
		o.clock.Advance(time.Minute)
		for s, text := range bundles {
			on := subject.AgentRequest(fmt.Sprintf("site-%d", s+1), subject.AgentSite, command.VerbHeartbeats)
			if _, err := ask[struct{}](o, on, text); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.StopTimer()
	b.ReportMetric((cpu(o)-before)/float64(b.N*sites*each), "cpu-us/agent")
	if n := count(o, `SELECT count(*) FROM agents WHERE last_heartbeat_at = $1`, o.clock.Now()); n != sites*each {
		b.Errorf("%d agents were noted, want %d", n, sites*each)
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*sites*each), "us/agent")
}

// cpu is what this process and the database's backends for it have used, in
// microseconds.
func cpu(o *office) float64 {
	o.Helper()
	var own syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &own); err != nil {
		o.Fatal(err)
	}
	total := float64(own.Utime.Nano()+own.Stime.Nano()) / 1e3
	rows, err := o.db.Query(o.Context(), `SELECT pid FROM pg_stat_activity WHERE datname = current_database()`)
	if err != nil {
		o.Fatal(err)
	}
	pids, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		o.Fatal(err)
	}
	for _, pid := range pids {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		// The command's name, in brackets, may hold blanks; times are in hundredths of a second.
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		for _, f := range fields[11:13] {
			ticks, err := strconv.ParseFloat(f, 64)
			if err != nil {
				o.Fatal(err)
			}
			total += ticks * 1e4
		}
	}
	return total
}
