package survival

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	targetsPerAgent = 10
	renewals        = 2
	ownKeyed        = 140 // and 2 x 10 x (1 + 2) keyed by agents make 200 issuances
	clients         = 8
)

// TestStorm_LosesNothingAndDoesNothingTwice kills one process after the other, at random
// moments, while 200 certificates are issued, and then looks at everything that was
// acknowledged. The seed is printed; CERTCTL_SURVIVAL_SEED repeats it.
func TestStorm_LosesNothingAndDoesNothingTwice(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("CERTCTL_SURVIVAL_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("seed %d", seed)
	w := newWorld(t, targetsPerAgent)

	ctx, stop := context.WithTimeout(t.Context(), 4*time.Minute)
	defer stop()
	var storm errgroup.Group
	calm, blow := context.WithCancel(ctx)
	kills := map[string]int{}
	storm.Go(func() error { return w.storm(calm, rand.New(rand.NewPCG(seed, 0)), kills) })
	issued := w.issue(ctx)
	blow()
	if err := storm.Wait(); err != nil {
		t.Fatal(err)
	}
	t.Logf("kills: %v", kills)
	w.check(issued)
}

// storm kills and restarts until ctx ends; then everything runs.
func (w *world) storm(ctx context.Context, random *rand.Rand, kills map[string]int) error {
	victims := []string{"certctl", "postgres", "issuer", "leaf", "agent-0", "agent-1"}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Duration(300+random.IntN(2200)) * time.Millisecond):
		}
		victim := victims[random.IntN(len(victims))]
		kills[victim]++
		if victim == "postgres" {
			// certctl restarts it by itself.
			if pid, err := postmaster(w.dataDir); err == nil {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
			continue
		}
		p := map[string]*process{
			"certctl": w.certctl, "issuer": w.issuer, "leaf": w.leaf, "agent-0": w.agents[0], "agent-1": w.agents[1],
		}[victim]
		p.kill(syscall.SIGKILL)
		// Whatever else happens meanwhile, it happens without the victim.
		<-time.After(time.Duration(random.IntN(700)) * time.Millisecond)
		p.start()
	}
}

// acknowledged is what certctl has promised: certificates, and how many versions of each
// at the least.
type acknowledged struct {
	own      []string
	targeted map[string]target // by certificate
	renewed  map[string]*atomic.Int32
}

// issue asks for 200 certificates, insisting on an answer to each.
func (w *world) issue(ctx context.Context) acknowledged {
	w.t.Helper()
	out := acknowledged{targeted: map[string]target{}, renewed: map[string]*atomic.Int32{}}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(clients + len(w.targets))
	for _, target := range w.targets {
		id := "mc-" + target.id
		out.targeted[id], out.renewed[id] = target, new(atomic.Int32)
		g.Go(func() error { return w.live(ctx, id, target, out.renewed[id]) })
	}
	for i := range ownKeyed {
		id := fmt.Sprintf("mc-own-%d", i)
		name := id + ".survival.test"
		request := csr(w.t, name)
		out.own = append(out.own, id)
		g.Go(func() error {
			err := w.api.insist(ctx, http.MethodPost, "/api/v1/certificates", map[string]any{
				"id": id, "common_name": name, "sans": []string{name}, "csr_pem": request,
			}, nil)
			return unlessThere(err)
		})
	}
	if err := g.Wait(); err != nil {
		w.t.Fatalf("issue: %v", err)
	}
	return out
}

// live is the life of a certificate whose key an agent makes: requested, then renewed.
func (w *world) live(ctx context.Context, id string, to target, renewed *atomic.Int32) error {
	err := w.api.insist(ctx, http.MethodPost, "/api/v1/certificates", map[string]any{
		"id": id, "common_name": to.id + ".survival.test", "target_ids": []string{to.id},
	}, nil)
	if err := unlessThere(err); err != nil {
		return err
	}
	for range renewals {
		if err := w.active(ctx, id); err != nil {
			return err
		}
		// A renewal that is under way already is the one whose answer was lost.
		if err := unlessThere(w.api.insist(ctx, http.MethodPost, "/api/v1/certificates/"+id+"/renew", map[string]any{}, nil)); err != nil {
			return fmt.Errorf("renew %s: %w", id, err)
		}
		renewed.Add(1)
	}
	return nil
}

// unlessThere takes a conflict for success: the call before was carried out and its
// answer lost.
func unlessThere(err error) error {
	if refusal, ok := errors.AsType[*statusError](err); ok && refusal.status == http.StatusConflict {
		return nil
	}
	return err
}

// active waits until a certificate is Active.
func (w *world) active(ctx context.Context, id string) error {
	for {
		var c certificate
		if err := w.api.insist(ctx, http.MethodGet, "/api/v1/certificates/"+id, nil, &c); err != nil {
			return err
		}
		switch c.Status {
		case "Active":
			return nil
		case "Failed":
			return fmt.Errorf("%s failed: %s", id, c.StatusReason)
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%s is %s: %s", id, c.Status, c.StatusReason)
		}
	}
}

// check looks at everything once nothing is killed any more.
func (w *world) check(issued acknowledged) {
	w.t.Helper()
	eventually(w.t, 2*time.Minute, "every certificate Active and every job ended", func(ctx context.Context) error {
		return w.settled(ctx, issued)
	})
	versions := w.checkVersions(issued)
	for id, target := range issued.targeted {
		var c certificate
		if err := w.api.call(w.t.Context(), http.MethodGet, "/api/v1/certificates/"+id, nil, &c); err != nil {
			w.t.Fatal(err)
		}
		if got, err := served(w.t.Context(), target.address); err != nil || got != c.Fingerprint {
			w.t.Errorf("%s: its target serves %s (%v), the record says %s", id, got, err, c.Fingerprint)
		}
	}
	w.checkEvents(versions)
	if err := w.admin(w.t.Context(), "audit", "verify"); err != nil {
		w.t.Error(err)
	}
}

func (w *world) settled(ctx context.Context, issued acknowledged) error {
	certs, err := all[certificate](ctx, w.api, "/api/v1/certificates", url.Values{})
	if err != nil {
		return err
	}
	if want := len(issued.own) + len(issued.targeted); len(certs) != want {
		return fmt.Errorf("there are %d certificates of %d acknowledged", len(certs), want)
	}
	for _, c := range certs {
		if c.Status != "Active" {
			return fmt.Errorf("%s is %s: %s", c.ID, c.Status, c.StatusReason)
		}
	}
	jobs, err := all[job](ctx, w.api, "/api/v1/jobs", url.Values{})
	if err != nil {
		return err
	}
	for _, j := range jobs {
		if j.Status != "Completed" && j.Status != "Cancelled" {
			return fmt.Errorf("job %s (%s of %s) is %s: %s", j.ID, j.Type, j.CertificateID, j.Status, j.LastError)
		}
	}
	return nil
}

// checkVersions holds versions against jobs: each job of issuance or renewal that was
// completed made one, and nothing else did.
func (w *world) checkVersions(issued acknowledged) map[string]version {
	w.t.Helper()
	jobs, err := all[job](w.t.Context(), w.api, "/api/v1/jobs", url.Values{})
	if err != nil {
		w.t.Fatal(err)
	}
	made := map[string]int{}
	for _, j := range jobs {
		if (j.Type == "Issuance" || j.Type == "Renewal") && j.Status == "Completed" {
			made[j.CertificateID]++
		}
	}
	versions := map[string]version{}
	for _, id := range append(issued.own, slices.Collect(maps.Keys(issued.targeted))...) {
		list, err := all[version](w.t.Context(), w.api, "/api/v1/certificates/"+id+"/versions", url.Values{})
		if err != nil {
			w.t.Fatal(err)
		}
		want := 1
		if renewed := issued.renewed[id]; renewed != nil {
			want += int(renewed.Load())
		}
		if len(list) != want || made[id] != want {
			w.t.Errorf("%s has %d versions made by %d jobs, %d were acknowledged", id, len(list), made[id], want)
		}
		for _, v := range list {
			versions[v.ID] = v
		}
	}
	return versions
}

// checkEvents tells whether the others heard of each version exactly once: the audit
// trail has one event of it, and the revocation service knows its serial number.
func (w *world) checkEvents(versions map[string]version) {
	w.t.Helper()
	eventually(w.t, time.Minute, "one audit event a version", func(ctx context.Context) error {
		heard := map[string]int{}
		for _, action := range []string{"certificate_issued", "renewal_job_completed"} {
			events, err := all[auditEvent](ctx, w.api, "/api/v1/audit", url.Values{"action": {action}})
			if err != nil {
				return err
			}
			for _, e := range events {
				id, _ := e.Details["version_id"].(string)
				heard[id]++
			}
		}
		for id := range versions {
			if heard[id] != 1 {
				return fmt.Errorf("version %s is on record %d times", id, heard[id])
			}
		}
		if len(heard) != len(versions) {
			return fmt.Errorf("%d versions are on record, %d exist", len(heard), len(versions))
		}
		return nil
	})
	for _, v := range versions {
		eventually(w.t, time.Minute, "OCSP knows "+v.Serial, func(ctx context.Context) error {
			var der []byte
			if err := w.api.call(ctx, http.MethodGet, "/api/v1/ocsp/iss-local/"+v.Serial, nil, &der); err != nil {
				return err
			}
			return good(der)
		})
	}
}
