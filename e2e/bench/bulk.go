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

// measureBulk renews many certificates at once, each of which has a target. The agents answer first over the account of the
// edge, so that the platform alone is measured: with a request when they are asked for one, while installations wait until the
// last certificate is renewed; then with everything, up to the report that it is served, until the last certificate is Active
// again. A fleet as large then does the same through the leaf of the installation, which works on the same processors.
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
	if err := until(ctx, f, in.allActive(ctx, f, n, int64(n))); err != nil {
		return err
	}
	b.add(result{
		Measure: "bulk", Case: fmt.Sprintf("first issue of %d with a target each, %d agents %s", n, fleetSize, behind), Rate: float64(n) / time.Since(begun).Seconds(),
	})
	if s != nil {
		if err := in.reissueAll(ctx, b, f, s, n); err != nil {
			return err
		}
	}
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

// reissueAll measures the renewal of all up to the order to install: until the last has been told of, and its order is
// given. The installations are caught up on afterwards.
func (in *installation) reissueAll(ctx context.Context, b *bench, f *fleet, s *edgeSite, n int) error {
	s.wait()
	installed := f.deployed.Load() + int64(n)
	err := in.renew(ctx, b, f, n, fmt.Sprintf("renewal of %d, from one request to the last renewed and ordered to be installed, %d agents over EDGE", n, fleetSize),
		func() (bool, error) { return f.ordered.Load() == int64(n), nil })
	if err != nil {
		return err
	}
	if err := s.install(ctx, f); err != nil {
		return err
	}
	return until(ctx, f, in.allActive(ctx, f, n, installed))
}

// renewAll measures the renewal of all until the last is served and Active, all of whose events have been told by then.
func (in *installation) renewAll(ctx context.Context, b *bench, f *fleet, n int, behind string) error {
	return in.renew(ctx, b, f, n, fmt.Sprintf("renewal of %d, from one request to all served and Active, %d agents %s", n, fleetSize, behind),
		in.allActive(ctx, f, n, f.deployed.Load()+int64(n)))
}

// renew measures the renewal of all until it is done.
func (in *installation) renew(ctx context.Context, b *bench, f *fleet, n int, name string, done func() (bool, error)) error {
	if err := f.prepare(n); err != nil {
		return err
	}
	before := in.settle(ctx)
	begun := time.Now()
	if err := in.call(ctx, "POST", "/api/v1/certificates/bulk/renew", map[string]any{"filter": map[string]any{"status": "Active"}}, nil); err != nil {
		return err
	}
	if err := until(ctx, f, done); err != nil {
		return err
	}
	took := time.Since(begun)
	cpu := in.settle(ctx) - before
	b.add(result{
		Measure: "bulk", Case: name, Rate: float64(n) / took.Seconds(), CPU: cpu.Seconds() * 1000 / float64(n),
		Note: fmt.Sprintf("%.1f s, %.0f MiB then", took.Seconds(), in.memory()),
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

// allActive tells whether so many installations have been made in all, and all certificates are Active.
func (in *installation) allActive(ctx context.Context, f *fleet, n int, installations int64) func() (bool, error) {
	return func() (bool, error) {
		if f.deployed.Load() < installations {
			return false, nil
		}
		var active struct{ Total int }
		err := in.call(ctx, "GET", "/api/v1/certificates?status=Active&per_page=1", nil, &active)
		return active.Total == n, err
	}
}

// until waits until something is done, for ten minutes at most.
func until(ctx context.Context, f *fleet, done func() (bool, error)) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Minute); time.Now().Before(deadline); {
		if err := f.failed.Load(); err != nil {
			return *err
		}
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return fmt.Errorf("after ten minutes %d are installed", f.deployed.Load())
}
