package collector

import (
	"testing"

	"pgregory.net/rapid"
)

func TestShare_IsTwiceWhatIsAliveWhileThatIsLittle(t *testing.T) {
	for _, alive := range []uint64{0, 1, 20 << 20, 64 << 20} {
		if got := Share(alive); got != most {
			t.Errorf("%d bytes alive: %d %%", alive, got)
		}
	}
}

func TestShare_BoundsTheGarbageUntilTheHeapIsLarge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		alive := rapid.Uint64Range(1, 16<<30).Draw(t, "alive")
		share := Share(alive)
		if lies := alive / 100 * uint64(share); lies > max(garbage, alive/100*least) {
			t.Fatalf("%d bytes alive: %d %%, which is %d bytes of garbage", alive, share, lies)
		}
		if share < least || share > most {
			t.Fatalf("%d bytes alive: %d %%", alive, share)
		}
		if Share(alive+1) > share {
			t.Fatalf("the share grows at %d bytes", alive)
		}
	})
}
