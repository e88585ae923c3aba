package bundle

import (
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/libs/fault"
)

func TestWithin_GivesUpWhatTakesTooLongAndLetsFewWait(t *testing.T) {
	release := make(chan struct{})
	ended := make(chan struct{}, opened)
	for range opened {
		err := within(time.Millisecond, func() error {
			<-release
			ended <- struct{}{}
			return nil
		})
		if fault.CodeOf(err) != fault.Invalid || !strings.Contains(err.Error(), "takes longer") {
			t.Errorf("%v", err)
		}
	}
	// Each of those still has its slot.
	if err := within(time.Millisecond, func() error { return nil }); fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("%v", err)
	}
	close(release)
	for range opened {
		<-ended
	}
	if err := within(patience, func() error { return nil }); err != nil {
		t.Errorf("%v", err)
	}
}

func TestWithin_TakesAPanicForADamagedFile(t *testing.T) {
	for range opened + 1 {
		err := within(patience, func() error { panic("index out of range") })
		if fault.CodeOf(err) != fault.Invalid || !strings.Contains(err.Error(), "is damaged") || strings.Contains(err.Error(), "index") {
			t.Errorf("%v", err)
		}
	}
}
