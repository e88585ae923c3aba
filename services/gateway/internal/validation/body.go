package validation

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"mime"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/httpx"
)

const (
	// maxDepth of JSON, far more than anything of ours has and far less than what any
	// parser on the way would choke on.
	maxDepth = 64
	// maxWrong bounds an answer about a body in which everything is wrong.
	maxWrong = 20
)

// body is a JSON body that the contract describes.
type body struct {
	required bool
	schema   *openapi3.Schema
}

func newBody(b *openapi3.RequestBody) *body {
	for name, media := range b.Content {
		if kind, _, err := mime.ParseMediaType(name); err == nil && kind == "application/json" && len(b.Content) == 1 && media.Schema != nil {
			return &body{required: b.Required, schema: media.Schema.Value}
		}
	}
	return nil
}

// check adds what is wrong with a body; its error says that it is no JSON at all.
func (b *body) check(content []byte, wrong []fault.Field) ([]fault.Field, error) {
	if err := sound(content); err != nil {
		return nil, err
	}
	var value any
	dec := json.NewDecoder(bytes.NewReader(content))
	if err := dec.Decode(&value); err != nil {
		if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return nil, fault.Wrap(err, fault.Invalid, "the body holds a %s that is beyond what any field takes", e.Value)
		}
		return nil, httpx.DecodeFault(err)
	}
	if rest := content[dec.InputOffset():]; len(bytes.TrimLeft(rest, " \t\r\n")) > 0 {
		return nil, fault.New(fault.Invalid, "the body goes on after its JSON value")
	}
	if value == nil && !b.required {
		return wrong, nil
	}
	if where, found := findNUL(value, nil); found {
		return append(wrong, fault.Field{Name: pointer(where), In: "body", Reason: "must not hold a NUL"}), nil
	}
	err := b.schema.VisitJSON(withoutNulls(value), openapi3.VisitAsRequest(), openapi3.MultiErrors(),
		openapi3.DisableReadOnlyValidation())
	return appendSchemaErrors(wrong, err), nil
}

// sound refuses what a JSON parser lets pass or repairs, and a database does not.
func sound(content []byte) error {
	if !utf8.Valid(content) {
		return fault.New(fault.Invalid, "the body is not UTF-8")
	}
	depth, inString := 0, false
	for i := 0; i < len(content); i++ {
		switch c := content[i]; {
		case inString && c == '\\':
			if high, ok := escape(content[i:]); ok && high >= 0xD800 && high < 0xE000 {
				low, paired := escape(content[i+6:])
				if high >= 0xDC00 || !paired || low < 0xDC00 || low >= 0xE000 {
					return fault.New(fault.Invalid, "the body holds half a surrogate pair at byte %d", i)
				}
				i += 6
			}
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return fault.New(fault.Invalid, "the body is nested deeper than %d levels", maxDepth)
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return nil
}

// escape reads \uXXXX.
func escape(b []byte) (uint64, bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(b[2:6]), 16, 32)
	return n, err == nil
}

// findNUL returns where a text or a name holds a NUL.
func findNUL(value any, at []string) (where []string, found bool) {
	switch v := value.(type) {
	case string:
		return at, strings.IndexByte(v, 0) >= 0
	case []any:
		for i, e := range v {
			if where, found := findNUL(e, append(at, strconv.Itoa(i))); found {
				return where, true
			}
		}
	case map[string]any:
		for name, e := range v {
			if strings.IndexByte(name, 0) >= 0 {
				return at, true
			}
			if where, found := findNUL(e, append(at, name)); found {
				return where, true
			}
		}
	}
	return nil, false
}

// withoutNulls leaves out members that are null: encoders of many languages write a null
// for what is not set, and every owner reads it so.
func withoutNulls(value any) any {
	switch v := value.(type) {
	case map[string]any:
		maps.DeleteFunc(v, func(_ string, e any) bool { return e == nil })
		for name, e := range v {
			v[name] = withoutNulls(e)
		}
	case []any:
		for i, e := range v {
			v[i] = withoutNulls(e)
		}
	}
	return value
}

func appendSchemaErrors(wrong []fault.Field, err error) []fault.Field {
	if err == nil || len(wrong) >= maxWrong {
		return wrong
	}
	var many openapi3.MultiError
	var one *openapi3.SchemaError
	switch {
	case errors.As(err, &many):
		for _, e := range many {
			wrong = appendSchemaErrors(wrong, e)
		}
	case errors.As(err, &one):
		wrong = append(wrong, fault.Field{Name: pointer(one.JSONPointer()), In: "body", Reason: reason(one)})
	default:
		wrong = append(wrong, fault.Field{Name: "body", In: "body", Reason: "is not what the contract describes"})
	}
	return wrong
}

// reason is in our words where a client is likely to be wrong. The library's own quote
// no values either.
func reason(e *openapi3.SchemaError) string {
	s := e.Schema
	switch e.SchemaField {
	case "type", "nullable":
		return "must be " + article(strings.Join(s.Type.Slice(), " or "))
	case "required":
		return "is missing"
	case "enum":
		allowed := make([]string, 0, len(s.Enum))
		for _, v := range s.Enum {
			if b, err := json.Marshal(v); err == nil {
				allowed = append(allowed, strings.Trim(string(b), `"`))
			}
		}
		return "must be one of " + strings.Join(allowed, ", ")
	case "maxLength":
		return "must have at most " + strconv.FormatUint(*s.MaxLength, 10) + " characters"
	case "minLength":
		return "must have at least " + strconv.FormatUint(s.MinLength, 10) + " characters"
	case "maximum":
		return "number must be at most " + plain(*s.Max)
	case "minimum":
		return "number must be at least " + plain(*s.Min)
	case "properties":
		return e.Reason + "; its properties are " + strings.Join(slices.Sorted(maps.Keys(s.Properties)), ", ")
	default:
		return e.Reason
	}
}

// plain writes out large numbers too.
func plain(n float64) string { return strconv.FormatFloat(n, 'f', -1, 64) }

func article(kind string) string {
	if strings.HasPrefix(kind, "a") || strings.HasPrefix(kind, "o") || strings.HasPrefix(kind, "i") {
		return "an " + kind
	}
	return "a " + kind
}

// pointer names a place as owners do: sans[2], config.cert_path.
func pointer(path []string) string {
	var b strings.Builder
	for _, token := range path {
		switch _, err := strconv.Atoi(token); {
		case err == nil:
			b.WriteString("[" + token + "]")
		case b.Len() > 0:
			b.WriteString("." + token)
		default:
			b.WriteString(token)
		}
	}
	if b.Len() == 0 {
		return "body"
	}
	return b.String()
}
