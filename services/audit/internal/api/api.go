// Package api answers the audit operations of the contract.
package api

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/certctl/certctl/contracts/httpapi/auditapi"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/clock"
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
	// Streams is where dead letters are.
	Streams jetstream.JetStream
	// Clock names exported files; nil is the system's.
	Clock clock.Clock
	// Log is told of exports that break off; nil is nobody.
	Log *slog.Logger

	totals *pg.Totals
	// exports holds a token for each export that is being read.
	exports chan struct{}
}

var _ auditapi.StrictServerInterface = API{}

// Handler returns the operations' handler.
func (a API) Handler() http.Handler {
	a.totals, a.exports = new(pg.Totals), make(chan struct{}, maxExports)
	strict := auditapi.NewStrictHandlerWithOptions(a, nil, auditapi.StrictHTTPServerOptions{
		RequestErrorHandlerFunc:  httpx.WriteRequestError,
		ResponseErrorHandlerFunc: httpx.WriteProblem,
	})
	return auditapi.HandlerWithOptions(strict, auditapi.ChiServerOptions{BaseRouter: chi.NewRouter(), ErrorHandlerFunc: badParameter})
}

func badParameter(w http.ResponseWriter, r *http.Request, err error) {
	if e, ok := errors.AsType[*auditapi.InvalidParamFormatError](err); ok {
		err = fault.InvalidFields(fault.Field{Name: e.ParamName, Reason: "is not of the right form"})
	}
	httpx.WriteRequestError(w, r, err)
}

func (a API) now() time.Time {
	if a.Clock == nil {
		return clock.System.Now()
	}
	return a.Clock.Now()
}

// ListAuditEvents lists events, newest first.
func (a API) ListAuditEvents(ctx context.Context, r auditapi.ListAuditEventsRequestObject) (auditapi.ListAuditEventsResponseObject, error) {
	p := r.Params
	list, err := a.list(ctx, asked{
		actor: p.Actor, action: p.Action, resourceType: p.ResourceType, resourceID: p.ResourceID, resource: p.Resource,
		since: p.Since, until: p.Until, after: p.After, before: p.Before, q: p.Q,
	}, p.Page, p.PerPage, p.Cursor)
	return auditapi.ListAuditEvents200JSONResponse(list), err
}

// ListAuditEventsOfResource lists the events of one resource, newest first.
func (a API) ListAuditEventsOfResource(ctx context.Context, r auditapi.ListAuditEventsOfResourceRequestObject) (auditapi.ListAuditEventsOfResourceResponseObject, error) {
	p := r.Params
	list, err := a.list(ctx, asked{
		actor: p.Actor, action: p.Action, resourceType: &r.ResourceType, resourceID: &r.ResourceID, since: p.Since, until: p.Until,
	}, p.Page, p.PerPage, p.Cursor)
	return auditapi.ListAuditEventsOfResource200JSONResponse(list), err
}

func (a API) list(ctx context.Context, want asked, number, perPage *int, cursor *string) (auditapi.AuditEventList, error) {
	none := auditapi.AuditEventList{}
	if err := admit(ctx); err != nil {
		return none, err
	}
	size, n, err := bounds(perPage, number)
	if err != nil {
		return none, err
	}
	f, err := filter(want)
	if err != nil {
		return none, err
	}
	if f.Search, err = postgres.Search.Ask(want.q, a.now()); err != nil {
		return none, err
	}
	if f.Behind, err = behind(cursor); err != nil {
		return none, err
	}
	// One more than is shown tells whether the list goes on.
	f.Limit = size + 1
	if f.Behind.Sequence == 0 {
		f.Offset = (n - 1) * size
	}
	events, err := postgres.List(ctx, a.Pool, f)
	if err != nil {
		return none, pg.Fault(err)
	}
	total, err := postgres.Count(ctx, a.totals, a.Pool, f)
	if err != nil {
		return none, pg.Fault(err)
	}
	out := auditapi.AuditEventList{Data: []auditapi.AuditEvent{}, Total: total, Page: n, PerPage: size}
	if len(events) > size {
		events = events[:size]
		last := events[size-1]
		next := page.At(last.At, strconv.FormatInt(last.Sequence, 10)).String()
		out.NextCursor = &next
	}
	for i := range events {
		e, err := shown(&events[i])
		if err != nil {
			return none, err
		}
		out.Data = append(out.Data, e)
	}
	return out, nil
}

// admit lets only those in who may see everything: events bear no team, environment or
// issuer by which they could be kept from others.
func admit(ctx context.Context) error {
	p := authn.FromContext(ctx)
	if !p.Can(authn.Scope{}) {
		return fault.New(fault.Unauthenticated, "the request carries no principal")
	}
	if !p.Scope.Unlimited() {
		return fault.New(fault.Forbidden, "the audit trail is open only to those whose scope has no limits")
	}
	return nil
}

// GetAuditEvent returns one event by its own id.
func (a API) GetAuditEvent(ctx context.Context, r auditapi.GetAuditEventRequestObject) (auditapi.GetAuditEventResponseObject, error) {
	if err := admit(ctx); err != nil {
		return nil, err
	}
	if !storable(r.ID) {
		return nil, fault.New(fault.NotFound, "there is no audit event %q", r.ID)
	}
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
	// Numbers are shown as they were recorded, however large.
	details := json.NewDecoder(strings.NewReader(e.Details))
	details.UseNumber()
	return out, details.Decode(&out.Details)
}
