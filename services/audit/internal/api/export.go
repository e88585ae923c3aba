package api

import (
	"context"
	"fmt"
	"net/http"

	"github.com/certctl/certctl/contracts/httpapi/auditapi"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/obs"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/audit/internal/export"
	"github.com/certctl/certctl/services/audit/internal/postgres"
)

// maxExports is how many exports may be read at once: one that is read slowly must not
// take the place of a call that waits.
const maxExports = 8

// ExportAuditEvents streams events, oldest first, up to the one that is newest now.
func (a API) ExportAuditEvents(ctx context.Context, r auditapi.ExportAuditEventsRequestObject) (auditapi.ExportAuditEventsResponseObject, error) {
	if err := admit(ctx); err != nil {
		return nil, err
	}
	p := r.Params
	e := exporting{ctx: ctx, api: a, format: export.JSON}
	if p.Format != nil {
		if !p.Format.Valid() {
			return nil, fault.InvalidFields(fault.Field{Name: "format", Reason: "must be csv, json or jsonl"})
		}
		e.format = export.Format(*p.Format)
	}
	var err error
	e.filter, err = filter(asked{
		actor: p.Actor, action: p.Action, resourceType: p.ResourceType, resourceID: p.ResourceID, resource: p.Resource,
		since: p.Since, until: p.Until, after: p.After, before: p.Before,
	})
	if err != nil {
		return nil, err
	}
	select {
	case a.exports <- struct{}{}:
	default:
		return nil, fault.New(fault.Unavailable, "%d exports are being read; try again when one of them has ended", maxExports)
	}
	// Whether the database is there shows before the answer begins.
	head, err := postgres.Head(ctx, a.Pool)
	if err != nil {
		<-a.exports
		return nil, pg.Fault(err)
	}
	e.last = head.Sequence
	return e, nil
}

// exporting is an answer that is made while it is read: whoever reads slowly has it made
// slowly.
type exporting struct {
	ctx    context.Context //nolint:containedctx // the generated interface has no other place for it
	api    API
	format export.Format
	filter postgres.Filter
	last   int64
}

// VisitExportAuditEventsResponse implements the answer.
func (e exporting) VisitExportAuditEventsResponse(w http.ResponseWriter) error {
	defer func() { <-e.api.exports }()
	name := "certctl-audit-" + e.api.now().UTC().Format("20060102T150405Z") + "." + string(e.format)
	w.Header().Set("Content-Type", e.format.ContentType())
	w.Header().Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", name))
	w.WriteHeader(http.StatusOK)
	// The first rows of a filter that matches little may be long in coming, and the caller does not wait long for an
	// answer to begin.
	if err := http.NewResponseController(w).Flush(); err != nil {
		return e.broken(err)
	}
	if err := e.write(w); err != nil {
		return e.broken(err)
	}
	return nil
}

func (e exporting) write(w http.ResponseWriter) error {
	out := export.NewWriter(w, e.format)
	for c, err := range postgres.Checkpoints(e.ctx, e.api.Pool, e.last) {
		if err != nil {
			return err
		}
		if err := out.Checkpoint(&c); err != nil {
			return err
		}
	}
	for r, err := range postgres.Export(e.ctx, e.api.Pool, e.filter, e.last) {
		if err != nil {
			return err
		}
		if err := out.Row(&r); err != nil {
			return err
		}
	}
	return out.Close()
}

// broken breaks the answer off, since half of one was sent: nobody must take it for the
// whole.
func (e exporting) broken(err error) error {
	if e.ctx.Err() == nil && e.api.Log != nil {
		e.api.Log.ErrorContext(e.ctx, "export was broken off", obs.KeyError, err)
	}
	panic(http.ErrAbortHandler)
}
