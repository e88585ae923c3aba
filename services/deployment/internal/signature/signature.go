// Package signature verifies the signatures of agents' reports, many at once.
//
// Signatures are added up with random factors, and the sum is verified, which takes half the time: it comes out right with
// a forged one among them once in 2^128 times. A sum that is wrong does not say which it is, so each is looked at by
// itself then. Agents sign as RFC 8032 says, which every way to verify accepts. Whoever has an agent's key can make
// signatures that only some ways accept (https://hdevalence.ca/blog/2020-10-04-its-25519am), and gains nothing by it here.
package signature

import (
	"github.com/hdevalence/ed25519consensus"

	"github.com/certctl/certctl/libs/natsauth"
)

// together is from how many on signatures are added up.
const together = 8

// Report is a report with the key, in nkey form, of the agent that is to have signed it.
type Report struct {
	AgentKey           string
	Payload, Signature []byte
}

// Verify tells whether each report is signed by its agent. If one is not it returns its index, with the error.
func Verify(reports []Report) (int, error) {
	if len(reports) >= together && addUp(reports) {
		return 0, nil
	}
	for i, r := range reports {
		if err := natsauth.VerifyReport(r.AgentKey, r.Payload, r.Signature); err != nil {
			return i, err
		}
	}
	return 0, nil
}

func addUp(reports []Report) bool {
	sum := ed25519consensus.NewPreallocatedBatchVerifier(len(reports))
	for _, r := range reports {
		key, err := natsauth.PublicKey(r.AgentKey)
		if err != nil {
			return false
		}
		sum.Add(key, natsauth.SignedBytes(r.Payload), r.Signature)
	}
	return sum.Verify()
}
