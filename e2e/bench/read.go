package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	"github.com/jackc/pgx/v5"
)

const rows = 100_000

// fill puts certificates into the issuer's tables, as many as an inventory holds.
const fill = `
INSERT INTO issuer.certificates (id, name, common_name, sans, environment, owner_id, team_id, issuer_id, renewal_policy_id, status, tags,
                                 expires_at, serial_number, fingerprint_sha256, created_at, updated_at)
SELECT 'mc-row-' || lpad(i::text, 7, '0'), 'host-' || i, 'host-' || i || '.bench.test', ARRAY['host-' || i || '.bench.test'],
       (ARRAY['production', 'staging', 'test'])[1 + i % 3], 'o-default', 't-default', 'iss-local', 'rp-default', 'Active', '{}',
       now() + (i % 90) * interval '1 day', md5(i::text), md5(i::text) || md5((i + 1)::text),
       now() - (i % 1000) * interval '1 hour', now()
FROM generate_series(1, $1) AS i`

func measureRead(ctx context.Context, b *bench) error {
	in, err := b.up(ctx, "read")
	if err != nil {
		return err
	}
	defer in.stop()
	if err := in.fill(ctx); err != nil {
		return err
	}
	deep, err := in.deepCursor(ctx)
	if err != nil {
		return err
	}
	const list = "/api/v1/certificates?per_page=50"
	for _, c := range []struct {
		name string
		path func(int) string
		n    int
	}{
		{"get one certificate of 100,000, 8 clients", func(i int) string { return fmt.Sprintf("/api/v1/certificates/mc-row-%07d", 1+i*7919%rows) }, 20000},
		{"list 50 by -notAfter of 100,000, 8 clients", func(int) string { return list + "&sort=-notAfter" }, 5000},
		{"the same behind 10,000 rows, by cursor", func(int) string { return list + "&sort=-notAfter&cursor=" + url.QueryEscape(deep) }, 5000},
	} {
		before := in.settle(ctx)
		times, took, err := load(ctx, 8, b.many(c.n), func(ctx context.Context, i int) error {
			return in.call(ctx, "GET", c.path(i), nil, nil)
		})
		if err != nil {
			return err
		}
		b.add(figure("read", c.name, times, took, in.settle(ctx)-before))
	}
	return nil
}

func (in *installation) fill(ctx context.Context) error {
	text, err := os.ReadFile(filepath.Join(in.dataDir, "running.json"))
	if err != nil {
		return err
	}
	var running struct {
		DatabaseURL string `json:"database_url"`
	}
	if err := json.Unmarshal(text, &running); err != nil {
		return err
	}
	config, err := pgx.ParseConfig(running.DatabaseURL)
	if err != nil {
		return err
	}
	config.Database = "certctl"
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, fill, rows); err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "VACUUM ANALYZE issuer.certificates")
	return err
}

// deepCursor walks 10,000 rows into the list.
func (in *installation) deepCursor(ctx context.Context) (string, error) {
	cursor := ""
	for range 20 {
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
