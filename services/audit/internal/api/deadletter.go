package api

import (
	"context"
	"strconv"

	"github.com/certctl/certctl/contracts/httpapi/auditapi"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/page"
	"github.com/certctl/certctl/services/audit/internal/deadletter"
)

// ListDeadLetters lists what consumers gave up on, newest first.
func (a API) ListDeadLetters(ctx context.Context, r auditapi.ListDeadLettersRequestObject) (auditapi.ListDeadLettersResponseObject, error) {
	if err := admit(ctx); err != nil {
		return nil, err
	}
	size, number, err := bounds(r.Params.PerPage, r.Params.Page)
	if err != nil {
		return nil, err
	}
	if a.Streams == nil {
		return nil, fault.New(fault.Unavailable, "the stream of dead letters cannot be read now")
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
	letters, total, err := deadletter.List(ctx, a.Streams, uint64(before), size+1, offset)
	if err != nil {
		return nil, err
	}
	out := auditapi.ListDeadLetters200JSONResponse{Data: []auditapi.DeadLetter{}, Total: total, Page: number, PerPage: size}
	if len(letters) > size {
		letters = letters[:size]
		next := page.Cursor{ID: strconv.FormatUint(letters[size-1].Sequence, 10)}.String()
		out.NextCursor = &next
	}
	for _, l := range letters {
		out.Data = append(out.Data, auditapi.DeadLetter{
			ID: strconv.FormatUint(l.Sequence, 10), Service: l.Service, Consumer: l.Consumer, Reason: l.Reason, Delivered: l.Delivered,
			Subject: l.Subject, MessageID: l.MessageID, Type: l.Type, Entity: l.Entity, Size: l.Size, StoredAt: l.StoredAt,
		})
	}
	return out, nil
}
