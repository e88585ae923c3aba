// Package collector sets how much garbage may lie about before the heap is collected.
//
// Go measures it in percent of what is alive: rarely while that is little, which spares
// processor time for little memory, is wasteful when it is much. Here it is a share that
// shrinks as the heap grows, so that the garbage stays within bounds.
package collector

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// most is the share while the heap is small: twice what is alive.
	most = 200
	// least keeps the collector from taking most of the processor when the heap is large.
	least = 50
	// What may lie about in between, in bytes, is a share of the machine's memory within bounds.
	leastGarbage, mostGarbage = 128 << 20, 512 << 20
	garbageShare              = 64

	every = time.Second
	// step is the least change that is worth a stop of the world.
	step = 10
)

// Garbage is how many bytes of it may lie about on a machine with so much memory.
func Garbage(memory uint64) uint64 {
	return min(max(memory/garbageShare, leastGarbage), mostGarbage)
}

// Share is the garbage that may lie about, in percent of the bytes that are alive.
func Share(alive, garbage uint64) int {
	if alive == 0 {
		return most
	}
	return int(min(max(garbage*100/alive, least), most))
}

// Run sets the share by what is alive until ctx ends. One call in a process is enough.
func Run(ctx context.Context) {
	garbage := Garbage(Memory(os.DirFS("/")))
	alive := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	tick := time.NewTicker(every)
	defer tick.Stop()
	now := most
	debug.SetGCPercent(now)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		metrics.Read(alive)
		if next := Share(alive[0].Value.Uint64(), garbage); next <= now-step || next >= now+step || next != now && (next == most || next == least) {
			now = next
			debug.SetGCPercent(now)
		}
	}
}
