// Package fresh keeps values that run out, and has them made anew before they do.
//
// Nobody waits for a value to be made while there is one that is still good, and however
// many ask, one is made at a time for each key. When it cannot be made, the old one is
// handed out for as long as it lasts; the next attempt is made after a pause, so that a
// maker in trouble is not asked by every reader.
package fresh

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
)

const (
	// makeLimit bounds one attempt.
	makeLimit = 15 * time.Second
	// pause is between a failed attempt and the next.
	pause = time.Second
)

// Value is what was made, and how long it is good.
type Value[T any] struct {
	Of T
	// RenewAt is from when on a new one is wanted, Until from when on this one is no good.
	RenewAt, Until time.Time
}

// Keeper hands out values. It is safe for concurrent use. Make may be called for
// different keys at once.
type Keeper[K comparable, T any] struct {
	Clock clock.Clock
	Make  func(ctx context.Context, key K) (Value[T], error)

	mu      sync.Mutex
	entries map[K]*entry[T] // under mu
	making  sync.WaitGroup
}

// entry is what is known for a key. Its fields are under the keeper's mu.
type entry[T any] struct {
	value    Value[T] // zero if there never was one
	err      error    // of the last attempt
	failedAt time.Time
	underWay chan struct{} // closed when the attempt has ended; nil without one
}

// Get returns a value that is good. It waits, until ctx ends, only if there is none.
func (k *Keeper[K, T]) Get(ctx context.Context, key K) (T, error) {
	k.mu.Lock()
	now := k.Clock.Now()
	e := k.entry(key, now)
	if now.Before(e.value.RenewAt) && now.Before(e.value.Until) {
		defer k.mu.Unlock()
		return e.value.Of, nil
	}
	resting := e.err != nil && now.Before(e.failedAt.Add(pause))
	if e.underWay == nil && !resting {
		e.underWay = make(chan struct{})
		k.making.Go(func() { k.renew(context.WithoutCancel(ctx), key, e) })
	}
	value, err, underWay := e.value, e.err, e.underWay
	k.mu.Unlock()

	if now.Before(value.Until) {
		return value.Of, nil
	}
	if underWay == nil {
		return value.Of, err
	}
	select {
	case <-underWay:
	case <-ctx.Done():
		return value.Of, fault.Wrap(ctx.Err(), fault.Unavailable, "it was not ready in time")
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return e.value.Of, e.err
}

// Wait returns when no value is being made.
func (k *Keeper[K, T]) Wait() { k.making.Wait() }

// entry is called under mu. A new key is the moment to forget those that nobody has
// asked about for so long that their values have run out.
func (k *Keeper[K, T]) entry(key K, now time.Time) *entry[T] {
	if e, ok := k.entries[key]; ok {
		return e
	}
	if k.entries == nil {
		k.entries = map[K]*entry[T]{}
	}
	for other, e := range k.entries {
		if e.underWay == nil && !now.Before(e.value.Until) {
			delete(k.entries, other)
		}
	}
	e := &entry[T]{}
	k.entries[key] = e
	return e
}

func (k *Keeper[K, T]) renew(ctx context.Context, key K, e *entry[T]) {
	ctx, cancel := context.WithTimeout(ctx, makeLimit)
	defer cancel()
	value, err := k.guarded(ctx, key)
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.Clock.Now()
	if err == nil && !now.Before(value.Until) {
		err = errors.New("what was made has run out already")
	}
	if e.err = err; err == nil {
		e.value = value
	} else {
		e.failedAt = now
	}
	close(e.underWay)
	e.underWay = nil
}

// guarded keeps a panic from ending the process, as the one of a request does not either.
func (k *Keeper[K, T]) guarded(ctx context.Context, key K) (value Value[T], err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("making it panicked: %v\n%s", p, debug.Stack())
		}
	}()
	return k.Make(ctx, key)
}
