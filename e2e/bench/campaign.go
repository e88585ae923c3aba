package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"
)

// fullCampaign is how many certificates a campaign re-issues in a full run.
const fullCampaign = 100_000

// campaignAnswer is what of a campaign is looked at.
type campaignAnswer struct {
	ID, Status string
	Counts     struct{ Total, Done, Failed, Skipped int }
}

// measureCampaign moves certificates whose keys are their requesters' to another Local CA: how long it takes to plan and to
// make the campaign, how many are re-issued a second, and how long the report takes.
func measureCampaign(ctx context.Context, b *bench) error {
	in, err := b.up(ctx, "campaign")
	if err != nil {
		return err
	}
	defer in.stop()
	n := b.many(fullCampaign)
	if err := in.keyHeld(ctx, n); err != nil {
		return err
	}
	if err := in.call(ctx, "POST", "/api/v1/issuers", map[string]any{"id": "iss-next", "name": "Next", "type": "GenericCA", "enabled": true}, nil); err != nil {
		return err
	}
	body := map[string]any{
		"name": "bench", "selection": map[string]any{"issuer_id": "iss-local"}, "to_issuer_id": "iss-next", "reuse_csr": true,
		"wave_size": n / 4, "in_flight": 2000, "dry_run": true,
	}
	in.settle(ctx)
	idle := in.memory()
	begun := time.Now()
	var plan struct {
		WouldIssue int `json:"would_issue"`
	}
	if err := in.call(ctx, "POST", "/api/v1/campaigns", body, &plan); err != nil {
		return err
	}
	if plan.WouldIssue != n {
		return fmt.Errorf("the plan has %d of %d certificates", plan.WouldIssue, n)
	}
	b.add(result{Measure: "campaign", Case: fmt.Sprintf("plan, %d certificates", n), P50: time.Since(begun)})
	body["dry_run"] = false
	begun = time.Now()
	var c campaignAnswer
	if err := in.call(ctx, "POST", "/api/v1/campaigns", body, &c); err != nil {
		return err
	}
	b.add(result{Measure: "campaign", Case: fmt.Sprintf("made, %d items", n), P50: time.Since(begun)})
	if err := in.campaign(ctx, b, c.ID, idle); err != nil {
		return err
	}
	return in.campaignReports(ctx, b, c.ID, n)
}

// campaign runs a campaign to its end, and asks how far it is all the while.
func (in *installation) campaign(ctx context.Context, b *bench, id string, idle float64) error {
	before, begun := in.cpu(), time.Now()
	var c campaignAnswer
	if err := in.call(ctx, "POST", "/api/v1/campaigns/"+id+"/start", map[string]any{}, &c); err != nil {
		return err
	}
	var looks []time.Duration
	peak := idle
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for c.Status != "Completed" {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		looked := time.Now()
		if err := in.call(ctx, "GET", "/api/v1/campaigns/"+id, nil, &c); err != nil {
			return err
		}
		looks = append(looks, time.Since(looked))
		peak = max(peak, in.memory())
		if c.Status == "Stopped" || c.Counts.Failed > 0 {
			return fmt.Errorf("the campaign goes wrong: %+v", c)
		}
	}
	took := time.Since(begun)
	if c.Counts.Done != c.Counts.Total {
		return fmt.Errorf("not all are re-issued: %+v", c.Counts)
	}
	cpu := in.settle(ctx) - before
	b.add(result{
		Measure: "campaign", Case: fmt.Sprintf("%d re-issued by a Local CA, in 5 waves", c.Counts.Done),
		Rate: float64(c.Counts.Done) / took.Seconds(), CPU: cpu.Seconds() * 1000 / float64(c.Counts.Done),
		Note: fmt.Sprintf("in %.0f s; memory %.0f MiB idle, %.0f MiB at most, Postgres apart", took.Seconds(), idle, peak),
	})
	times := sorted(looks)
	b.add(result{Measure: "campaign", Case: "how far it is, while it runs", P50: percentile(times, 0.5), P99: percentile(times, 0.99)})
	return nil
}

func (in *installation) campaignReports(ctx context.Context, b *bench, id string, n int) error {
	for _, format := range []string{"json", "csv"} {
		begun := time.Now()
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, in.url+"/api/v1/campaigns/"+id+"/report?format="+format, http.NoBody)
		if err != nil {
			return err
		}
		r.Header.Set("Authorization", "Bearer "+in.key)
		res, err := (&http.Client{Timeout: 5 * time.Minute}).Do(r)
		if err != nil {
			return err
		}
		size, err := drain(res)
		if err != nil {
			return fmt.Errorf("report as %s: %w", format, err)
		}
		b.add(result{
			Measure: "campaign", Case: fmt.Sprintf("report as %s, %d items", format, n), P50: time.Since(begun),
			Note: fmt.Sprintf("%.1f MB; memory %.0f MiB after it", float64(size)/1e6, in.memory()),
		})
	}
	return nil
}

// drain reads an answer to its end and returns its size.
func drain(res *http.Response) (int64, error) {
	defer res.Body.Close()
	size, err := io.Copy(io.Discard, res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("HTTP %d", res.StatusCode)
	}
	return size, err
}

// keyHeld puts certificates into the issuer's tables, each with a version and the request that it was made from, which are
// real. They share a key, since making keys is not what is measured.
func (in *installation) keyHeld(ctx context.Context, n int) error {
	conn, err := in.database(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, fillKeyHeld, n); err != nil {
		return fmt.Errorf("fill certificates: %w", err)
	}
	now := time.Now()
	columns := []string{
		"id", "certificate_id", "job_id", "issuer_id", "serial_number", "fingerprint_sha256", "spki_sha256", "not_before", "not_after",
		"pem_chain", "csr_pem", "key_algorithm", "key_size", "created_at", "authority_key_id",
	}
	i := 0
	_, err = conn.CopyFrom(ctx, pgx.Identifier{"issuer", "certificate_versions"}, columns, pgx.CopyFromFunc(func() ([]any, error) {
		if i++; i > n {
			return nil, nil
		}
		row := fmt.Sprintf("%07d", i)
		name := "held-" + row + ".bench.test"
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}}, key)
		if err != nil {
			return nil, err
		}
		csr := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
		return []any{
			"cv-held-" + row, "mc-held-" + row, "job-i-held-" + row, "iss-local", "0" + row, "f" + row, "", now, now.Add(80 * 24 * time.Hour),
			"no chain", csr, "ECDSA", 256, now, "aa",
		}, nil
	}))
	if err != nil {
		return fmt.Errorf("fill versions: %w", err)
	}
	_, err = conn.Exec(ctx, "VACUUM ANALYZE issuer.certificates, issuer.jobs, issuer.certificate_versions")
	return err
}

const fillKeyHeld = `WITH row AS (
	SELECT lpad(i::text, 7, '0') AS i, i AS n FROM generate_series(1, $1::int) AS i
), cert AS (
	INSERT INTO issuer.certificates (id, name, common_name, sans, owner_id, team_id, issuer_id, renewal_policy_id, status, version_id, expires_at,
		serial_number, fingerprint_sha256, created_at, updated_at)
	SELECT 'mc-held-' || i, 'held-' || i, 'held-' || i || '.bench.test', ARRAY['held-' || i || '.bench.test'], 'o-default', 't-default', 'iss-local',
		'rp-default', 'Active', 'cv-held-' || i, now() + interval '80 days' + n * interval '1 second', '0' || i, 'f' || i, now(), now() FROM row
)
INSERT INTO issuer.jobs (id, type, certificate_id, status, attempts, requested_by, created_at, started_at, completed_at)
SELECT 'job-i-held-' || i, 'Issuance', 'mc-held-' || i, 'Completed', 1, 'key-bench', now(), now(), now() FROM row`
