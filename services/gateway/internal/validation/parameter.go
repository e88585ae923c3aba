package validation

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/certctl/certctl/libs/fault"
)

// parameter is one that the contract names, and how its text is checked.
type parameter struct {
	name, in string
	required bool
	// many may be given: the parameter is repeated, or its text is a list.
	many   bool
	commas bool
	scalar scalar
}

// scalar says what is wrong with one value, nothing if it is well.
type scalar func(value string) (reason string)

func newParameter(p *openapi3.Parameter) (parameter, error) {
	out := parameter{name: p.Name, in: p.In, required: p.Required}
	if p.Schema == nil || p.Schema.Value == nil {
		return out, fmt.Errorf("parameter %s has no schema", p.Name)
	}
	s := p.Schema.Value
	if s.Type.Is(openapi3.TypeArray) && s.Items != nil {
		out.many = true
		out.commas = p.Explode != nil && !*p.Explode
		s = s.Items.Value
	}
	var err error
	out.scalar, err = newScalar(s)
	return out, err
}

func (p *parameter) wrong(reason string) fault.Field {
	return fault.Field{Name: p.name, In: p.in, Reason: reason}
}

// check says what is wrong with the text of a parameter. Text that is no text is wrong
// whatever the contract says.
func (p *parameter) check(text string) string {
	if reason := storable(text); reason != "" {
		return reason
	}
	if !p.commas {
		return p.scalar(text)
	}
	for value := range strings.SplitSeq(text, ",") {
		if reason := p.scalar(value); reason != "" {
			return reason
		}
	}
	return ""
}

// storable says whether text can be stored at all.
func storable(text string) string {
	switch {
	case !utf8.ValidString(text):
		return "must be UTF-8"
	case strings.IndexByte(text, 0) >= 0:
		return "must not hold a NUL"
	default:
		return ""
	}
}

func newScalar(s *openapi3.Schema) (scalar, error) {
	switch {
	case s.Type.Is(openapi3.TypeInteger):
		return integer(s), nil
	case s.Type.Is(openapi3.TypeNumber):
		return number(s), nil
	case s.Type.Is(openapi3.TypeBoolean):
		return func(v string) string {
			if _, err := strconv.ParseBool(v); err != nil {
				return "must be true or false"
			}
			return ""
		}, nil
	case s.Type.Is(openapi3.TypeString):
		return text(s)
	default:
		// What else a schema can say, its owner says.
		return func(string) string { return "" }, nil
	}
}

func integer(s *openapi3.Schema) scalar {
	bits := 64
	if s.Format == "int32" {
		bits = 32
	}
	within := bounds(s)
	return func(v string) string {
		n, err := strconv.ParseInt(v, 10, bits)
		if err != nil {
			return "must be an integer"
		}
		return within(float64(n))
	}
}

func number(s *openapi3.Schema) scalar {
	within := bounds(s)
	return func(v string) string {
		n, err := strconv.ParseFloat(v, 64)
		if err != nil || math.IsNaN(n) || math.IsInf(n, 0) {
			return "must be a number"
		}
		return within(n)
	}
}

func bounds(s *openapi3.Schema) func(float64) string {
	least, most := s.Min, s.Max
	return func(n float64) string {
		switch {
		case least != nil && n < *least:
			return "must be at least " + plain(*least)
		case most != nil && n > *most:
			return "must be at most " + plain(*most)
		default:
			return ""
		}
	}
}

func text(s *openapi3.Schema) (scalar, error) {
	var allowed []string
	for _, v := range s.Enum {
		if text, ok := v.(string); ok {
			allowed = append(allowed, text)
		}
	}
	var pattern *regexp.Regexp
	if s.Pattern != "" {
		var err error
		if pattern, err = regexp.Compile(s.Pattern); err != nil {
			return nil, fmt.Errorf("pattern: %w", err)
		}
	}
	least, most := bound(s.MinLength), math.MaxInt
	if s.MaxLength != nil {
		most = bound(*s.MaxLength)
	}
	return func(v string) string {
		switch {
		case len(allowed) > 0 && !slices.Contains(allowed, v):
			return "must be one of " + strings.Join(allowed, ", ")
		case len(v) > most && utf8.RuneCountInString(v) > most: // most texts need no counting
			return fmt.Sprintf("must have at most %d characters", most)
		case least > 0 && utf8.RuneCountInString(v) < least:
			return fmt.Sprintf("must have at least %d characters", least)
		case pattern != nil && !pattern.MatchString(v):
			return "must match " + s.Pattern
		case s.Format == "date-time" && !isTime(v):
			return "must be a time such as 2026-01-31T15:04:05Z (RFC 3339)"
		default:
			return ""
		}
	}, nil
}

// bound is a length of the contract, as far as a text can be long.
func bound(n uint64) int {
	if n > math.MaxInt32 {
		return math.MaxInt32
	}
	return int(n)
}

// isTime accepts a day for its first moment, as owners do.
func isTime(v string) bool {
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
		if _, err := time.Parse(layout, v); err == nil {
			return true
		}
	}
	return false
}
