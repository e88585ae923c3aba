// Package validation holds requests to the contract, before their owner sees them: the
// parameters of a query, the ids in a path, and the JSON of a body.
//
// It refuses what the contract excludes, and names everything that is wrong at once. It
// tolerates what deployed clients send: members of a body that the contract does not
// know, a null for a member that is left out, an empty parameter for none, a body where
// none is read, and whatever Content-Type. Rules that are more than a shape belong to
// owners.
//
// What no owner could store is refused everywhere: text that is not UTF-8 or holds a
// NUL, which Postgres has no place for, and JSON that is nested without end.
package validation

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/go-chi/chi/v5"

	"github.com/certctl/certctl/libs/fault"
)

// Validator checks requests. It is made once and safe for concurrent use.
type Validator struct {
	operations map[string]*operation
}

// operation is what the contract says about the requests of one operation.
type operation struct {
	path   []parameter
	query  []parameter
	header []parameter
	body   *body // nil where none is read as JSON
	list   bool
}

// Compile reads the contract.
func Compile(document []byte) (*Validator, error) {
	doc, err := openapi3.NewLoader().LoadFromData(document)
	if err != nil {
		return nil, fmt.Errorf("read the contract: %w", err)
	}
	v := &Validator{operations: map[string]*operation{}}
	for _, path := range doc.Paths.InMatchingOrder() {
		item := doc.Paths.Value(path)
		for _, op := range item.Operations() {
			compiled, err := compile(item, op)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", op.OperationID, err)
			}
			v.operations[op.OperationID] = compiled
		}
	}
	return v, nil
}

func compile(item *openapi3.PathItem, op *openapi3.Operation) (*operation, error) {
	out := &operation{list: strings.HasPrefix(op.OperationID, "list")}
	// An operation's parameter stands in for its path's of the same name.
	all := append(openapi3.Parameters{}, op.Parameters...)
	for _, p := range item.Parameters {
		if op.Parameters.GetByInAndName(p.Value.In, p.Value.Name) == nil {
			all = append(all, p)
		}
	}
	for _, ref := range all {
		p, err := newParameter(ref.Value)
		if err != nil {
			return nil, err
		}
		switch ref.Value.In {
		case openapi3.ParameterInPath:
			out.path = append(out.path, p)
		case openapi3.ParameterInQuery:
			out.query = append(out.query, p)
		case openapi3.ParameterInHeader:
			out.header = append(out.header, p)
		}
	}
	if op.RequestBody != nil {
		out.body = newBody(op.RequestBody.Value)
	}
	return out, nil
}

// Check returns nil if r, whose whole body is given, can be a request of an operation.
// The route of r must be in its context. An operation that the contract does not know
// takes anything.
func (v *Validator) Check(id string, r *http.Request, content []byte) error {
	op, ok := v.operations[id]
	if !ok {
		return nil
	}
	if err := op.checkPath(r); err != nil {
		return err
	}
	wrong := op.checkQuery(r.URL.RawQuery, nil)
	wrong = op.checkHeader(r.Header, wrong)
	if op.body != nil && (len(content) > 0 || op.body.required) {
		var err error
		if wrong, err = op.body.check(content, wrong); err != nil {
			return err
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return fault.InvalidFields(wrong...)
}

// checkPath finds ids that nothing can have: what they name does not exist.
func (op *operation) checkPath(r *http.Request) error {
	if len(op.path) == 0 {
		return nil
	}
	route := chi.RouteContext(r.Context())
	if route == nil {
		return nil
	}
	for i := range op.path {
		p := &op.path[i]
		value, err := pathValue(route.URLParam(p.name))
		if err == nil {
			if p.check(value) == "" {
				continue
			}
		}
		return fault.New(fault.NotFound, "there is nothing at %s: %s is not one that anything has", r.URL.Path, p.name)
	}
	return nil
}

func (op *operation) checkHeader(h http.Header, wrong []fault.Field) []fault.Field {
	for i := range op.header {
		p := &op.header[i]
		values := h[http.CanonicalHeaderKey(p.name)]
		if len(values) == 0 {
			if p.required {
				wrong = append(wrong, p.wrong("is missing"))
			}
			continue
		}
		if reason := p.check(values[0]); reason != "" {
			wrong = append(wrong, p.wrong(reason))
		}
	}
	return wrong
}
