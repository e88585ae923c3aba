package blockedkey

import (
	"crypto/rand"
	"crypto/rsa"
	"math/big"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/certctl/certctl/services/issuer/internal/ca/catest"
)

func prime(t *testing.T, bits int) *big.Int {
	t.Helper()
	p, err := rand.Prime(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// primeAfter is the next prime behind p + gap.
func primeAfter(p, gap *big.Int) *big.Int {
	q := new(big.Int).Add(p, gap)
	q.SetBit(q, 0, 1)
	for !q.ProbablyPrime(20) {
		q.Add(q, big.NewInt(2))
	}
	return q
}

func power(n uint) *big.Int { return new(big.Int).Lsh(big.NewInt(1), n) }

// marked is a modulus with the mark of the hardware that made ROCA's keys: its remainders modulo the primes of the test
// are powers of 65537, here all of them one.
func marked() *big.Int {
	m := big.NewInt(2)
	for _, p := range []int64{11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157} {
		m.Mul(m, big.NewInt(p))
	}
	n := new(big.Int).Mul(m, new(big.Int).Div(power(2047), m))
	n.Add(n, m).Add(n, big.NewInt(1))
	for new(big.Int).GCD(nil, nil, n, small).Cmp(big.NewInt(1)) != 0 {
		n.Add(n, m)
	}
	return n
}

func TestWeakness_NamesTheWayInWhichAKeyCanBeComputed(t *testing.T) {
	p, q := prime(t, 1024), prime(t, 1024)
	good := new(big.Int).Mul(p, q)
	for name, tt := range map[string]struct {
		n    *big.Int
		e    int
		says string // nothing for a key that is good
	}{
		"a good one":                   {good, 65537, ""},
		"a larger exponent":            {good, 1<<30 + 1, ""},
		"a small exponent":             {good, 3, "exponent 3"},
		"an even exponent":             {good, 1 << 20, "exponent 1048576"},
		"an even modulus":              {new(big.Int).Lsh(good, 1), 65537, "a small number"},
		"a small factor":               {new(big.Int).Mul(p, big.NewInt(751)), 65537, "a small number"},
		"the least factor that passes": {new(big.Int).Mul(p, big.NewInt(757)), 65537, ""},
		"the mark of ROCA":             {marked(), 65537, "ROCA"},
		"the same prime twice":         {new(big.Int).Mul(p, p), 65537, "close"},
		"the next prime":               {new(big.Int).Mul(p, primeAfter(p, big.NewInt(2))), 65537, "close"},
		// Fermat's method takes about (p-q)² / 8√n rounds.
		"primes some rounds apart": {new(big.Int).Mul(p, primeAfter(p, power(516))), 65537, "close"},
		"primes too far apart":     {new(big.Int).Mul(p, primeAfter(p, power(600))), 65537, ""},
	} {
		got := weakness(&rsa.PublicKey{N: tt.n, E: tt.e})
		if (got == "") != (tt.says == "") || !strings.Contains(got, tt.says) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestWeakness_IsOfNoKeyThatIsMadeWell(t *testing.T) {
	for _, kind := range []string{"RSA 2048", "RSA 2048", "ECDSA P-256", "ECDSA P-384", "Ed25519"} {
		if why := weakness(catest.NewKey(t, kind).Public()); why != "" {
			t.Errorf("%s: %s", kind, why)
		}
	}
}

func TestMaybeSquare_IsTrueOfEverySquare(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := new(big.Int).SetBytes(rapid.SliceOfN(rapid.Byte(), 0, 64).Draw(t, "n"))
		if !maybeSquare(n.Mul(n, n)) {
			t.Fatalf("not of %s", n)
		}
	})
}
