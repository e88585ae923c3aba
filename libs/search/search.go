// Package search turns an expression, such as
//
//	status == "Expiring" && expires_at < now() + duration("168h") && tags["tier"] == "gold"
//
// into the condition of an SQL query. The language is a subset of CEL, the Common Expression Language: it is parsed and
// checked by the CEL library, and its tree is translated, never evaluated. What can be asked for is a table of fields
// that the caller gives; what is not in the table cannot be reached.
//
// The text of a condition is made of the table's column names and of this package's own words. Whatever the expression
// holds travels as an argument, so no input can become SQL. Its work is bounded by the limits below; how long the
// database takes over a condition is a matter of its indexes.
//
// A comparison with what is not there (a column that is NULL, a key that a map has not) does not hold, and its negation
// does.
package search

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/decls"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/stdlib"

	"github.com/certctl/certctl/libs/fault"
)

// Limits of an expression.
const (
	// MaxLength is in bytes.
	MaxLength = 2048
	maxNodes  = 500
	maxDepth  = 32
	// maxCached bounds the expressions that a language remembers.
	maxCached = 512
)

// Parameter is the name that errors give to the expression.
const Parameter = "q"

// Type is the type of a field.
type Type int

// The types of fields, with those of their columns.
const (
	Text  Type = iota + 1 // text
	Time                  // timestamptz
	Int                   // integer or bigint
	Bool                  // boolean
	Texts                 // text[]
	Map                   // jsonb, an object of strings
)

func (t Type) cel() *cel.Type {
	switch t {
	case Text:
		return cel.StringType
	case Time:
		return cel.TimestampType
	case Int:
		return cel.IntType
	case Bool:
		return cel.BoolType
	case Texts:
		return cel.ListType(cel.StringType)
	case Map:
		return cel.MapType(cel.StringType, cel.StringType)
	default:
		panic("search: a field has no type")
	}
}

// Field is something that can be asked for.
type Field struct {
	// Name is what expressions call it.
	Name string
	// Column is trusted SQL.
	Column string
	Type   Type
	// Values are all that a Text can be; with any other a comparison is refused. Nil is no limit.
	Values []string
	// Bytewise has a Text compared by its bytes, for an index that is COLLATE "C". Prefixes and suffixes always are.
	Bytewise bool
}

// Language is what can be asked of one kind of rows. It is safe for concurrent use.
type Language struct {
	env    *cel.Env
	fields map[string]Field
	names  string

	mu    sync.Mutex
	known map[string]*Expression // guarded by mu
}

// spoken are the functions of CEL that there is a translation for.
var spoken = []string{
	operators.LogicalAnd, operators.LogicalOr, operators.LogicalNot, operators.Equals, operators.NotEquals,
	operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals, operators.In, operators.Index,
	operators.Add, operators.Subtract, startsWith, endsWith, contains, timestamp, duration,
}

// New returns the language of a table of fields. It panics if the table is wrong, which is a mistake of whoever wrote it.
func New(fields ...Field) *Language {
	l := &Language{fields: map[string]Field{}, known: map[string]*Expression{}}
	options := []cel.EnvOption{
		cel.Macros(cel.HasMacro),
		cel.Function(now, cel.Overload(now, nil, cel.TimestampType)),
		cel.ParserExpressionSizeLimit(MaxLength), cel.ParserRecursionLimit(maxDepth), cel.ParserErrorRecoveryLimit(1),
		cel.ExpressionNodeLimit(maxNodes), cel.ExpressionNestingDepthLimit(maxDepth),
	}
	var known []*decls.FunctionDecl
	for _, f := range stdlib.Functions() {
		if slices.Contains(spoken, f.Name()) {
			known = append(known, f)
		}
	}
	options = append(options, cel.FunctionDecls(known...))
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.Name
		l.fields[f.Name] = f
		options = append(options, cel.Variable(f.Name, f.Type.cel()))
	}
	l.names = strings.Join(names, ", ")
	var err error
	if l.env, err = cel.NewCustomEnv(options...); err != nil {
		panic("search: " + err.Error())
	}
	return l
}

// Expression is a condition in a language.
type Expression struct {
	text  string
	parts []part
}

// part is a piece of SQL and, unless value is nil, an argument behind it.
type part struct {
	sql   string
	value func(now time.Time) any
}

// String is the expression as it was written.
func (e *Expression) String() string { return e.text }

// SQL is the condition, as of a time. It calls arg for each value, which returns the value's placeholder.
func (e *Expression) SQL(at time.Time, arg func(any) string) string {
	var b strings.Builder
	for _, p := range e.parts {
		b.WriteString(p.sql)
		if p.value != nil {
			b.WriteString(arg(p.value(at)))
		}
	}
	return b.String()
}

// Compile reads an expression. Its error is Invalid and says where in the expression something is wrong, and which
// fields there are.
func (l *Language) Compile(text string) (*Expression, error) {
	if e := l.recall(text); e != nil {
		return e, nil
	}
	switch {
	case strings.TrimSpace(text) == "":
		return nil, l.wrong("is empty")
	case len(text) > MaxLength:
		return nil, l.wrong("is longer than " + strconv.Itoa(MaxLength) + " bytes")
	case !storable(text):
		return nil, l.wrong("is not text")
	}
	checked, issues := l.env.Compile(text)
	if issues.Err() != nil {
		first := issues.Errors()[0]
		return nil, l.wrongAt(first.Location.Line(), first.Location.Column(), first.Message)
	}
	if !checked.OutputType().IsExactType(cel.BoolType) {
		return nil, l.wrong("is a " + cel.FormatCELType(checked.OutputType()) + ", and must be a condition")
	}
	t := translation{fields: l.fields}
	if err := t.condition(checked.NativeRep().Expr()); err != nil {
		at := checked.NativeRep().SourceInfo().GetStartLocation(err.node)
		return nil, l.wrongAt(at.Line(), at.Column(), err.reason)
	}
	e := &Expression{text: text, parts: t.parts}
	l.remember(e)
	return e, nil
}

func (l *Language) wrongAt(line, column int, reason string) error {
	return l.wrong(fmt.Sprintf("line %d, column %d: %s", line, column+1, reason))
}

func (l *Language) wrong(reason string) error {
	return fault.InvalidFields(fault.Field{Name: Parameter, Reason: reason + "; the fields are " + l.names})
}

func (l *Language) recall(text string) *Expression {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.known[text]
}

func (l *Language) remember(e *Expression) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.known) >= maxCached {
		clear(l.known)
	}
	l.known[e.text] = e
}
