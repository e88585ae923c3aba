package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"slices"
	"time"
)

// clientCounts are how many clients ask at once, and how many requests they make.
var clientCounts = []struct{ clients, requests int }{{1, 1000}, {8, 6000}, {32, 10000}}

func sorted(times []time.Duration) []time.Duration {
	slices.Sort(times)
	return times
}

// request makes a signing request for a name, with a key of its own.
func request(name string) (string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
	}, key)
	if err != nil {
		return "", err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), nil
}

// bodies are requests to issue, made beforehand.
func bodies(prefix string, n int) ([][]byte, error) {
	all := make([][]byte, n)
	for i := range all {
		name := fmt.Sprintf("%s-%d.bench.test", prefix, i)
		csr, err := request(name)
		if err != nil {
			return nil, err
		}
		if all[i], err = json.Marshal(map[string]any{"common_name": name, "sans": []string{name}, "csr_pem": csr}); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func measureIssue(ctx context.Context, b *bench) error {
	in, err := b.up(ctx, "issue")
	if err != nil {
		return err
	}
	defer in.stop()
	warm, err := bodies("warm", 200)
	if err != nil {
		return err
	}
	if _, _, err := load(ctx, 4, len(warm), in.create(warm)); err != nil {
		return err
	}
	for _, c := range clientCounts {
		ready, err := bodies(fmt.Sprintf("c%d", c.clients), b.many(c.requests))
		if err != nil {
			return err
		}
		before := in.settle(ctx)
		times, took, err := load(ctx, c.clients, len(ready), in.create(ready))
		if err != nil {
			return err
		}
		after := in.settle(ctx)
		b.add(figure("issue", fmt.Sprintf("from CSR over the API, %d clients", c.clients), times, took, after-before))
	}
	return nil
}

func (in *installation) create(ready [][]byte) func(context.Context, int) error {
	return func(ctx context.Context, i int) error {
		return in.call(ctx, "POST", "/api/v1/certificates", ready[i], nil)
	}
}

func figure(measure, name string, times []time.Duration, took, cpu time.Duration) result {
	n := float64(len(times))
	return result{
		Measure: measure, Case: name, Rate: n / took.Seconds(), CPU: cpu.Seconds() * 1000 / n,
		P50: percentile(times, 0.5), P99: percentile(times, 0.99),
	}
}
