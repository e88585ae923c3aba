package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"
)

func printTable(w io.Writer, results []result) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nMEASURE\tCASE\tPER SECOND\tCPU MS EACH\tP50\tP99\tNOTE")
	for _, r := range results {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Measure, r.Case,
			number(r.Rate, "%.0f"), number(r.CPU, "%.2f"), length(r.P50), length(r.P99), r.Note)
	}
	_ = t.Flush()
}

func number(v float64, format string) string {
	if v == 0 {
		return ""
	}
	return fmt.Sprintf(format, v)
}

func length(d time.Duration) string {
	switch {
	case d == 0:
		return ""
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.2f ms", float64(d)/1e6)
	default:
		return fmt.Sprintf("%.0f ms", float64(d)/1e6)
	}
}

// machine tells what the figures were measured on.
func machine(ctx context.Context) string {
	model := "unknown processor"
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(info)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	postgres := "the private Postgres"
	if out, err := exec.CommandContext(ctx, "sh", "-c", "ls -d /usr/lib/postgresql/*/bin/postgres | sort -V | tail -n 1").Output(); err == nil && len(out) > 0 {
		if v, err := exec.CommandContext(ctx, strings.TrimSpace(string(out)), "-V").Output(); err == nil {
			postgres = strings.TrimSpace(string(v))
		}
	}
	return fmt.Sprintf("%d x %s, %s, %s", runtime.NumCPU(), model, runtime.Version(), postgres)
}
