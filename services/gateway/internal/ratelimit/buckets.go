// Package ratelimit bounds how often a caller may ask: with a token bucket for each API
// key, and one for each address whose callers have not proved who they are.
//
// A decision is made in memory, in a fraction of a microsecond, and waits for nothing.
// Replicas tell each other several times a second what they have let through, and charge
// their own buckets with it. So all replicas together admit the configured rate; a
// caller that talks to all of them at once can exceed its burst by what they admit
// before they have heard of each other, that is by one burst for each further replica,
// and pays for it with the wait that follows. While the bus is away each replica limits
// by itself. Why so: docs/adr/0007.
package ratelimit

import (
	"hash/maphash"
	"sync"
	"time"
)

// Limit is a bucket of Burst tokens that is refilled with Rate tokens a second.
type Limit struct {
	Rate  float64
	Burst int
}

// Verdict is the answer to one call.
type Verdict struct {
	Admitted bool
	// Remaining is how many more calls would be admitted at once.
	Remaining int
	// Full is how long it takes until the bucket is full again, Wait how long until
	// the next call is admitted.
	Full, Wait time.Duration
}

const (
	shards = 16
	// maxBuckets bounds the memory of a shard. Those who come when it is full share
	// one bucket; that takes half a million callers within the time that a bucket
	// needs to be full again.
	maxBuckets = 1 << 15
)

// Buckets holds a bucket for each caller, as long as it is not full. It is safe for
// concurrent use.
//
// It is GCRA: a bucket is the one moment at which it will be full again.
type Buckets[K comparable] struct {
	interval time.Duration // between two tokens
	capacity time.Duration // in which an empty bucket fills
	burst    int
	seed     maphash.Seed
	shards   [shards]shard[K]
}

type shard[K comparable] struct {
	mu      sync.Mutex
	buckets map[K]*bucket // under mu
}

type bucket struct {
	full  time.Time // when it is
	spent int       // since the others were told
}

// NewBuckets returns buckets that are all full.
func NewBuckets[K comparable](l Limit) *Buckets[K] {
	interval := max(1, time.Duration(float64(time.Second)/l.Rate))
	b := &Buckets[K]{interval: interval, capacity: interval * time.Duration(l.Burst), burst: l.Burst, seed: maphash.MakeSeed()}
	for i := range b.shards {
		b.shards[i].buckets = map[K]*bucket{}
	}
	return b
}

// Take takes a token out of a caller's bucket, if there is one.
func (b *Buckets[K]) Take(caller K, now time.Time) Verdict {
	s := b.shard(caller)
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.of(caller)
	full := k.full
	if full.Before(now) {
		full = now
	}
	full = full.Add(b.interval)
	if over := full.Sub(now) - b.capacity; over > 0 {
		return Verdict{Wait: over, Full: full.Sub(now) - b.interval}
	}
	k.full = full
	k.spent++
	left := full.Sub(now)
	return Verdict{Admitted: true, Remaining: int((b.capacity - left) / b.interval), Full: left}
}

// Return puts a token back.
func (b *Buckets[K]) Return(caller K) {
	s := b.shard(caller)
	s.mu.Lock()
	defer s.mu.Unlock()
	if k, ok := s.buckets[caller]; ok {
		k.full = k.full.Add(-b.interval)
		k.spent--
	}
}

// charge takes the tokens that another replica has given out, also those that are not
// there.
func (b *Buckets[K]) charge(caller K, tokens int, now time.Time) {
	// No replica gives out more at a time; a number beyond it would lock the caller out.
	tokens = min(tokens, 2*b.burst)
	if tokens <= 0 {
		return
	}
	s := b.shard(caller)
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.of(caller)
	if k.full.Before(now) {
		k.full = now
	}
	k.full = k.full.Add(time.Duration(tokens) * b.interval)
}

// drain hands over what each bucket has given out since the last time, and forgets
// buckets that are full.
func (b *Buckets[K]) drain(now time.Time, spent func(caller K, tokens int)) {
	for i := range b.shards {
		s := &b.shards[i]
		s.mu.Lock()
		for caller, k := range s.buckets {
			if k.spent > 0 {
				spent(caller, k.spent)
			}
			k.spent = 0
			if !k.full.After(now) {
				delete(s.buckets, caller)
			}
		}
		s.mu.Unlock()
	}
}

func (b *Buckets[K]) shard(caller K) *shard[K] {
	return &b.shards[maphash.Comparable(b.seed, caller)%shards]
}

// of returns a caller's bucket. s.mu is held.
func (s *shard[K]) of(caller K) *bucket {
	k, ok := s.buckets[caller]
	if ok {
		return k
	}
	if len(s.buckets) >= maxBuckets {
		var everybodyElse K
		caller = everybodyElse
		if k, ok = s.buckets[caller]; ok {
			return k
		}
	}
	k = &bucket{}
	s.buckets[caller] = k
	return k
}
