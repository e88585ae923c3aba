package pace_test

import (
	"testing"
	"time"

	"github.com/certctl/certctl/libs/internal/pace"
)

func TestPace_LetsALittleGoAtOnceForever(t *testing.T) {
	var p pace.Pace
	now := time.Now()
	for range 1000 {
		now = now.Add(10 * time.Millisecond)
		if wait := p.Wait(now); wait != 0 {
			t.Fatalf("a round at 200 things a second waits %s", wait)
		}
		p.Done(2, now)
	}
}

func TestPace_SpacesTheRoundsOfABusyLoopAndLetsGoAfterwards(t *testing.T) {
	var p pace.Pace
	now := time.Now()
	rounds := 0
	for end := now.Add(time.Second); now.Before(end); rounds++ {
		now = now.Add(p.Wait(now) + time.Millisecond)
		p.Done(20, now)
	}
	if rounds < 40 || rounds > 60 {
		t.Errorf("%d rounds in a second, want about %d", rounds, time.Second/pace.Every)
	}
	if wait := p.Wait(now); wait > pace.Every {
		t.Errorf("a round waits %s", wait)
	}
	if wait := p.Wait(now.Add(10 * time.Second)); wait != 0 {
		t.Errorf("a round waits %s after a pause", wait)
	}
}

func TestPace_SpacesTheRoundsOfACrowdedLoopFurther(t *testing.T) {
	var p pace.Pace
	now := time.Now()
	p.Done(500, now)
	if wait := p.Wait(now); wait != pace.Crowded {
		t.Errorf("a crowded loop waits %s", wait)
	}
	p.Done(1, now)
	if wait := p.Wait(now); wait != pace.Every {
		t.Errorf("a loop that is crowded no more waits %s", wait)
	}
}
