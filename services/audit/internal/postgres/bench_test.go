package postgres

import (
	"fmt"
	"testing"

	"github.com/certctl/certctl/services/audit/internal/proof"
)

// BenchmarkAppend measures the one writer: a batch of events in a transaction, onto a
// chain that grows. Durable figures need a server with fsync on: set
// CERTCTL_DATABASE_URL.
func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{1, 50, 500} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			pool := newPool(b)
			round := 0
			for b.Loop() {
				events := happened(fmt.Sprintf("%d", round), size)
				round++
				if _, err := appended(b, pool, events); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(round*size)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// BenchmarkVerify measures how fast a chain is read and checked.
func BenchmarkVerify(b *testing.B) {
	pool := newPool(b)
	const n = 20_000
	store(b, pool, happened("a", n))
	for b.Loop() {
		if _, err := Verify(b.Context(), pool, new(proof.Verifier)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "events/s")
}
