package search

import (
	"encoding/json"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// Functions by their names in CEL.
const (
	startsWith = "startsWith"
	endsWith   = "endsWith"
	contains   = "contains"
	timestamp  = "timestamp"
	duration   = "duration"
	now        = "now"
)

// comparisons by their names in CEL. An inequality also holds for what is not there.
var comparisons = map[string]string{
	operators.Equals: " = ", operators.NotEquals: " IS DISTINCT FROM ", operators.Less: " < ",
	operators.LessEquals: " <= ", operators.Greater: " > ", operators.GreaterEquals: " >= ",
}

// failure is what is wrong with a node of an expression.
type failure struct {
	node   int64
	reason string
}

func fail(e ast.Expr, reason string) *failure { return &failure{e.ID(), reason} }

const unknown = "there is no translation for this; comparisons of a field with a constant, in, startsWith, endsWith, contains, has, &&, || and ! can be used"

// translation writes a tree as SQL.
type translation struct {
	fields map[string]Field
	parts  []part
}

func (t *translation) write(sql string) {
	if n := len(t.parts); n > 0 && t.parts[n-1].value == nil {
		t.parts[n-1].sql += sql
		return
	}
	t.parts = append(t.parts, part{sql: sql})
}

func (t *translation) argument(v func(time.Time) any) {
	if n := len(t.parts); n > 0 && t.parts[n-1].value == nil {
		t.parts[n-1].value = v
		return
	}
	t.parts = append(t.parts, part{value: v})
}

func (t *translation) constant(v any) { t.argument(func(time.Time) any { return v }) }

// condition writes what is true or false.
func (t *translation) condition(e ast.Expr) *failure {
	switch e.Kind() {
	case ast.LiteralKind:
		if e.AsLiteral() == types.True {
			t.write("TRUE")
		} else {
			t.write("FALSE")
		}
		return nil
	case ast.IdentKind:
		t.write(t.fields[e.AsIdent()].Column)
		return nil
	case ast.SelectKind:
		s := e.AsSelect()
		if f, ok := t.field(s.Operand()); ok && s.IsTestOnly() {
			return t.hasKey(f, s.FieldName())
		}
		return fail(e, unknown)
	case ast.CallKind:
		return t.call(e, e.AsCall())
	default:
		return fail(e, unknown)
	}
}

func (t *translation) call(e ast.Expr, c ast.CallExpr) *failure {
	args := c.Args()
	switch name := c.FunctionName(); name {
	case operators.LogicalAnd:
		return t.both(" AND ", args)
	case operators.LogicalOr:
		return t.both(" OR ", args)
	case operators.LogicalNot:
		t.write("((")
		if err := t.condition(args[0]); err != nil {
			return err
		}
		t.write(") IS NOT TRUE)")
		return nil
	case operators.In:
		return t.in(args[0], args[1])
	case startsWith, endsWith, contains:
		return t.match(name, c.Target(), args[0])
	default:
		if sql, ok := comparisons[name]; ok {
			return t.compare(e, sql, args[0], args[1])
		}
		return fail(e, unknown)
	}
}

func (t *translation) both(operator string, args []ast.Expr) *failure {
	t.write("(")
	for i, a := range args {
		if i > 0 {
			t.write(operator)
		}
		if err := t.condition(a); err != nil {
			return err
		}
	}
	t.write(")")
	return nil
}

// field is the field that an expression names.
func (t *translation) field(e ast.Expr) (Field, bool) {
	if e.Kind() != ast.IdentKind {
		return Field{}, false
	}
	f, ok := t.fields[e.AsIdent()]
	return f, ok
}

// source is a column, or an entry of a map.
type source struct {
	Field
	key   string
	entry bool
}

// from finds the source that an expression reads.
func (t *translation) from(e ast.Expr) (source, bool, *failure) {
	if f, ok := t.field(e); ok {
		return source{Field: f}, true, nil
	}
	switch e.Kind() {
	case ast.SelectKind:
		s := e.AsSelect()
		if f, ok := t.field(s.Operand()); ok && !s.IsTestOnly() {
			return source{f, s.FieldName(), true}, true, nil
		}
	case ast.CallKind:
		c := e.AsCall()
		if c.FunctionName() != operators.Index {
			break
		}
		f, ok := t.field(c.Args()[0])
		if !ok || f.Type != Map {
			return source{}, false, fail(e, "only fields that are maps have keys")
		}
		key, err := text(c.Args()[1])
		if err != nil {
			return source{}, false, err
		}
		return source{f, key, true}, true, nil
	default:
	}
	return source{}, false, nil
}

// read writes the value of a source.
func (t *translation) read(s source) {
	if !s.entry {
		t.write(s.Column)
		return
	}
	t.write("(" + s.Column + " ->> ")
	t.constant(s.key)
	t.write("::text)")
}

func (t *translation) compare(e ast.Expr, operator string, left, right ast.Expr) *failure {
	l, leftIs, err := t.from(left)
	if err != nil {
		return err
	}
	r, rightIs, err := t.from(right)
	switch {
	case err != nil:
		return err
	case leftIs && rightIs:
		t.write("(")
		t.read(l)
		t.write(operator)
		t.read(r)
		t.write(")")
		return nil
	case rightIs:
		return t.compareWith(e, r, mirrored(operator), left)
	case leftIs:
		return t.compareWith(e, l, operator, right)
	default:
		return fail(e, "one of the two must be a field")
	}
}

// mirrored is the operator of a comparison whose sides are exchanged.
func mirrored(operator string) string {
	return strings.NewReplacer("<", ">", ">", "<").Replace(operator)
}

func (t *translation) compareWith(e ast.Expr, s source, operator string, constant ast.Expr) *failure {
	isEqual, isOrder := operator == " = ", strings.ContainsAny(operator, "<>")
	if constant.Kind() == ast.LiteralKind && constant.AsLiteral() == types.NullValue {
		t.write("(")
		t.read(s)
		switch {
		case isOrder:
			return fail(e, "null has no order")
		case isEqual:
			t.write(" IS NULL)")
		default:
			t.write(" IS NOT NULL)")
		}
		return nil
	}
	v, err := valueOf(constant)
	if err != nil {
		return err
	}
	if err := s.admits(constant, v); err != nil {
		return err
	}
	if s.entry && isEqual {
		return t.hasEntry(s, v.text)
	}
	t.write("(")
	t.read(s)
	if s.Bytewise && v.kind == Text {
		t.write(` COLLATE "C"`)
	}
	t.write(operator)
	t.argument(v.at)
	t.write(v.kind.cast() + ")")
	return nil
}

// hasEntry has an index over the map's entries serve the comparison.
func (t *translation) hasEntry(s source, value string) *failure {
	entry, err := json.Marshal(map[string]string{s.key: value})
	if err != nil {
		panic("search: a map of strings always encodes: " + err.Error())
	}
	t.write("(" + s.Column + " @> ")
	t.constant(string(entry))
	t.write("::jsonb)")
	return nil
}

func (t *translation) hasKey(f Field, key string) *failure {
	t.write("(" + f.Column + " ? ")
	t.constant(key)
	t.write("::text)")
	return nil
}

// admits refuses a value that the field never has.
func (s source) admits(e ast.Expr, v value) *failure {
	if s.entry || s.Values == nil || v.kind != Text || slices.Contains(s.Values, v.text) {
		return nil
	}
	return fail(e, s.Name+" is one of "+strings.Join(s.Values, ", "))
}

func (t *translation) in(what, where ast.Expr) *failure {
	if f, ok := t.field(where); ok {
		sought, err := text(what)
		switch {
		case err != nil:
			return err
		case f.Type == Map:
			return t.hasKey(f, sought)
		default:
			t.write("(" + f.Column + " @> ")
			t.constant([]string{sought})
			t.write("::text[])")
			return nil
		}
	}
	s, ok, err := t.from(what)
	if err != nil {
		return err
	}
	if !ok || where.Kind() != ast.ListKind {
		return fail(where, "in asks whether a field is one of a list of constants, or a constant one of a field")
	}
	list, err := values(s, where.AsList().Elements())
	if err != nil {
		return err
	}
	if list == nil {
		t.write("FALSE")
		return nil
	}
	t.write("(")
	t.read(s)
	if s.Bytewise {
		t.write(` COLLATE "C"`)
	}
	t.write(" = ANY(")
	t.argument(func(at time.Time) any { return listAt(list, at) })
	t.write(list[0].kind.cast() + "[]))")
	return nil
}

// match writes what a text begins with, ends with, or holds. Beginnings are ranges of bytes, and ends are beginnings of
// the text reversed, so that indexes serve both.
func (t *translation) match(how string, target, sought ast.Expr) *failure {
	s, ok, err := t.from(target)
	if err != nil {
		return err
	}
	if !ok {
		return fail(target, how+" asks about a field")
	}
	v, err := text(sought)
	if err != nil {
		return err
	}
	read := func() { t.read(s) }
	switch how {
	case contains:
		t.write("(strpos(")
		t.read(s)
		t.write(", ")
		t.constant(v)
		t.write("::text) > 0)")
		return nil
	case endsWith:
		v = reversed(v)
		read = func() {
			t.write("reverse(")
			t.read(s)
			t.write(")")
		}
	}
	t.write("(")
	read()
	t.write(` COLLATE "C" >= `)
	t.constant(v)
	t.write("::text")
	if end := behind(v); end != "" {
		t.write(" AND ")
		read()
		t.write(` COLLATE "C" < `)
		t.constant(end)
		t.write("::text")
	}
	t.write(")")
	return nil
}

func reversed(s string) string {
	r := []rune(s)
	slices.Reverse(r)
	return string(r)
}

// behind is the least text that is greater than all that begin with a prefix; empty if there is none.
func behind(prefix string) string {
	r := []rune(prefix)
	for len(r) > 0 {
		last := len(r) - 1
		if r[last] < utf8.MaxRune {
			r[last]++
			if r[last] == 0xD800 { // surrogates are no characters
				r[last] = 0xE000
			}
			return string(r)
		}
		r = r[:last]
	}
	return ""
}
