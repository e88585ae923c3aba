package clock_test

import (
	"testing"
	"time"

	"github.com/certctl/certctl/libs/clock"
)

func TestSystem_TellsUTCInMicroseconds(t *testing.T) {
	before := time.Now().Truncate(time.Microsecond)
	got := clock.System.Now()
	if got.Before(before) || got.After(time.Now()) {
		t.Errorf("Now = %s, is not now", got)
	}
	if got.Location() != time.UTC || got.Nanosecond()%1000 != 0 {
		t.Errorf("Now = %s, want UTC in whole microseconds", got)
	}
}

func TestManual_MovesOnlyWhenTold(t *testing.T) {
	start := time.Date(2026, 3, 1, 12, 0, 0, 1234, time.FixedZone("CET", 3600))
	m := clock.At(start)
	want := time.Date(2026, 3, 1, 11, 0, 0, 1000, time.UTC)
	if got := m.Now(); got != want {
		t.Errorf("Now = %s, want %s", got, want)
	}
	if got := m.Advance(time.Hour); got != want.Add(time.Hour) || m.Now() != got {
		t.Errorf("after Advance = %s", got)
	}
	m.Set(want)
	if got := m.Now(); got != want {
		t.Errorf("after Set = %s", got)
	}
}
