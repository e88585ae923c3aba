// Package api answers the HTTP operations that the deployment service owns.
//
// Whether a caller may use an operation was decided at the gateway; here its scope is
// applied. Jobs belong to certificates, and are hidden with them. Sites, agents and
// targets serve all teams: whoever is limited to some of them may look, and may change
// nothing.
package api

import (
	"context"
	"errors"
	"net/http"

	"github.com/go-chi/chi/v5"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/httpapi/deploymentapi"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/httpx"
	"github.com/certctl/certctl/libs/id"
	"github.com/certctl/certctl/libs/outbox"
	"github.com/certctl/certctl/libs/page"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/deployment/internal/desk"
	"github.com/certctl/certctl/services/deployment/internal/enrolment"
	"github.com/certctl/certctl/services/deployment/internal/outgoing"
)

// Answers implements the operations.
type Answers struct {
	DB     *pgxpool.Pool
	Office *enrolment.Office
	Desk   *desk.Desk
	// Issuer is whom to ask about certificates without targets, and about policies.
	Issuer Issuer
	Clock  clock.Clock
	// Committed is called after a commit that left something to be done or said.
	Committed func()

	figures figures
	totals  pg.Totals
}

var _ deploymentapi.StrictServerInterface = &Answers{}

const maxBody = 1 << 20

// Handler serves the operations.
func (a *Answers) Handler() http.Handler {
	r := chi.NewRouter()
	r.Use(httpx.BodyLimit(maxBody), recognised)
	r.NotFound(httpx.NotFound)
	strict := deploymentapi.NewStrictHandlerWithOptions(a, nil, deploymentapi.StrictHTTPServerOptions{
		RequestErrorHandlerFunc:  httpx.WriteRequestError,
		ResponseErrorHandlerFunc: func(w http.ResponseWriter, r *http.Request, err error) { httpx.WriteProblem(w, r, pg.Fault(err)) },
	})
	return deploymentapi.HandlerWithOptions(strict, deploymentapi.ChiServerOptions{BaseRouter: r, ErrorHandlerFunc: badParameter})
}

// recognised refuses a request that came past the gateway, which says of each who asks.
func recognised(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if authn.FromContext(r.Context()).Kind == "" {
			httpx.WriteProblem(w, r, fault.New(fault.Unauthenticated, "the request does not say who asks"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

func badParameter(w http.ResponseWriter, r *http.Request, err error) {
	if e, ok := errors.AsType[*deploymentapi.InvalidParamFormatError](err); ok {
		err = fault.InvalidFields(fault.Field{Name: e.ParamName, Reason: "is not of the right form"})
	}
	httpx.WriteRequestError(w, r, err)
}

// shapes refuses a caller who may not change what serves all teams.
func shapes(ctx context.Context) error {
	if !authn.FromContext(ctx).Scope.Unlimited() {
		return fault.New(fault.Forbidden, "sites, agents and targets serve all teams, and your key is limited to some")
	}
	return nil
}

// chosen is the id that a client gives to what it creates, or a fresh one.
func chosen(given *string, prefix string) (string, error) {
	if given == nil || *given == "" {
		return id.New(prefix), nil
	}
	if !id.Valid(*given) {
		return "", fault.InvalidFields(fault.Field{Name: "id", Reason: "must match [a-z0-9][a-z0-9_-]{0,63}"})
	}
	return *given, nil
}

// known refuses an id that nothing can have.
func known(what, given string) error {
	if !id.Valid(given) {
		return fault.New(fault.NotFound, "there is no such %s", what)
	}
	return nil
}

// window is the part of a list that is asked for.
type window struct {
	number, size int
}

func (w window) offset() int { return (w.number - 1) * w.size }

func ask(number, size *int) (window, error) {
	var w window
	var err error
	if w.size, err = page.Size(size); err != nil {
		return w, err
	}
	w.number, err = page.Number(number, w.size)
	return w, err
}

// say writes an event into the outbox, for the request of ctx.
func (a *Answers) say(ctx context.Context, tx pgx.Tx, e event.Event, revision int64) error {
	m, err := outgoing.Event(e, revision, a.Clock.Now(), outgoing.CauseOf(ctx))
	if err != nil {
		return err
	}
	return outbox.Insert(ctx, tx, m)
}

// change runs a transaction that leaves something to be done or said.
func (a *Answers) change(ctx context.Context, do func(pgx.Tx) error) error {
	if err := pg.InTx(ctx, a.DB, do); err != nil {
		return err
	}
	a.Committed()
	return nil
}
