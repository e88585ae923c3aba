package audit

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/certctl/certctl/services/audit/internal/chain"
	"github.com/certctl/certctl/services/audit/internal/export"
	"github.com/certctl/certctl/services/audit/internal/postgres"
	"github.com/certctl/certctl/services/audit/internal/proof"
)

// Report is what a verification has read; see package proof.
type Report = proof.Report

// Finding is the error of a verification that found the chain not to be what was
// recorded.
type Finding = proof.Finding

// Evidence is what a chain is held against.
type Evidence struct {
	// Key is the public key of checkpoints in PEM, as it was kept elsewhere. Without it the
	// one in the database is taken, and signatures in a file are taken on trust.
	Key []byte
	// Checkpoints are some that were kept elsewhere: an answer to the list of checkpoints,
	// or one of them.
	Checkpoints []byte
	// Partial allows a file of which events were left out on purpose.
	Partial bool
}

func (e Evidence) verifier() (*proof.Verifier, error) {
	v := &proof.Verifier{Partial: e.Partial}
	if e.Key != nil {
		key, err := chain.ReadPublicKey(e.Key)
		if err != nil {
			return nil, err
		}
		v.Key = key
	}
	return v, nil
}

// keep adds the checkpoints that were kept elsewhere.
func (e Evidence) keep(v *proof.Verifier) error {
	if e.Checkpoints == nil {
		return nil
	}
	kept, err := export.ReadCheckpoints(e.Checkpoints)
	if err != nil {
		return err
	}
	for i := range kept {
		if err := v.Checkpoint(&kept[i]); err != nil {
			return err
		}
	}
	return nil
}

// Verify reads the whole chain through pool. The error is a [Finding] if the chain is not
// what was recorded; the report then tells how far it is.
func Verify(ctx context.Context, pool *pgxpool.Pool, e Evidence) (Report, error) {
	v, err := e.verifier()
	if err != nil {
		return Report{}, err
	}
	if v.Key == nil {
		if v.Key, _, err = postgres.Key(ctx, pool); err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return Report{}, err
		}
	}
	if err := e.keep(v); err != nil {
		return Report{}, err
	}
	return postgres.Verify(ctx, pool, v)
}

// VerifyExport reads an export of any format. No database is needed.
func VerifyExport(file io.Reader, e Evidence) (Report, error) {
	v, err := e.verifier()
	if err != nil {
		return Report{}, err
	}
	if err := e.keep(v); err != nil {
		return Report{}, err
	}
	if err := export.Read(file, v); err != nil {
		return v.Report(), err
	}
	r, err := v.End()
	if err == nil && r.Events == 0 {
		err = fmt.Errorf("the export holds no events: %w", io.ErrUnexpectedEOF)
	}
	return r, err
}
