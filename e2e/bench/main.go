// Command bench measures certctl as its users feel it: real processes on loopback, the
// load made by this program, and step-ca beside it in the same run where it can be had.
//
//	go run ./e2e/bench [-only NAME] [-quick] [-json FILE]
//
// CPU per operation counts certctl, its Postgres and the NATS inside it, from the first
// request until nothing is left to do, and leaves the load generator out. Rates are of
// the whole machine, on which the load generator runs as well; the CPU figure travels
// better. It needs the binaries of make build.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// measure is one thing that is measured.
type measure struct {
	name string
	run  func(ctx context.Context, b *bench) error
}

func measures() []measure {
	return []measure{
		{"start", measureStart},
		{"issue", measureIssue},
		{"stepca", measureStepCA},
		{"renew", measureRenew},
		{"served", measureServed},
		{"bulk", measureBulk},
		{"read", measureRead},
	}
}

// bench is one run.
type bench struct {
	bin     string // where the binaries are
	dir     string
	quick   bool
	results []result
}

// result is one figure.
type result struct {
	Measure string `json:"measure"`
	Case    string `json:"case"`
	// Rate is operations a second, CPU is milliseconds of processor time an operation,
	// both zero where they say nothing.
	Rate float64       `json:"rate,omitempty"`
	CPU  float64       `json:"cpu_ms,omitempty"`
	P50  time.Duration `json:"p50_ns,omitempty"`
	P99  time.Duration `json:"p99_ns,omitempty"`
	Note string        `json:"note,omitempty"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	only := flag.String("only", "", "measure only these, separated by commas: "+strings.Join(names(), ", "))
	quick := flag.Bool("quick", false, "fewer operations: about a minute in all")
	file := flag.String("json", "", "write the figures to this file too")
	bin := flag.String("bin", "dist", "folder of the binaries")
	flag.Parse()
	dir, err := os.MkdirTemp("", "certctl-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	// The private Postgres may run as another user, who must get through.
	if err := os.Chmod(dir, 0o711); err != nil {
		return err
	}
	b := &bench{dir: dir, quick: *quick}
	if b.bin, err = filepath.Abs(*bin); err != nil {
		return err
	}
	facts := machine(ctx)
	fmt.Println(facts)
	wanted := strings.FieldsFunc(*only, func(r rune) bool { return r == ',' })
	for _, m := range measures() {
		if len(wanted) > 0 && !slices.Contains(wanted, m.name) {
			continue
		}
		fmt.Fprintf(os.Stderr, "measuring %s ...\n", m.name)
		if err := m.run(ctx, b); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	printTable(os.Stdout, b.results)
	if *file == "" {
		return nil
	}
	text, err := json.MarshalIndent(map[string]any{"machine": facts, "results": b.results}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(*file, append(text, '\n'), 0o644)
}

func names() []string {
	var all []string
	for _, m := range measures() {
		all = append(all, m.name)
	}
	return all
}

func (b *bench) add(r result) { b.results = append(b.results, r) }

// many is a number of operations, a tenth of it in a quick run.
func (b *bench) many(n int) int {
	if b.quick {
		return max(1, n/10)
	}
	return n
}
