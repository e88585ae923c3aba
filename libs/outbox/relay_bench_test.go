package outbox_test

import (
	"fmt"
	"testing"

	"github.com/certctl/certctl/libs/outbox"
)

// BenchmarkRelay measures a backlog of events of 1 KiB being relayed to a bus that costs nothing. One operation is one
// row; inserting is not counted.
func BenchmarkRelay(b *testing.B) {
	pool, bus := newPool(b), &stream{}
	body := make([]byte, 1024)
	for i := 0; i < b.N; i += 1000 {
		var batch []outbox.Message
		for j := i; j < min(i+1000, b.N); j++ {
			m := message(fmt.Sprintf("m%08d", j), "EVT")
			m.Body = body
			batch = append(batch, m)
		}
		insert(b, pool, batch...)
	}
	b.ResetTimer()
	relay := &outbox.Relay{Pool: pool, Publish: bus.publish}
	run(b, relay)
	eventually(b, "all rows are published", func() bool { return bus.count() >= b.N })
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}
