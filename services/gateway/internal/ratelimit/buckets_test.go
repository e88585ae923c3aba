package ratelimit

import (
	"net/http"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/certctl/certctl/libs/fault"
)

var start = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

func TestTake_AdmitsABurstThenTheRate(t *testing.T) {
	b := NewBuckets[string](Limit{Rate: 50, Burst: 100})
	now := start
	for i := range 100 {
		if v := b.Take("a", now); !v.Admitted || v.Remaining != 99-i {
			t.Fatalf("call %d: %+v", i+1, v)
		}
	}
	v := b.Take("a", now)
	if v.Admitted || v.Wait != 20*time.Millisecond || v.Full != 2*time.Second {
		t.Errorf("call 101: %+v", v)
	}
	if v := b.Take("b", now); !v.Admitted {
		t.Error("another caller is refused with it") // trap: one bucket for everybody
	}
	now = now.Add(20 * time.Millisecond)
	if v := b.Take("a", now); !v.Admitted || v.Remaining != 0 {
		t.Errorf("after 20 ms: %+v", v)
	}
	if v := b.Take("a", now.Add(10*time.Second)); !v.Admitted || v.Remaining != 99 {
		t.Errorf("after 10 s: %+v", v)
	}
}

func TestTake_NeverAdmitsMoreThanBurstAndRateAllow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := Limit{Rate: rapid.Float64Range(0.5, 1000).Draw(t, "rate"), Burst: rapid.IntRange(1, 200).Draw(t, "burst")}
		b := NewBuckets[string](l)
		now, admitted := start, 0
		for _, gap := range rapid.SliceOfN(rapid.IntRange(0, 50_000), 1, 300).Draw(t, "gaps in us") {
			now = now.Add(time.Duration(gap) * time.Microsecond)
			if v := b.Take("a", now); v.Admitted {
				admitted++
			} else if later := b.Take("a", now.Add(v.Wait)); !later.Admitted {
				t.Fatalf("refused at the moment that it was told to come: %+v", later)
			} else {
				now, admitted = now.Add(v.Wait), admitted+1
			}
		}
		if most := float64(l.Burst) + now.Sub(start).Seconds()*l.Rate + 1; float64(admitted) > most {
			t.Fatalf("%d admitted, at most %v allowed", admitted, most)
		}
	})
}

func TestReplicas_ChargeEachOther(t *testing.T) {
	one, two := New(Limit{Rate: 10, Burst: 10}), New(Limit{Rate: 10, Burst: 10})
	a := netip.MustParseAddr("192.0.2.1")
	for range 6 {
		if err := one.Address(http.Header{}, a, start); err != nil {
			t.Fatal(err)
		}
		if err := one.Key(http.Header{}, a, "key-1", start); err != nil {
			t.Fatal(err)
		}
		if err := one.Address(http.Header{}, a, start); err != nil {
			t.Fatal(err)
		}
	}
	var told [][]byte
	one.tell(start, "one", func(b []byte) { told = append(told, b) })
	if len(told) != 1 {
		t.Fatalf("%d messages", len(told))
	}
	if err := one.hear("one", told[0], start); err != nil {
		t.Fatal(err)
	}
	if err := two.hear("two", told[0], start); err != nil {
		t.Fatal(err)
	}
	for name, l := range map[string]*Limiter{"the replica that let them through": one, "the other": two} {
		h := http.Header{}
		if err := l.Address(h, a, start); err != nil || h.Get("RateLimit") != `"address";r=3;t=1` {
			t.Errorf("%s: %v %v", name, h, err)
		}
		if err := l.Key(h, a, "key-1", start); err != nil || h.Get("RateLimit") != `"key";r=3;t=1` {
			t.Errorf("%s: %v %v", name, h, err)
		}
	}
	told = nil
	two.tell(start, "two", func(b []byte) { told = append(told, b) })
	if len(told) != 1 || string(told[0]) != `{"from":"two","keys":{"key-1":1}}` {
		t.Errorf("what was heard, or given back, is told again: %s", told)
	}
}

func TestDrain_ForgetsWhoIsQuietAndKeepsMessagesSmall(t *testing.T) {
	l := New(Limit{Rate: 50, Burst: 100})
	for i := range 3 * maxCallers {
		a := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		if err := l.Address(http.Header{}, a, start); err != nil {
			t.Fatal(err)
		}
	}
	messages := 0
	l.tell(start, "me", func([]byte) { messages++ })
	if messages != 3 {
		t.Errorf("%d messages", messages)
	}
	l.tell(start.Add(time.Second), "me", func([]byte) { t.Error("told twice") })
	for i := range l.addresses.shards {
		if n := len(l.addresses.shards[i].buckets); n != 0 {
			t.Errorf("%d buckets are kept of callers that are quiet", n)
		}
	}
}

func TestLimiter_TellsHowFarACallerHasCome(t *testing.T) {
	l := New(Limit{Rate: 2, Burst: 3})
	a := netip.MustParseAddr("2001:db8::1")
	h := http.Header{}
	for range 3 {
		if err := l.Address(h, a, start); err != nil {
			t.Fatal(err)
		}
	}
	// Of the same /64.
	err := l.Address(h, netip.MustParseAddr("2001:db8::ffff"), start)
	f := fault.From(err)
	if fault.CodeOf(err) != fault.RateLimited || f.RetryAfter != 500*time.Millisecond {
		t.Errorf("%v", err)
	}
	if h.Get("RateLimit-Policy") != `"address";q=3;w=2` || h.Get("RateLimit") != `"address";r=0;t=2` {
		t.Errorf("%v", h)
	}
	var nobody *Limiter
	if nobody.Address(h, a, start) != nil || nobody.Key(h, a, "k", start) != nil {
		t.Error("no limiter limits")
	}
}

func BenchmarkLimiter(b *testing.B) {
	l := New(Limit{Rate: 1e9, Burst: 1 << 20})
	a, h := netip.MustParseAddr("192.0.2.1"), http.Header{}
	now := time.Now()
	for b.Loop() {
		_ = l.Address(h, a, now)
		_ = l.Key(h, a, "key-1", now)
	}
}
