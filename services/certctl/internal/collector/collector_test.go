package collector

import (
	"testing"
	"testing/fstest"
)

func TestShare_IsTwiceWhatIsAliveWhileThatIsLittle(t *testing.T) {
	for _, alive := range []uint64{0, 1, 20 << 20, 64 << 20} {
		if got := Share(alive, leastGarbage); got != most {
			t.Errorf("%d bytes alive: %d %%", alive, got)
		}
	}
}

func TestShare_BoundsTheGarbageUntilTheHeapIsLarge(t *testing.T) {
	last := most
	for alive := uint64(1 << 20); alive < 16<<30; alive += 7 << 20 {
		share := Share(alive, leastGarbage)
		if lies := alive / 100 * uint64(share); lies > max(leastGarbage, alive/100*least) {
			t.Fatalf("%d bytes alive: %d %%, which is %d bytes of garbage", alive, share, lies)
		}
		if share < least || share > last {
			t.Fatalf("%d bytes alive: %d %%, after %d %%", alive, share, last)
		}
		last = share
	}
}

func TestGarbage_IsAShareOfTheMemoryWithinBounds(t *testing.T) {
	for memory, want := range map[uint64]uint64{0: leastGarbage, 1 << 30: leastGarbage, 16 << 30: 256 << 20, 1 << 40: mostGarbage} {
		if got := Garbage(memory); got != want {
			t.Errorf("%d bytes of memory: %d of garbage, want %d", memory, got, want)
		}
	}
}

func TestMemory_IsTheMachinesOrTheLimitOfTheControlGroup(t *testing.T) {
	const machine = "MemTotal:       24689764 kB\nMemFree:        1 kB\n"
	for _, c := range []struct {
		meminfo, limit string
		want           uint64
	}{
		{machine, "", 24689764 << 10},
		{machine, "max\n", 24689764 << 10},
		{machine, "536870912\n", 512 << 20},
		{machine, "99999999999999\n", 24689764 << 10},
		{"", "536870912\n", 512 << 20},
		{"nonsense\nMemTotal:", "nonsense", 0},
		{"", "", 0},
	} {
		root := fstest.MapFS{}
		if c.meminfo != "" {
			root["proc/meminfo"] = &fstest.MapFile{Data: []byte(c.meminfo)}
		}
		if c.limit != "" {
			root["sys/fs/cgroup/memory.max"] = &fstest.MapFile{Data: []byte(c.limit)}
		}
		if got := Memory(root); got != c.want {
			t.Errorf("%q and %q: %d bytes, want %d", c.meminfo, c.limit, got, c.want)
		}
	}
}
