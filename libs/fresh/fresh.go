// Package fresh keeps answers that cost much to make and may be a moment old, such as
// counts over a whole table.
//
// However many ask, one answer for a key is being made at a time. While an answer is
// fresh it is given to all. When it is not any more, but not too old either, it is still
// given, and one asker has a newer one made in the background; so nobody waits while
// there is steady demand, and nothing is made while there is none. An answer that is too
// old is given to nobody: who asks then waits for the new one.
//
// The age of an answer counts from before it was begun to be made, so it tells nothing
// that is older than the limit.
package fresh

import (
	"context"
	"sync"
	"time"
)

// Limits say how old an answer may be.
type Limits struct {
	// Fresh is up to when an answer is given without a thought.
	Fresh time.Duration
	// Old is from when it is not given any more.
	Old time.Duration
}

const (
	// maxKeys bounds the memory; with more of them all are made anew.
	maxKeys = 1024
	// within bounds the making of an answer, whose asker may have gone.
	within = 30 * time.Second
)

// Answers remembers answers by key. Its zero value is ready.
type Answers[K comparable, V any] struct {
	mu   sync.Mutex
	kept map[K]*answer[V] // guarded by mu
}

type answer[V any] struct {
	value V
	at    time.Time // zero before the first
	// making is the attempt under way, nil if there is none.
	making *attempt[V]
}

// attempt is one making of an answer. The rest is set when done is closed.
type attempt[V any] struct {
	done  chan struct{}
	value V
	err   error
}

// Get returns the answer for a key, made by produce if need be. An answer that could not be
// made is not remembered: an older one is given as long as it may be.
func (a *Answers[K, V]) Get(ctx context.Context, key K, l Limits, produce func(context.Context) (V, error)) (V, error) {
	a.mu.Lock()
	k := a.of(key)
	age := time.Since(k.at)
	if !k.at.IsZero() && age < l.Fresh {
		defer a.mu.Unlock()
		return k.value, nil
	}
	if k.making == nil {
		k.making = &attempt[V]{done: make(chan struct{})}
		go a.produce(context.WithoutCancel(ctx), k, k.making, produce)
	}
	making := k.making
	if !k.at.IsZero() && age < l.Old {
		defer a.mu.Unlock()
		return k.value, nil
	}
	a.mu.Unlock()
	select {
	case <-making.done:
		return making.value, making.err
	case <-ctx.Done():
		var none V
		return none, ctx.Err()
	}
}

// of is the place of a key; the caller holds mu.
func (a *Answers[K, V]) of(key K) *answer[V] {
	if k, ok := a.kept[key]; ok {
		return k
	}
	if a.kept == nil || len(a.kept) >= maxKeys {
		a.kept = map[K]*answer[V]{}
	}
	k := &answer[V]{}
	a.kept[key] = k
	return k
}

func (a *Answers[K, V]) produce(ctx context.Context, k *answer[V], m *attempt[V], produce func(context.Context) (V, error)) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	begun := time.Now()
	m.value, m.err = produce(ctx)
	a.mu.Lock()
	defer a.mu.Unlock()
	if m.err == nil {
		k.value, k.at = m.value, begun
	}
	k.making = nil
	close(m.done)
}
