// Package api answers the audit operations of the contract.
package api

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/go-chi/chi/v5"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/certctl/certctl/contracts/httpapi/auditapi"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/httpx"
	"github.com/certctl/certctl/libs/page"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/audit/internal/chain"
	"github.com/certctl/certctl/services/audit/internal/postgres"
)

// API implements the operations over the audit schema.
type API struct {
	Pool *pgxpool.Pool
}

var _ auditapi.StrictServerInterface = API{}

// Handler returns the operations' handler.
func (a API) Handler() http.Handler {
	return auditapi.HandlerFromMux(auditapi.NewStrictHandlerWithOptions(a, nil, auditapi.StrictHTTPServerOptions{
		RequestErrorHandlerFunc:  httpx.WriteRequestError,
		ResponseErrorHandlerFunc: httpx.WriteProblem,
	}), chi.NewRouter())
}

// ListAuditEvents lists events, newest first.
func (a API) ListAuditEvents(ctx context.Context, r auditapi.ListAuditEventsRequestObject) (auditapi.ListAuditEventsResponseObject, error) {
	size, err := page.Size(r.Params.PerPage)
	if err != nil {
		return nil, err
	}
	number, err := page.Number(r.Params.Page, size)
	if err != nil {
		return nil, err
	}
	f := postgres.Filter{
		Actor: value(r.Params.Actor), Action: value(r.Params.Action),
		ResourceType: value(r.Params.ResourceType), ResourceID: value(r.Params.ResourceID),
		Limit: size + 1, Offset: (number - 1) * size,
	}
	if r.Params.Cursor != nil {
		c, err := page.Parse(*r.Params.Cursor)
		if err != nil {
			return nil, err
		}
		if f.Before, err = strconv.ParseInt(c.Key, 10, 64); err != nil || f.Before < 1 {
			return nil, fault.InvalidFields(fault.Field{Name: "cursor", Reason: "is not one that this list has given"})
		}
		f.Offset = 0
	}
	events, err := postgres.List(ctx, a.Pool, f)
	if err != nil {
		return nil, pg.Fault(err)
	}
	total, err := postgres.Count(ctx, a.Pool, f)
	if err != nil {
		return nil, pg.Fault(err)
	}
	out := auditapi.ListAuditEvents200JSONResponse{Data: []auditapi.AuditEvent{}, Total: total, Page: number, PerPage: size}
	if len(events) > size {
		events = events[:size]
		last := events[size-1]
		next := page.Cursor{Key: strconv.FormatInt(last.Sequence, 10), ID: last.ID}.String()
		out.NextCursor = &next
	}
	for i := range events {
		e, err := shown(&events[i])
		if err != nil {
			return nil, err
		}
		out.Data = append(out.Data, e)
	}
	return out, nil
}

// GetAuditEvent returns one event by its own id.
func (a API) GetAuditEvent(ctx context.Context, r auditapi.GetAuditEventRequestObject) (auditapi.GetAuditEventResponseObject, error) {
	e, err := postgres.Get(ctx, a.Pool, r.ID)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, fault.New(fault.NotFound, "there is no audit event %q", r.ID)
	}
	if err != nil {
		return nil, pg.Fault(err)
	}
	out, err := shown(&e)
	return auditapi.GetAuditEvent200JSONResponse(out), err
}

func shown(e *chain.Event) (auditapi.AuditEvent, error) {
	out := auditapi.AuditEvent{
		ID: e.ID, Sequence: e.Sequence, Actor: e.Actor, ActorType: auditapi.AuditEventActorType(e.ActorType),
		Action: e.Action, ResourceType: e.ResourceType, ResourceID: e.ResourceID,
		Timestamp: e.At.UTC(), Hash: hex.EncodeToString(e.Hash[:]),
	}
	return out, json.Unmarshal([]byte(e.Details), &out.Details)
}

func value(p *string) string {
	if p == nil {
		return ""
	}
	return *p
}
