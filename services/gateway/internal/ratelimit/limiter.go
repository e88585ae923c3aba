package ratelimit

import (
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/certctl/certctl/libs/fault"
)

// Limiter limits addresses and keys. A nil Limiter limits nobody.
type Limiter struct {
	addresses *Buckets[netip.Addr]
	keys      *Buckets[string]
	policies  [2]string // of addresses, of keys
}

// New returns a limiter whose buckets are all of one size.
func New(l Limit) *Limiter {
	policy := func(name string) string {
		// Burst tokens in the time that they take to come back: the window is that of
		// the bucket, so that quota over window is the rate.
		return fmt.Sprintf(`"%s";q=%d;w=%d`, name, l.Burst, int(math.Ceil(float64(l.Burst)/l.Rate)))
	}
	return &Limiter{
		addresses: NewBuckets[netip.Addr](l), keys: NewBuckets[string](l),
		policies: [2]string{policy(ofAddress), policy(ofKey)},
	}
}

// Names of the two policies in the answers' headers.
const (
	ofAddress = "address"
	ofKey     = "key"
)

// Address asks whether an address may call, and tells in h how far it has come. What a
// caller has done who then proves who it is goes back, see Key.
func (l *Limiter) Address(h http.Header, address netip.Addr, now time.Time) error {
	if l == nil {
		return nil
	}
	return tell(h, ofAddress, l.policies[0], l.addresses.Take(network(address), now))
}

// Key asks whether a key may call, and tells in h how far it has come. The token of its
// address goes back: many may share an address, and those who are known are limited by
// what they do themselves.
func (l *Limiter) Key(h http.Header, address netip.Addr, key string, now time.Time) error {
	if l == nil {
		return nil
	}
	l.addresses.Return(network(address))
	return tell(h, ofKey, l.policies[1], l.keys.Take(key, now))
}

// network is what is counted as one address: whoever has an IPv6 address has 2^64 of
// them.
func network(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if !a.Is6() {
		return a
	}
	p, err := a.Prefix(64)
	if err != nil {
		return a
	}
	return p.Addr()
}

// Header names, as they stand in a header map.
const (
	headerPolicy = "Ratelimit-Policy"
	headerLimit  = "Ratelimit"
)

// tell writes the headers of draft-ietf-httpapi-ratelimit-headers-10: the policy with
// its quota (q) in a window (w), and of it what remains (r) and the time in seconds (t)
// until all of it is there again.
func tell(h http.Header, name, policy string, v Verdict) error {
	h[headerPolicy] = []string{policy}
	line := make([]byte, 0, 32)
	line = append(append(append(line, '"'), name...), `";r=`...)
	line = strconv.AppendInt(line, int64(v.Remaining), 10)
	line = strconv.AppendInt(append(line, ";t="...), int64(math.Ceil(v.Full.Seconds())), 10)
	h[headerLimit] = []string{string(line)}
	if v.Admitted {
		return nil
	}
	f := fault.New(fault.RateLimited, "this %s asks too often; wait, and ask more slowly", name)
	f.RetryAfter = v.Wait
	return f
}
