package admin

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/certctl/certctl/services/audit"
	"github.com/certctl/certctl/services/certctl/internal/platform"
)

// verification is what the tool was asked for.
type verification struct {
	export, key, checkpoints string
	partial                  bool
}

func verificationOf(args []string) (v verification, err error) {
	flags := flag.NewFlagSet("certctl admin audit verify", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&v.export, "export", "", "")
	flags.StringVar(&v.key, "key", "", "")
	flags.StringVar(&v.checkpoints, "checkpoints", "", "")
	flags.BoolVar(&v.partial, "partial", false, "")
	if err := flags.Parse(args); err != nil {
		return v, err
	}
	if flags.NArg() > 0 {
		return v, fmt.Errorf("no argument %q", flags.Arg(0))
	}
	if v.partial && v.export == "" {
		return v, errors.New("--partial is for exports; the chain in the database is whole")
	}
	return v, nil
}

// evidence reads the files that were kept elsewhere.
func (v verification) evidence() (e audit.Evidence, err error) {
	e.Partial = v.partial
	for _, f := range []struct {
		name string
		into *[]byte
	}{{v.key, &e.Key}, {v.checkpoints, &e.Checkpoints}} {
		if f.name == "" {
			continue
		}
		if *f.into, err = os.ReadFile(f.name); err != nil {
			return e, err
		}
	}
	return e, nil
}

// verifyAudit reads the chain of a running installation, or an export, which needs none.
func verifyAudit(ctx context.Context, t *toolbox, args []string) error {
	v, err := verificationOf(args)
	if err != nil {
		return err
	}
	evidence, err := v.evidence()
	if err != nil {
		return err
	}
	verify := func() (audit.Report, error) { return t.verifyStored(ctx, evidence) }
	if v.export != "" {
		verify = func() (audit.Report, error) { return verifyFile(v.export, evidence) }
	}
	report, err := verify()
	if err != nil {
		if _, found := errors.AsType[*audit.Finding](err); found {
			return fmt.Errorf("the audit chain is not what was recorded, after %d good events: %w", report.Events, err)
		}
		return err
	}
	return tell(t.out, report)
}

func (t *toolbox) verifyStored(ctx context.Context, e audit.Evidence) (audit.Report, error) {
	in, err := platform.Attach(t.cfg.Platform, t.log)
	if err != nil {
		return audit.Report{}, err
	}
	pool, err := in.Database.Pool(ctx, "audit")
	if err != nil {
		return audit.Report{}, err
	}
	defer pool.Close()
	return audit.Verify(ctx, pool, e)
}

func verifyFile(name string, e audit.Evidence) (audit.Report, error) {
	if name == "-" {
		return audit.VerifyExport(os.Stdin, e)
	}
	file, err := os.Open(name)
	if err != nil {
		return audit.Report{}, err
	}
	defer file.Close()
	return audit.VerifyExport(file, e)
}

// tell says what was proven, and what was not.
func tell(out io.Writer, r audit.Report) error {
	say := func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) }
	if r.Gaps == 0 && r.First <= 1 {
		say("The audit chain is intact: %d events, the last with the hash %s.", r.Events, r.Hash)
	} else {
		say("Each of %d events, from %d to %d, is as its hash says; others were left out, in %d places.", r.Events, r.First, r.Last, r.Gaps)
	}
	switch {
	case r.Checkpoints == 0:
		say("No checkpoint vouches for them: whoever could rewrite all of them, hashes too, is not found out.")
		return nil
	case r.Signatures:
		say("%d checkpoints were held against it, and their signatures against the key; the last is at event %d.", r.Checkpoints, r.Signed)
	default:
		say("%d checkpoints were held against it; the last is at event %d. Their signatures were not verified: give the key with --key.",
			r.Checkpoints, r.Signed)
	}
	if behind := r.Last - r.Signed; behind > 0 {
		say("Not signed yet are the last %d places.", behind)
	}
	return nil
}
