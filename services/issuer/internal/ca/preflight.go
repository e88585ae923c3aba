package ca

import (
	"context"

	"github.com/certctl/certctl/libs/x509x"
)

// Tester is an Issuer that needs more than its CA to issue, and can find out whether that works. Opening it does not.
type Tester interface {
	// Test leaves nothing behind. Its error says in words for an operator what is wrong.
	Test(ctx context.Context) error
}

// Verdict is what a finding comes to.
type Verdict string

// The verdicts.
const (
	// Allows means that nothing was found that is in the way.
	Allows Verdict = "ok"
	// Warns means that it may fail, as far as can be seen from here.
	Warns Verdict = "warning"
	// Forbids means that it is certain to fail.
	Forbids Verdict = "forbidden"
)

// Finding is what was found out about one name before a CA is asked for it.
type Finding struct {
	Name string
	// Check is what was looked at, such as caa.
	Check   string
	Verdict Verdict
	// Says is what was found and, unless all is well, what to do about it.
	Says string
}

// Preflighter is an Issuer whose CA wants names to be proven, and that can tell beforehand what would keep it from issuing.
type Preflighter interface {
	// Preflight asks the CA for nothing that it counts.
	Preflight(ctx context.Context, names x509x.Names) ([]Finding, error)
}

// Worst is the verdict of findings together.
func Worst(findings []Finding) Verdict {
	worst := Allows
	for _, f := range findings {
		if f.Verdict == Forbids || f.Verdict == Warns && worst == Allows {
			worst = f.Verdict
		}
	}
	return worst
}
