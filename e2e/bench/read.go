package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

func measureRead(ctx context.Context, b *bench) error {
	in, err := b.up(ctx, "read")
	if err != nil {
		return err
	}
	defer in.stop()
	if err := in.inventory(ctx, b.many(fullCertificates), b.many(fullJobs), b.many(fullAudit)); err != nil {
		return err
	}
	if err := b.verifyAudit(ctx, in); err != nil {
		return err
	}
	depth := b.many(fullCertificates) * 9 / 10
	deep, err := in.deepCursor(ctx, depth)
	if err != nil {
		return err
	}
	rows := b.many(fullCertificates)
	certificates := func(query string) func(int) string {
		return func(int) string { return "/api/v1/certificates?per_page=50&" + query }
	}
	fixed := func(path string) func(int) string { return func(int) string { return path } }
	for _, c := range []struct {
		name string
		path func(int) string
		n    int
	}{
		{"get one certificate", func(i int) string { return fmt.Sprintf("/api/v1/certificates/mc-row-%07d", 1+i*7919%rows) }, 20000},
		{"list 50 by -notAfter", certificates("sort=-notAfter"), 10000},
		{fmt.Sprintf("the same behind %d rows, by cursor", depth), certificates("sort=-notAfter&cursor=" + url.QueryEscape(deep)), 10000},
		{"list 50 Expiring by notAfter", certificates("status=Expiring&sort=notAfter"), 5000},
		{"list 50 Failed", certificates("status=Failed"), 5000},
		{"list 50 of a team", certificates("team_id=t-bench-7"), 5000},
		{"search: owner, name and expiry", certificates("q=" + url.QueryEscape(`owner_id == "o-bench-7" && expires_at < now() + duration("720h")`)), 5000},
		{"search: a tag", certificates("q=" + url.QueryEscape(`tags["tier"] == "3" && status == "Failed"`)), 2000},
		{"dashboard summary", fixed("/api/v1/stats/summary"), 10000},
		{"certificates by status", fixed("/api/v1/stats/certificates-by-status"), 10000},
		{"expiration timeline, 90 days", fixed("/api/v1/stats/expiration-timeline?days=90"), 5000},
		{"job trends, 30 days", fixed("/api/v1/stats/job-trends?days=30"), 5000},
		{"list 50 jobs", fixed("/api/v1/jobs?per_page=50"), 5000},
		{"list 50 Failed jobs", fixed("/api/v1/jobs?per_page=50&status=Failed"), 5000},
		{"list 50 audit events", fixed("/api/v1/audit?per_page=50"), 5000},
		{"list 50 audit events of an actor", fixed("/api/v1/audit?per_page=50&actor=key-bench-7"), 5000},
	} {
		before := in.settle(ctx)
		times, took, err := load(ctx, 8, b.many(c.n), func(ctx context.Context, i int) error {
			return in.call(ctx, "GET", c.path(i), nil, nil)
		})
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		b.add(figure("read", c.name, times, took, in.settle(ctx)-before))
	}
	return nil
}

// verifyAudit has the whole chain checked by the operator's tool.
func (b *bench) verifyAudit(ctx context.Context, in *installation) error {
	cmd := exec.CommandContext(ctx, filepath.Join(b.bin, "certctl"), "admin", "audit", "verify")
	cmd.Env = append(os.Environ(), "CERTCTL_DATA_DIR="+in.dataDir)
	begun := time.Now()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("verify the audit chain: %w: %s", err, out)
	}
	took := time.Since(begun)
	b.add(result{
		Measure: "read", Case: "verify the audit chain, one event", Rate: float64(b.many(fullAudit)) / took.Seconds(),
		Note: strings.TrimSpace(string(out)),
	})
	return nil
}

// deepCursor walks into the list, as many rows as that.
func (in *installation) deepCursor(ctx context.Context, depth int) (string, error) {
	cursor := ""
	for range depth / 500 {
		var page struct {
			NextCursor string `json:"next_cursor"`
		}
		path := "/api/v1/certificates?per_page=500&sort=-notAfter"
		if cursor != "" {
			path += "&cursor=" + url.QueryEscape(cursor)
		}
		if err := in.call(ctx, "GET", path, nil, &page); err != nil {
			return "", err
		}
		cursor = page.NextCursor
	}
	return cursor, nil
}

func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

func marshalKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return pemOf("PRIVATE KEY", der), err
}
