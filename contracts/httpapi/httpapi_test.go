package httpapi_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/certctl/certctl/contracts/httpapi"
	"github.com/certctl/certctl/contracts/httpapi/auditapi"
	"github.com/certctl/certctl/contracts/httpapi/client"
	"github.com/certctl/certctl/contracts/httpapi/deploymentapi"
	"github.com/certctl/certctl/contracts/httpapi/gatewayapi"
	"github.com/certctl/certctl/contracts/httpapi/issuerapi"
	"github.com/certctl/certctl/contracts/httpapi/revocationapi"
	"github.com/certctl/certctl/contracts/openapi"
)

// servers are what each owner must implement to compile: an operation that is in one
// of them has a handler.
var servers = map[string]reflect.Type{
	"issuer":     reflect.TypeFor[issuerapi.StrictServerInterface](),
	"deployment": reflect.TypeFor[deploymentapi.StrictServerInterface](),
	"audit":      reflect.TypeFor[auditapi.StrictServerInterface](),
	"revocation": reflect.TypeFor[revocationapi.StrictServerInterface](),
	"gateway":    reflect.TypeFor[gatewayapi.StrictServerInterface](),
}

func TestOperations_HaveAHandlerWithEachOwnerAndAClientMethod(t *testing.T) {
	calls := reflect.TypeFor[client.ClientInterface]()
	for _, o := range httpapi.Operations {
		method := strings.ToUpper(o.ID[:1]) + o.ID[1:]
		for _, s := range o.Services {
			server, known := servers[s]
			if !known {
				t.Errorf("%s belongs to %q, which is no service", o.ID, s)
				continue
			}
			if _, ok := server.MethodByName(method); !ok {
				t.Errorf("%s has no handler in %s", o.ID, s)
			}
		}
		_, plain := calls.MethodByName(method)
		_, body := calls.MethodByName(method + "WithBody")
		if !plain && !body {
			t.Errorf("%s has no client method", o.ID)
		}
	}
}

func TestOperations_AreUniqueAndPermitted(t *testing.T) {
	seen := map[string]bool{}
	for _, o := range httpapi.Operations {
		if seen[o.ID] {
			t.Errorf("%s is there twice", o.ID)
		}
		seen[o.ID] = true
		if p := o.Permission; p != "open" && p != "authenticated" && !strings.Contains(p, ":") {
			t.Errorf("%s has the permission %q", o.ID, p)
		}
	}
}

func TestDocument_IsValidAndItsExamplesFit(t *testing.T) {
	loader := openapi3.NewLoader()
	doc, err := loader.LoadFromData(openapi.Document)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(loader.Context, openapi3.EnableExamplesValidation()); err != nil {
		t.Error(err)
	}
}
