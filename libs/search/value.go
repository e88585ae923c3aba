package search

import (
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// maxDuration bounds what is added to a time or taken from it.
const maxDuration = 100 * 366 * 24 * time.Hour

// value is a constant. A Time may be relative to the time of the query.
type value struct {
	kind     Type
	text     string
	number   int64
	truth    bool
	moment   time.Time
	relative bool
	offset   time.Duration
}

// at is the value as an argument.
func (v value) at(now time.Time) any {
	switch v.kind {
	case Text:
		return v.text
	case Int:
		return v.number
	case Bool:
		return v.truth
	default:
		if v.relative {
			return now.Add(v.offset)
		}
		return v.moment
	}
}

// cast says of an argument what it is, where the database could take it for something narrower.
func (t Type) cast() string {
	switch t {
	case Text:
		return "::text"
	case Int:
		return "::bigint"
	case Bool:
		return "::boolean"
	default:
		return "::timestamptz"
	}
}

// listAt is a list of values of one kind as an argument.
func listAt(list []value, now time.Time) any {
	switch list[0].kind {
	case Text:
		return collect(list, func(v value) string { return v.text })
	case Int:
		return collect(list, func(v value) int64 { return v.number })
	case Bool:
		return collect(list, func(v value) bool { return v.truth })
	default:
		return collect(list, func(v value) time.Time { t, _ := v.at(now).(time.Time); return t })
	}
}

func collect[T any](list []value, of func(value) T) []T {
	out := make([]T, len(list))
	for i, v := range list {
		out[i] = of(v)
	}
	return out
}

// values reads the elements of a list, all of one kind. An empty list is nil.
func values(s source, elements []ast.Expr) ([]value, *failure) {
	var list []value
	for _, e := range elements {
		v, err := valueOf(e)
		if err != nil {
			return nil, err
		}
		if err := s.admits(e, v); err != nil {
			return nil, err
		}
		if len(list) > 0 && list[0].kind != v.kind {
			return nil, fail(e, "the elements of a list are of one type")
		}
		list = append(list, v)
	}
	return list, nil
}

// valueOf reads a constant.
func valueOf(e ast.Expr) (value, *failure) {
	if e.Kind() != ast.LiteralKind {
		return momentOf(e)
	}
	switch v := e.AsLiteral().(type) {
	case types.String:
		if !storable(string(v)) {
			return value{}, fail(e, "is not text")
		}
		return value{kind: Text, text: string(v)}, nil
	case types.Int:
		return value{kind: Int, number: int64(v)}, nil
	case types.Bool:
		return value{kind: Bool, truth: bool(v)}, nil
	default:
		return value{}, fail(e, unknown)
	}
}

func text(e ast.Expr) (string, *failure) {
	if e.Kind() != ast.LiteralKind {
		return "", fail(e, "must be a text in quotes")
	}
	v, err := valueOf(e)
	if err == nil && v.kind != Text {
		err = fail(e, "must be a text in quotes")
	}
	return v.text, err
}

// storable tells whether Postgres takes s as text.
func storable(s string) bool { return utf8.ValidString(s) && !strings.ContainsRune(s, 0) }

// momentOf reads a constant time: now(), timestamp("…"), and such a time with durations added to it or taken from it.
func momentOf(e ast.Expr) (value, *failure) {
	if e.Kind() != ast.CallKind {
		return value{}, fail(e, unknown)
	}
	c := e.AsCall()
	switch c.FunctionName() {
	case now:
		return value{kind: Time, relative: true}, nil
	case timestamp:
		s, err := text(c.Args()[0])
		if err != nil {
			return value{}, err
		}
		t, parseErr := time.Parse(time.RFC3339Nano, s)
		if parseErr != nil || t.Year() < 1 {
			return value{}, fail(e, "is no time; write it as 2027-01-31T12:00:00Z")
		}
		return value{kind: Time, moment: t.UTC()}, nil
	case operators.Add, operators.Subtract:
		return shifted(e, c)
	default:
		return value{}, fail(e, unknown)
	}
}

func shifted(e ast.Expr, c ast.CallExpr) (value, *failure) {
	when, by := c.Args()[0], c.Args()[1]
	if c.FunctionName() == operators.Add && isDuration(when) {
		when, by = by, when
	}
	v, err := momentOf(when)
	if err != nil {
		return value{}, err
	}
	d, err := lengthOf(by)
	if err != nil {
		return value{}, err
	}
	if c.FunctionName() == operators.Subtract {
		d = -d
	}
	v.offset += d
	if v.offset.Abs() > maxDuration {
		return value{}, fail(e, "is further away than 100 years")
	}
	if !v.relative {
		v.moment = v.moment.Add(d)
		if y := v.moment.Year(); y < 1 || y > 9999 {
			return value{}, fail(e, "is not within the years 1 to 9999")
		}
	}
	return v, nil
}

func isDuration(e ast.Expr) bool {
	return e.Kind() == ast.CallKind && e.AsCall().FunctionName() == duration
}

func lengthOf(e ast.Expr) (time.Duration, *failure) {
	if !isDuration(e) {
		return 0, fail(e, `must be a duration, such as duration("720h")`)
	}
	s, err := text(e.AsCall().Args()[0])
	if err != nil {
		return 0, err
	}
	d, parseErr := time.ParseDuration(s)
	if parseErr != nil || d == math.MinInt64 || d.Abs() > maxDuration {
		return 0, fail(e, `is no duration; write it as 720h, 90m or 1h30m`)
	}
	return d, nil
}
