package blockedkey

import (
	"crypto"
	"crypto/rsa"
	"math/big"
	"strconv"

	"github.com/titanous/rocacheck"
)

const (
	// leastExponent is what CA/Browser Forum's Baseline Requirements, section 6.1.6, want exponents to be at least.
	leastExponent = 1<<16 + 1
	// rounds is how far Fermat's method is tried, as the same section says.
	rounds = 100
)

// small is the product of the odd primes below 752, which must not divide a modulus (section 6.1.6 again).
var small = primorial(752)

func primorial(below int64) *big.Int {
	product := big.NewInt(1)
	for n := int64(3); n < below; n += 2 {
		if p := big.NewInt(n); p.ProbablyPrime(0) {
			product.Mul(product, p)
		}
	}
	return product
}

// weakness says why a key can be computed from its public half, nothing if no way is known here. Sizes and curves are
// libs/x509x's to judge.
func weakness(pub crypto.PublicKey) string {
	key, ok := pub.(*rsa.PublicKey)
	if !ok {
		return ""
	}
	switch {
	case key.E < leastExponent || key.E%2 == 0:
		return "its public exponent " + strconv.Itoa(key.E) + " is not an odd number of at least 65537"
	case key.N.Bit(0) == 0 || new(big.Int).GCD(nil, nil, key.N, small).Cmp(big.NewInt(1)) != 0:
		return "a small number divides its modulus"
	case rocacheck.IsWeak(key):
		return "it was made by hardware whose keys can be computed (ROCA, CVE-2017-15361)"
	case closePrimes(key.N):
		return "its two primes are so close to each other that they can be computed"
	default:
		return ""
	}
}

// closePrimes reports whether Fermat's method finds the factors of an odd number within some rounds: it looks for an a
// with a² - n a square, from the root of n upwards.
func closePrimes(n *big.Int) bool {
	a := new(big.Int).Sqrt(n)
	if new(big.Int).Mul(a, a).Cmp(n) == 0 {
		return true
	}
	a.Add(a, big.NewInt(1))
	rest := new(big.Int).Mul(a, a)
	rest.Sub(rest, n)
	// From one a to the next, a² grows by 2a + 1.
	step := new(big.Int).Lsh(a, 1)
	step.Add(step, big.NewInt(1))
	two, root, square := big.NewInt(2), new(big.Int), new(big.Int)
	for range rounds {
		if maybeSquare(rest) {
			if root.Sqrt(rest); square.Mul(root, root).Cmp(rest) == 0 {
				return true
			}
		}
		rest.Add(rest, step)
		step.Add(step, two)
	}
	return false
}

// residues has the remainders that squares leave, for moduli that tell most other numbers apart.
var residues = func() map[int64][]bool {
	all := map[int64][]bool{}
	for _, m := range []int64{64, 45045} {
		all[m] = make([]bool, m)
		for i := range m {
			all[m][i*i%m] = true
		}
	}
	return all
}()

// maybeSquare is false for almost every number that is no square, and costs far less than a root.
func maybeSquare(n *big.Int) bool {
	if low := n.Bits(); len(low) > 0 && !residues[64][low[0]&63] {
		return false
	}
	return residues[45045][new(big.Int).Mod(n, big.NewInt(45045)).Int64()]
}
