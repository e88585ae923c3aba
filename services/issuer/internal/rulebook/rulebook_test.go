package rulebook_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/services/issuer/internal/rulebook"
)

// shelf is a source that counts how often it is asked.
type shelf struct {
	mu             sync.Mutex
	revision       int64 // guarded by mu
	err            error // guarded by mu
	looked, opened int   // guarded by mu
	// reading is called while the rules are being read, after they were taken.
	reading func()
}

func (s *shelf) RulesRevision(context.Context) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looked++
	return s.revision, s.err
}

func (s *shelf) Rules(context.Context) (*rulebook.Book, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened++
	book := &rulebook.Book{Revision: s.revision}
	if s.reading != nil {
		s.reading()
	}
	return book, s.err
}

func (s *shelf) change() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revision++
}

func revision(t *testing.T, c *rulebook.Cache) int64 {
	t.Helper()
	b, err := c.Book(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return b.Revision
}

func TestBook_IsReadOnceAndLookedAtAgainWhenItIsOld(t *testing.T) {
	s, now := &shelf{revision: 1}, clock.At(time.Unix(0, 0))
	c := rulebook.New(s, now)
	for range 100 {
		revision(t, c)
	}
	if s.opened != 1 || s.looked != 0 {
		t.Errorf("read %d times, looked at %d times", s.opened, s.looked)
	}
	now.Advance(rulebook.Age)
	for range 100 {
		revision(t, c)
	}
	if s.opened != 1 || s.looked != 1 {
		t.Errorf("unchanged: read %d times, looked at %d times", s.opened, s.looked)
	}
}

func TestBook_HoldsInOtherProcessesWithinASecond(t *testing.T) {
	s, now := &shelf{revision: 1}, clock.At(time.Unix(0, 0))
	c := rulebook.New(s, now)
	revision(t, c)
	s.change()
	now.Advance(time.Second)
	if got := revision(t, c); got != 2 {
		t.Errorf("revision %d", got)
	}
}

func TestForget_HasTheNextOneSeeTheChange(t *testing.T) {
	s, now := &shelf{revision: 1}, clock.At(time.Unix(0, 0))
	c := rulebook.New(s, now)
	revision(t, c)
	s.change()
	if got := revision(t, c); got != 1 {
		t.Errorf("revision %d before it was told", got)
	}
	c.Forget()
	if got := revision(t, c); got != 2 {
		t.Errorf("revision %d after it was told", got)
	}
}

// A look that began before a change was committed must not count as one after it.
func TestForget_DistrustsALookThatWasUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, now := &shelf{revision: 1}, clock.At(time.Unix(0, 0))
		c := rulebook.New(s, now)
		taken, goOn := make(chan struct{}), make(chan struct{})
		s.reading = func() { close(taken); <-goOn }
		var looking, forgetting sync.WaitGroup
		looking.Go(func() { revision(t, c) })
		<-taken
		forgetting.Go(c.Forget)
		synctest.Wait()
		close(goOn)
		looking.Wait()
		forgetting.Wait()
		s.reading = nil
		s.change()
		if got := revision(t, c); got != 2 {
			t.Errorf("revision %d", got)
		}
	})
}

func TestBook_IsNotGivenWhileItCannotBeRead(t *testing.T) {
	away := errors.New("away")
	s, now := &shelf{revision: 1}, clock.At(time.Unix(0, 0))
	c := rulebook.New(s, now)
	revision(t, c)
	s.err = away
	now.Advance(rulebook.Age)
	if _, err := c.Book(t.Context()); !errors.Is(err, away) {
		t.Errorf("error %v", err)
	}
	s.err = nil
	if got := revision(t, c); got != 1 {
		t.Errorf("revision %d", got)
	}
}

func TestNewest_LooksWhateverTheAge(t *testing.T) {
	s := &shelf{revision: 1}
	c := rulebook.New(s, clock.At(time.Unix(0, 0)))
	revision(t, c)
	s.change()
	if b, err := c.Newest(t.Context()); err != nil || b.Revision != 2 {
		t.Errorf("book %+v, error %v", b, err)
	}
}
