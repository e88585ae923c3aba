package signature_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/certctl/certctl/libs/natsauth"
	"github.com/certctl/certctl/services/deployment/internal/signature"
)

// reports are of three agents in turn.
func reports(t testing.TB, n int) []signature.Report {
	t.Helper()
	var seeds, keys []string
	for range 3 {
		seed, key, err := natsauth.NewUserKey()
		if err != nil {
			t.Fatal(err)
		}
		seeds, keys = append(seeds, seed), append(keys, key)
	}
	all := make([]signature.Report, n)
	for i := range all {
		payload := fmt.Appendf(nil, "report %d %0300d", i, i)
		signed, err := natsauth.SignReport(seeds[i%3], payload)
		if err != nil {
			t.Fatal(err)
		}
		all[i] = signature.Report{AgentKey: keys[i%3], Payload: payload, Signature: signed}
	}
	return all
}

func TestVerify_AcceptsWhatAgentsSign(t *testing.T) {
	for _, n := range []int{0, 1, 7, 8, 100} {
		if i, err := signature.Verify(reports(t, n)); err != nil {
			t.Errorf("of %d: report %d: %v", n, i, err)
		}
	}
}

func TestVerify_FindsTheOneThatItsAgentHasNotSigned(t *testing.T) {
	for name, forge := range map[string]func(*signature.Report, signature.Report){
		"another payload":     func(r *signature.Report, _ signature.Report) { r.Payload = append(slices.Clone(r.Payload), ' ') },
		"another agent":       func(r *signature.Report, other signature.Report) { r.AgentKey = other.AgentKey },
		"another's signature": func(r *signature.Report, other signature.Report) { r.Signature = other.Signature },
		"a bit of R": func(r *signature.Report, _ signature.Report) {
			r.Signature = slices.Clone(r.Signature)
			r.Signature[3] ^= 1
		},
		"a bit of S": func(r *signature.Report, _ signature.Report) {
			r.Signature = slices.Clone(r.Signature)
			r.Signature[40] ^= 1
		},
		"no signature":          func(r *signature.Report, _ signature.Report) { r.Signature = nil },
		"a signature too short": func(r *signature.Report, _ signature.Report) { r.Signature = r.Signature[:10] },
		"no key":                func(r *signature.Report, _ signature.Report) { r.AgentKey = "" },
		"a command's signature": func(r *signature.Report, _ signature.Report) {
			seed, key, err := natsauth.NewUserKey()
			if err != nil {
				t.Fatal(err)
			}
			r.AgentKey = key
			if r.Signature, err = natsauth.SignCommand(seed, r.Payload); err != nil {
				t.Fatal(err)
			}
		},
	} {
		for _, n := range []int{2, 8, 50} {
			all := reports(t, n)
			forge(&all[n-1], all[n-2])
			if i, err := signature.Verify(all); err == nil || i != n-1 {
				t.Errorf("%s among %d: report %d, %v", name, n, i, err)
			}
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	for _, n := range []int{1, 8, 150} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			all := reports(b, n)
			for b.Loop() {
				if _, err := signature.Verify(all); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/report")
		})
	}
}
