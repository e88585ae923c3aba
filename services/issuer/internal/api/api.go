// Package api answers the issuer's HTTP operations. It translates: requests into use cases, records into the contract's
// models, errors into problems. The principal that the gateway recognised is taken from the context; a request without
// one is refused.
package api

import (
	"context"
	"errors"
	"net/http"

	"github.com/go-chi/chi/v5"

	"github.com/certctl/certctl/contracts/httpapi/issuerapi"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/httpx"
	"github.com/certctl/certctl/libs/obs"
	"github.com/certctl/certctl/libs/page"
	"github.com/certctl/certctl/services/issuer/internal/bulk"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
	"github.com/certctl/certctl/services/issuer/internal/organisation"
	"github.com/certctl/certctl/services/issuer/internal/postgres"
	"github.com/certctl/certctl/services/issuer/internal/registry"
	"github.com/certctl/certctl/services/issuer/internal/regulation"
)

// Services are the use cases behind the operations.
type Services struct {
	Certificates *issuance.Service
	Issuers      *registry.Service
	Organisation *organisation.Service
	Rules        *regulation.Service
	Keys         *regulation.Keys
	Renewal      issuance.PolicyDesk
	Bulk         *bulk.Service
}

// New returns the handler of every operation that the issuer owns.
func New(s Services, store *postgres.Store, c clock.Clock) http.Handler {
	r := chi.NewRouter()
	r.NotFound(httpx.NotFound)
	r.MethodNotAllowed(httpx.NotFound)
	r.Use(identified, deployBody)
	strict := issuerapi.NewStrictHandlerWithOptions(&server{
		service: s.Certificates, issuers: s.Issuers, organisation: s.Organisation, rules: s.Rules, policies: s.Renewal, keys: s.Keys,
		bulk: s.Bulk, store: store, clock: c,
	}, nil, issuerapi.StrictHTTPServerOptions{
		RequestErrorHandlerFunc:  httpx.WriteRequestError,
		ResponseErrorHandlerFunc: httpx.WriteProblem,
	})
	return issuerapi.HandlerWithOptions(strict, issuerapi.ChiServerOptions{BaseRouter: r, ErrorHandlerFunc: writeParamError})
}

// identified refuses requests of nobody.
func identified(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if authn.FromContext(r.Context()).Kind == "" {
			httpx.WriteProblem(w, r, fault.New(fault.Unauthenticated, "the request carries no principal"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

func writeParamError(w http.ResponseWriter, r *http.Request, err error) {
	if e, ok := errors.AsType[*issuerapi.InvalidParamFormatError](err); ok {
		err = invalid(e.ParamName, "is not of the right form")
	}
	httpx.WriteRequestError(w, r, err)
}

func invalid(field, reason string) error {
	return fault.InvalidFields(fault.Field{Name: field, Reason: reason})
}

type server struct {
	service      *issuance.Service
	issuers      *registry.Service
	organisation *organisation.Service
	policies     issuance.PolicyDesk
	rules        *regulation.Service
	keys         *regulation.Keys
	bulk         *bulk.Service
	store        *postgres.Store
	clock        clock.Clock
}

// asking is who asks, and what follows from the request bears.
func asking(ctx context.Context) (authn.Principal, issuance.Origin) {
	p := authn.FromContext(ctx)
	return p, issuance.Origin{Actor: p.ID, CorrelationID: obs.RequestID(ctx), TraceParent: obs.TraceParent(ctx)}
}

// pageOf reads which page is asked for.
func pageOf(number, size *int, cursor *string) (postgres.Page, error) {
	var p postgres.Page
	var err error
	if p.Size, err = page.Size(size); err != nil {
		return p, err
	}
	if p.Number, err = page.Number(number, p.Size); err != nil {
		return p, err
	}
	if cursor == nil || *cursor == "" {
		return p, nil
	}
	at, err := page.Parse(*cursor)
	if err != nil {
		return p, err
	}
	if !issuance.Printable(at.ID) {
		return p, invalid("cursor", "is not one that a list has given")
	}
	p.Cursor = &at
	return p, nil
}

// filter reads a filter by equality. An empty one is none.
func filter(name string, v *string) (*string, error) {
	switch {
	case v == nil || *v == "":
		return nil, nil //nolint:nilnil // no filter
	case !issuance.Printable(*v):
		return nil, invalid(name, "holds characters that no value has")
	default:
		return v, nil
	}
}

func next(c *page.Cursor) *string {
	if c == nil {
		return nil
	}
	s := c.String()
	return &s
}

func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
