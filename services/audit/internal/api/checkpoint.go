package api

import (
	"bytes"
	"context"
	"errors"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/contracts/httpapi/auditapi"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/page"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/audit/internal/export"
	"github.com/certctl/certctl/services/audit/internal/postgres"
)

// ListAuditCheckpoints lists checkpoints, newest first.
func (a API) ListAuditCheckpoints(ctx context.Context, r auditapi.ListAuditCheckpointsRequestObject) (auditapi.ListAuditCheckpointsResponseObject, error) {
	if err := admit(ctx); err != nil {
		return nil, err
	}
	size, number, err := bounds(r.Params.PerPage, r.Params.Page)
	if err != nil {
		return nil, err
	}
	var before int64
	offset := (number - 1) * size
	if c := r.Params.Cursor; c != nil && *c != "" {
		at, err := page.Parse(*c)
		if err != nil {
			return nil, err
		}
		if before, err = place(at.ID); err != nil {
			return nil, err
		}
		offset = 0
	}
	some, err := postgres.ListCheckpoints(ctx, a.Pool, before, size+1, offset)
	if err != nil {
		return nil, pg.Fault(err)
	}
	total, err := postgres.CountCheckpoints(ctx, a.Pool)
	if err != nil {
		return nil, pg.Fault(err)
	}
	out := auditapi.ListAuditCheckpoints200JSONResponse{Data: []auditapi.AuditCheckpoint{}, Total: total, Page: number, PerPage: size}
	if len(some) > size {
		some = some[:size]
		next := page.Cursor{ID: strconv.FormatInt(some[size-1].Sequence, 10)}.String()
		out.NextCursor = &next
	}
	for i := range some {
		c := export.Shown(&some[i])
		out.Data = append(out.Data, auditapi.AuditCheckpoint{
			Sequence: c.Sequence, Hash: c.Hash, SignedAt: c.SignedAt, KeyID: c.KeyID, Signature: c.Signature,
		})
	}
	return out, nil
}

// GetAuditCheckpointKey returns the key that checkpoints are verified with.
func (a API) GetAuditCheckpointKey(ctx context.Context, _ auditapi.GetAuditCheckpointKeyRequestObject) (auditapi.GetAuditCheckpointKeyResponseObject, error) {
	if err := admit(ctx); err != nil {
		return nil, err
	}
	key, _, err := postgres.Key(ctx, a.Pool)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, fault.New(fault.NotFound, "no checkpoint was signed yet")
	}
	if err != nil {
		return nil, pg.Fault(err)
	}
	text := key.PEM()
	return auditapi.GetAuditCheckpointKey200ApplicationXPemFileResponse{Body: bytes.NewReader(text), ContentLength: int64(len(text))}, nil
}
