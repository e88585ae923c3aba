package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const startWithin = 60 * time.Second

// installation is a running certctl.
type installation struct {
	*process
	url, key, leafURL string
	dataDir           string
	took              time.Duration
	client            *http.Client
}

// up starts certctl on a data folder of the run.
func (b *bench) up(ctx context.Context, name string) (*installation, error) {
	in := &installation{dataDir: filepath.Join(b.dir, name)}
	begun := time.Now()
	p, err := start(ctx, in.dataDir+".log", []string{
		"CERTCTL_DATA_DIR=" + in.dataDir, "CERTCTL_SERVER_PORT=0", "CERTCTL_LOCAL_LEAF_LISTEN=127.0.0.1:0", "CERTCTL_LOG_LEVEL=warn",
		"CERTCTL_RATE_LIMIT_ENABLED=false",
	}, filepath.Join(b.bin, "certctl"), "up")
	if err != nil {
		return nil, err
	}
	in.process = p
	line, err := p.said(ctx, "agents", startWithin)
	if err != nil {
		return nil, err
	}
	in.took = time.Since(begun)
	in.leafURL = last(line)
	if line, err = p.said(ctx, "API", time.Second); err != nil {
		return nil, err
	}
	in.url = last(line)
	key, err := os.ReadFile(filepath.Join(in.dataDir, "admin.key"))
	if err != nil {
		return nil, err
	}
	in.key = strings.TrimSpace(string(key))
	in.client = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		MaxIdleConnsPerHost: 64,
		// On loopback there is no network to save, and the load generator would pay too.
		DisableCompression: true,
	}}
	return in, nil
}

func last(line string) string {
	fields := strings.Fields(line)
	return fields[len(fields)-1]
}

// call makes a request and decodes the answer into v, if v is not nil.
func (in *installation) call(ctx context.Context, method, path string, body, v any) error {
	var content io.Reader = http.NoBody
	if body != nil {
		text, ok := body.([]byte)
		if !ok {
			var err error
			if text, err = json.Marshal(body); err != nil {
				return err
			}
		}
		content = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(ctx, method, in.url+path, content)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+in.key)
	r.Header.Set("Content-Type", "application/json")
	res, err := in.client.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("%s %s: HTTP %d: %.300s", method, path, res.StatusCode, text)
	}
	if v == nil {
		return nil
	}
	return json.Unmarshal(text, v)
}

func measureStart(ctx context.Context, b *bench) error {
	in, err := b.up(ctx, "start")
	if err != nil {
		return err
	}
	b.add(result{Measure: "start", Case: "first start: database made, migrated", P50: in.took})
	in.stop()
	times := make([]time.Duration, 0, 5)
	for range cap(times) {
		if in, err = b.up(ctx, "start"); err != nil {
			return err
		}
		times = append(times, in.took)
		if len(times) < cap(times) {
			in.stop()
		}
	}
	defer in.stop()
	in.settle(ctx)
	b.add(result{
		Measure: "start", Case: "data there, to the first answer", P50: sorted(times)[len(times)/2],
		Note: fmt.Sprintf("idle memory %.0f MiB, Postgres apart, leaf included", in.memory()),
	})
	return nil
}
