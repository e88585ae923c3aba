package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

const (
	fleetSize = 50
	// creators is how many clients make the certificates of a bulk renewal.
	creators = 32
)

// measureBulk renews many certificates at once, each of which has a target: a key request to its agent, the signature, the
// order to install and the report that it is served, until the last certificate is Active again. The agents answer first over
// the account of the edge, so that the platform alone is measured, then a fleet as large through the leaf of the
// installation, which does its work on the same processors.
func measureBulk(ctx context.Context, b *bench) error {
	for _, behind := range []string{"over EDGE", "through the leaf"} {
		if err := b.bulk(ctx, behind); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) bulk(ctx context.Context, behind string) error {
	in, err := b.up(ctx, "bulk-"+strings.ReplaceAll(behind, " ", "-"))
	if err != nil {
		return err
	}
	defer in.stop()
	var s *edgeSite
	if behind == "over EDGE" {
		if s, err = in.edgeSite(ctx); err != nil {
			return err
		}
	}
	f, err := in.enrol(ctx, fleetSize, s)
	if err != nil {
		return err
	}
	if err := in.targets(ctx, f); err != nil {
		return err
	}
	n := b.many(10_000)
	if err := f.prepare(n); err != nil {
		return err
	}
	run := func() (func(), error) { return f.run(ctx, in.leafURL) }
	if s != nil {
		run = func() (func(), error) { return s.serve(ctx, f) }
	}
	stop, err := run()
	if err != nil {
		return err
	}
	defer stop()
	begun := time.Now()
	_, _, err = load(ctx, creators, n, func(ctx context.Context, i int) error {
		return in.call(ctx, "POST", "/api/v1/certificates", map[string]any{
			"id": fmt.Sprintf("mc-bulk-%d", i), "common_name": bulkName(i), "target_ids": []string{targetOf(i)},
		}, nil)
	})
	if err != nil {
		return err
	}
	if err := in.allActive(ctx, f, n, 1); err != nil {
		return err
	}
	b.add(result{
		Measure: "bulk", Case: fmt.Sprintf("first issue of %d with a target each, %d agents %s", n, fleetSize, behind), Rate: float64(n) / time.Since(begun).Seconds(),
	})
	return in.renewAll(ctx, b, f, n, behind)
}

// targets makes a target for each agent.
func (in *installation) targets(ctx context.Context, f *fleet) error {
	for i, a := range f.agents {
		target := map[string]any{
			"id": targetOf(i), "name": fmt.Sprintf("simulated %d", i), "type": "NGINX", "agent_id": a.id,
			"config": map[string]string{"cert_path": "/nowhere/crt", "key_path": "/nowhere/key", "verify_address": "127.0.0.1:1", "server_name": "bulk.bench.test"},
		}
		if err := in.call(ctx, "POST", "/api/v1/targets", target, nil); err != nil {
			return err
		}
	}
	return nil
}

func targetOf(i int) string { return fmt.Sprintf("tgt-%d", i%fleetSize) }

// renewAll measures the renewal of all: until the last new version is stored, and until the last is served and Active, all
// of whose events have been told by then.
func (in *installation) renewAll(ctx context.Context, b *bench, f *fleet, n int, behind string) error {
	if err := f.prepare(n); err != nil {
		return err
	}
	before := in.settle(ctx)
	begun := time.Now()
	if err := in.call(ctx, "POST", "/api/v1/certificates/bulk/renew", map[string]any{"filter": map[string]any{"status": "Active"}}, nil); err != nil {
		return err
	}
	if err := in.allActive(ctx, f, n, 2); err != nil {
		return err
	}
	took := time.Since(begun)
	cpu := in.settle(ctx) - before
	b.add(result{
		Measure: "bulk", Case: fmt.Sprintf("renewal of %d, from one request to all served and Active, %d agents %s", n, fleetSize, behind),
		Rate: float64(n) / took.Seconds(), CPU: cpu.Seconds() * 1000 / float64(n), Note: fmt.Sprintf("%.1f s, %.0f MiB then", took.Seconds(), in.memory()),
	})
	return nil
}

func bulkName(i int) string { return fmt.Sprintf("bulk-%d.bench.test", i) }

// prepare makes a request for each certificate, with a new key.
func (f *fleet) prepare(n int) error {
	csrs := make(map[string]string, n)
	for i := range n {
		csr, err := request(bulkName(i))
		if err != nil {
			return err
		}
		csrs[bulkName(i)] = csr
	}
	f.csrs = csrs
	return nil
}

// allActive waits until all certificates are Active after so many installations of each.
func (in *installation) allActive(ctx context.Context, f *fleet, n, installations int) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Minute); time.Now().Before(deadline); {
		if err := f.failed.Load(); err != nil {
			return *err
		}
		if f.deployed.Load() >= int64(n*installations) {
			var active struct{ Total int }
			if err := in.call(ctx, "GET", "/api/v1/certificates?status=Active&per_page=1", nil, &active); err != nil {
				return err
			}
			if active.Total == n {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return fmt.Errorf("after ten minutes %d of %d are installed", f.deployed.Load(), n*installations)
}
