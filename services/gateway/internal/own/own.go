// Package own answers the operations that are the gateway's: how to sign in, API keys,
// whether it is well, and what the API is.
package own

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/go-chi/chi/v5"

	"github.com/certctl/certctl/contracts/httpapi/gatewayapi"
	"github.com/certctl/certctl/contracts/openapi"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/health"
	"github.com/certctl/certctl/libs/httpx"
	"github.com/certctl/certctl/services/gateway/internal/apikey"
	"github.com/certctl/certctl/services/gateway/internal/view"
)

// Answers implements the gateway's operations.
type Answers struct {
	Health *health.Registry
	Clock  clock.Clock
	Keys   *apikey.Store
	// AuthType is how callers prove who they are: api-key, jwt or none.
	AuthType string
	Views    *view.Store
}

var _ gatewayapi.StrictServerInterface = Answers{}

// Handler returns the handler of the gateway's operations.
func (a Answers) Handler() http.Handler {
	return gatewayapi.HandlerWithOptions(gatewayapi.NewStrictHandlerWithOptions(a, nil, gatewayapi.StrictHTTPServerOptions{
		RequestErrorHandlerFunc:  httpx.WriteRequestError,
		ResponseErrorHandlerFunc: httpx.WriteProblem,
	}), gatewayapi.ChiServerOptions{BaseRouter: chi.NewRouter(), ErrorHandlerFunc: badParameter})
}

func badParameter(w http.ResponseWriter, r *http.Request, err error) {
	if e, ok := errors.AsType[*gatewayapi.InvalidParamFormatError](err); ok {
		err = fault.InvalidFields(fault.Field{Name: e.ParamName, Reason: "is not of the right form"})
	}
	httpx.WriteRequestError(w, r, err)
}

// GetHealth says that the gateway lives, which it does if it can say so.
func (a Answers) GetHealth(context.Context, gatewayapi.GetHealthRequestObject) (gatewayapi.GetHealthResponseObject, error) {
	return gatewayapi.GetHealth200JSONResponse(a.healthy()), nil
}

// GetHealthV1 is GetHealth under the path that deployed clients ask.
func (a Answers) GetHealthV1(context.Context, gatewayapi.GetHealthV1RequestObject) (gatewayapi.GetHealthV1ResponseObject, error) {
	return gatewayapi.GetHealthV1200JSONResponse(a.healthy()), nil
}

func (a Answers) healthy() gatewayapi.Health {
	return gatewayapi.Health{Status: "healthy", Timestamp: a.Clock.Now()}
}

// GetReady tells whether every part that calls need is there.
func (a Answers) GetReady(ctx context.Context, _ gatewayapi.GetReadyRequestObject) (gatewayapi.GetReadyResponseObject, error) {
	report := a.Health.Check(ctx)
	checks := map[string]string{}
	for _, c := range report.Checks {
		checks[c.Name] = c.Error
	}
	if report.OK {
		return gatewayapi.GetReady200JSONResponse{Status: gatewayapi.Ready, Checks: &checks}, nil
	}
	return gatewayapi.GetReady503JSONResponse{Status: gatewayapi.NotReady, Checks: &checks}, nil
}

// GetAuthInfo tells how to sign in.
func (a Answers) GetAuthInfo(context.Context, gatewayapi.GetAuthInfoRequestObject) (gatewayapi.GetAuthInfoResponseObject, error) {
	return gatewayapi.GetAuthInfo200JSONResponse{
		AuthType: gatewayapi.AuthInfoAuthType(a.AuthType), Required: a.AuthType != "none",
	}, nil
}

// CheckAuth tells whom the credential belongs to; the edge has refused bad ones.
func (a Answers) CheckAuth(ctx context.Context, _ gatewayapi.CheckAuthRequestObject) (gatewayapi.CheckAuthResponseObject, error) {
	p := authn.FromContext(ctx)
	return gatewayapi.CheckAuth200JSONResponse{
		Status: "authenticated", Principal: p.Name, PrincipalID: p.ID, Roles: append([]string{}, p.Roles...), Scope: shownScope(p.Scope),
	}, nil
}

// GetOpenAPI returns the contract.
func (a Answers) GetOpenAPI(context.Context, gatewayapi.GetOpenAPIRequestObject) (gatewayapi.GetOpenAPIResponseObject, error) {
	return gatewayapi.GetOpenAPI200ApplicationYamlResponse{
		Body: strings.NewReader(string(openapi.Document)), ContentLength: int64(len(openapi.Document)),
	}, nil
}
