package openapi_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/certctl/certctl/contracts/openapi"
)

// each calls do with every operation of the contract.
func each(t *testing.T, do func(t *testing.T, method, path string, item *openapi3.PathItem, op *openapi3.Operation)) {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(openapi.Document)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range doc.Paths.InMatchingOrder() {
		item := doc.Paths.Value(path)
		for method, op := range item.Operations() {
			do(t, method, path, item, op)
		}
	}
}

var camelCase = regexp.MustCompile(`^[a-z][a-zA-Z0-9]+$`)

func TestOperations_SayWhatTheyAreAndHowTheyFail(t *testing.T) {
	each(t, func(t *testing.T, method, path string, _ *openapi3.PathItem, op *openapi3.Operation) {
		what := method + " " + path
		if !camelCase.MatchString(op.OperationID) {
			t.Errorf("%s: operationId %q", what, op.OperationID)
		}
		if op.Summary == "" || strings.HasSuffix(op.Summary, ".") || len(op.Summary) > 120 {
			t.Errorf("%s: the summary is a phrase without a full stop: %q", what, op.Summary)
		}
		if len(op.Tags) == 0 {
			t.Errorf("%s has no owner among its tags", what)
		}
		failure := op.Responses.Default()
		if failure == nil {
			t.Errorf("%s does not say how it fails: add default: Problem", what)
			return
		}
		if failure.Value.Content.Get("application/problem+json") == nil {
			t.Errorf("%s fails with something else than a problem document", what)
		}
		success := 0
		for status, response := range op.Responses.Map() {
			if strings.HasPrefix(status, "2") {
				success++
			}
			if response.Value.Description == nil || *response.Value.Description == "" {
				t.Errorf("%s: %s has no description", what, status)
			}
		}
		if success == 0 {
			t.Errorf("%s never succeeds", what)
		}
	})
}

func TestParameters_HaveASchemaAndABound(t *testing.T) {
	each(t, func(t *testing.T, method, path string, item *openapi3.PathItem, op *openapi3.Operation) {
		what := method + " " + path
		inPath := map[string]bool{}
		for _, ref := range append(append(openapi3.Parameters{}, op.Parameters...), item.Parameters...) {
			p := ref.Value
			if p.In == openapi3.ParameterInPath {
				inPath[p.Name] = true
			}
			if p.Schema == nil || p.Schema.Value == nil || p.Schema.Value.Type == nil {
				t.Errorf("%s: %s has no schema with a type", what, p.Name)
				continue
			}
			s := p.Schema.Value
			if s.Type.Is(openapi3.TypeArray) && s.Items != nil {
				s = s.Items.Value
			}
			if s.Type.Is(openapi3.TypeString) && s.MaxLength == nil && len(s.Enum) == 0 && s.Format == "" {
				t.Errorf("%s: %s can be of any length; set maxLength, enum or format", what, p.Name)
			}
		}
		for part := range strings.SplitSeq(path, "/") {
			if name := strings.Trim(part, "{}"); name != part && !inPath[name] {
				t.Errorf("%s: {%s} is not declared", what, name)
			}
		}
	})
}

func TestBodies_HaveAnExampleThatTheirSchemaAllows(t *testing.T) {
	each(t, func(t *testing.T, method, path string, _ *openapi3.PathItem, op *openapi3.Operation) {
		if op.RequestBody == nil {
			return
		}
		media := op.RequestBody.Value.Content.Get("application/json")
		if media == nil {
			return
		}
		examples := map[string]any{}
		if media.Example != nil {
			examples["example"] = media.Example
		}
		for name, e := range media.Examples {
			examples[name] = e.Value.Value
		}
		if len(examples) == 0 {
			t.Errorf("%s %s: the body has no example", method, path)
		}
		for name, e := range examples {
			if err := fits(media.Schema.Value, e); err != nil {
				t.Errorf("%s %s: %s: %v", method, path, name, err)
			}
		}
	})
}

// fits takes an example through JSON first, as a client would.
func fits(s *openapi3.Schema, example any) error {
	b, err := json.Marshal(example)
	if err != nil {
		return fmt.Errorf("is no JSON: %w", err)
	}
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	return s.VisitJSON(v, openapi3.VisitAsRequest())
}
