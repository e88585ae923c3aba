// Package api answers the audit operations of the contract.
package api

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-chi/chi/v5"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

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
	if err := admit(ctx); err != nil {
		return nil, err
	}
	size, err := page.Size(r.Params.PerPage)
	if err != nil {
		return nil, err
	}
	number, err := page.Number(r.Params.Page, size)
	if err != nil {
		return nil, err
	}
	f, err := filter(r.Params)
	if err != nil {
		return nil, err
	}
	f.Limit = size + 1
	if f.Before == 0 {
		f.Offset = (number - 1) * size
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

// filter reads what is asked for, and where to go on.
func filter(p auditapi.ListAuditEventsParams) (postgres.Filter, error) {
	var f postgres.Filter
	for _, c := range [...]struct {
		name  string
		asked *string
		into  *string
	}{
		{"actor", p.Actor, &f.Actor},
		{"action", p.Action, &f.Action},
		{"resource_type", p.ResourceType, &f.ResourceType},
		{"resource_id", p.ResourceID, &f.ResourceID},
	} {
		if c.asked == nil {
			continue
		}
		if !storable(*c.asked) {
			return f, fault.InvalidFields(fault.Field{Name: c.name, Reason: "is not text"})
		}
		*c.into = *c.asked
	}
	var err error
	if f.Search, err = postgres.Search.Ask(p.Q, clock.System.Now()); err != nil || p.Cursor == nil || *p.Cursor == "" {
		return f, err
	}
	c, err := page.Parse(*p.Cursor)
	if err != nil {
		return f, err
	}
	if f.Before, err = strconv.ParseInt(c.Key, 10, 64); err != nil || f.Before < 1 {
		return f, fault.InvalidFields(fault.Field{Name: "cursor", Reason: "is not one that this list has given"})
	}
	return f, nil
}

// storable tells whether Postgres takes s as text; what it does not take it does not hold.
func storable(s string) bool { return utf8.ValidString(s) && !strings.ContainsRune(s, 0) }

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
