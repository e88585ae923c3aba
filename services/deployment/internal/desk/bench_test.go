package desk_test

import (
	"fmt"
	"testing"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/libs/bus"
)

// BenchmarkDeploy is the cost, without the bus, of one deployment from the event of a
// new version to the agent's last report, in batches as under load.
func BenchmarkDeploy(b *testing.B) {
	const batch = 100
	w := newWorld(b)
	a := w.host("agent-a")
	w.target("tgt-1", a)
	n := 0
	for b.Loop() {
		b.StopTimer()
		events := make([]bus.Message, batch)
		for i := range events {
			n++
			events[i] = message(issued(fmt.Sprint("mc-", n), fmt.Sprint("cv-", n), 0, "tgt-1"), 1)
		}
		w.exec(`DELETE FROM outbox`)
		b.StartTimer()
		w.hear(events...)
		b.StopTimer()
		var started, completed []bus.Message
		for _, o := range w.orders() {
			started = append(started, a.answer(o.command, command.OutcomeStarted))
			completed = append(completed, a.answer(o.command, command.OutcomeCompleted))
		}
		b.StartTimer()
		w.told(started...)
		w.told(completed...)
	}
	if got := one[int](w, `SELECT count(*) FROM jobs WHERE status = 'Completed'`); got != n {
		b.Errorf("%d of %d are done", got, n)
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(n), "us/deployment")
}
