package httpx

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/certctl/certctl/libs/fault"
)

// DecodeJSON decodes the body of r, of at most limit bytes, into the value that into points to. Members that the value
// does not have are ignored. Its errors are Invalid, naming the field when one has the wrong type, and TooLarge.
func DecodeJSON(r *http.Request, limit int64, into any) error {
	body := http.MaxBytesReader(nil, r.Body, limit)
	dec := json.NewDecoder(body)
	if err := dec.Decode(into); err != nil {
		return DecodeFault(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return DecodeFault(tooLarge)
		}
		return fault.New(fault.Invalid, "the body goes on after its JSON value")
	}
	return nil
}

// DecodeFault turns the error of decoding a request into a fault: that of package json into Invalid in words for the
// sender, that of a body over its limit into TooLarge, a broken connection into Unavailable. Faults stay as they are;
// anything else is Invalid with the error's own text, which comes from parsing what the sender knows.
func DecodeFault(err error) *fault.Error {
	if f, ok := errors.AsType[*fault.Error](err); ok {
		return f
	}
	if e, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return fault.Wrap(err, fault.TooLarge, "the body is larger than %d bytes", e.Limit)
	}
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return wrongType(e)
	}
	if e, ok := errors.AsType[*json.SyntaxError](err); ok && !errors.Is(err, io.ErrUnexpectedEOF) {
		return fault.Wrap(err, fault.Invalid, "the body is not JSON: %s at byte %d", e.Error(), e.Offset)
	}
	switch _, isTime := errors.AsType[*time.ParseError](err); {
	case isTime:
		return fault.Wrap(err, fault.Invalid, "a time is not of the form 2026-01-31T15:04:05Z (RFC 3339)")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fault.Wrap(err, fault.Invalid, "the body is not JSON: it ends too early")
	case errors.Is(err, io.EOF):
		return fault.Wrap(err, fault.Invalid, "the body is empty")
	default:
		return fault.Wrap(err, fault.Invalid, "%s", err.Error())
	}
}

func wrongType(e *json.UnmarshalTypeError) *fault.Error {
	got, _, _ := strings.Cut(e.Value, " ")
	reason := fmt.Sprintf("must be %s, not %s", jsonType(e.Type), withArticle(got))
	if e.Field == "" {
		return fault.Wrap(e, fault.Invalid, "the body %s", reason)
	}
	return fault.InvalidFields(fault.Field{Name: e.Field, Reason: reason})
}

func withArticle(jsonValue string) string {
	switch jsonValue {
	case "bool":
		return "a boolean"
	case "array", "object":
		return "an " + jsonValue
	case "null":
		return jsonValue
	default:
		return "a " + jsonValue
	}
}

func jsonType(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "a boolean"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "a whole number in range"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Slice, reflect.Array:
		return "an array"
	case reflect.Pointer:
		return jsonType(t.Elem())
	default:
		return "an object"
	}
}
