package collector

import "testing"

func TestShare_IsTwiceWhatIsAliveWhileThatIsLittle(t *testing.T) {
	for _, alive := range []uint64{0, 1, 20 << 20, 64 << 20} {
		if got := Share(alive); got != most {
			t.Errorf("%d bytes alive: %d %%", alive, got)
		}
	}
}

func TestShare_BoundsTheGarbageUntilTheHeapIsLarge(t *testing.T) {
	last := most
	for alive := uint64(1 << 20); alive < 16<<30; alive += 7 << 20 {
		share := Share(alive)
		if lies := alive / 100 * uint64(share); lies > max(garbage, alive/100*least) {
			t.Fatalf("%d bytes alive: %d %%, which is %d bytes of garbage", alive, share, lies)
		}
		if share < least || share > last {
			t.Fatalf("%d bytes alive: %d %%, after %d %%", alive, share, last)
		}
		last = share
	}
}
