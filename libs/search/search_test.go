package search_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/search"
)

var hosts = search.New(
	search.Field{Name: "id", Column: "h.id", Type: search.Text},
	search.Field{Name: "name", Column: "h.name", Type: search.Text, Bytewise: true},
	search.Field{Name: "status", Column: "h.status", Type: search.Text, Values: []string{"Up", "Down"}},
	search.Field{Name: "cores", Column: "h.cores", Type: search.Int},
	search.Field{Name: "on", Column: "h.enabled", Type: search.Bool},
	search.Field{Name: "seen", Column: "h.seen", Type: search.Time},
	search.Field{Name: "type", Column: "h.kind", Type: search.Text},
	search.Field{Name: "names", Column: "h.names", Type: search.Texts},
	search.Field{Name: "tags", Column: "h.tags", Type: search.Map},
)

var at = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

// sql is the condition and its arguments.
func sql(e *search.Expression) (string, []any) {
	var args []any
	text := e.SQL(at, func(v any) string {
		args = append(args, v)
		return fmt.Sprintf("$%d", len(args))
	})
	return text, args
}

func TestCompile_PutsEveryValueIntoAnArgument(t *testing.T) {
	for text, want := range map[string]struct {
		sql  string
		args []any
	}{
		`name == "a'b"`:                 {`(h.name COLLATE "C" = $1::text)`, []any{"a'b"}},
		`"x" != id`:                     {`(h.id IS DISTINCT FROM $1::text)`, []any{"x"}},
		`4 <= cores`:                    {`(h.cores >= $1::bigint)`, []any{int64(4)}},
		`!(cores < 4 || on)`:            {`((((h.cores < $1::bigint) OR h.enabled)) IS NOT TRUE)`, []any{int64(4)}},
		`status in ["Up", "Down"]`:      {`(h.status = ANY($1::text[]))`, []any{[]string{"Up", "Down"}}},
		`"a" in names`:                  {`(h.names @> $1::text[])`, []any{[]string{"a"}}},
		`"a" in tags`:                   {`(h.tags ? $1::text)`, []any{"a"}},
		`has(tags.a)`:                   {`(h.tags ? $1::text)`, []any{"a"}},
		`tags["a"] == "b"`:              {`(h.tags @> $1::jsonb)`, []any{`{"a":"b"}`}},
		`tags.a != "b"`:                 {`((h.tags ->> $1::text) IS DISTINCT FROM $2::text)`, []any{"a", "b"}},
		`name.startsWith("ab")`:         {`(h.name COLLATE "C" >= $1::text AND h.name COLLATE "C" < $2::text)`, []any{"ab", "ac"}},
		`name.endsWith("ab")`:           {`(reverse(h.name) COLLATE "C" >= $1::text AND reverse(h.name) COLLATE "C" < $2::text)`, []any{"ba", "bb"}},
		`name.contains("%")`:            {`(strpos(h.name, $1::text) > 0)`, []any{"%"}},
		`seen < now() - duration("1h")`: {`(h.seen < $1::timestamptz)`, []any{at.Add(-time.Hour)}},
		`seen >= timestamp("2026-01-01T00:00:00+01:00")`: {
			`(h.seen >= $1::timestamptz)`, []any{time.Date(2025, 12, 31, 23, 0, 0, 0, time.UTC)},
		},
		`seen == null`:                   {`(h.seen IS NULL)`, nil},
		`id == name`:                     {`(h.id = h.name)`, nil},
		`type == "\" OR 1=1 -- "`:        {`(h.kind = $1::text)`, []any{`" OR 1=1 -- `}},
		`cores in []`:                    {`FALSE`, nil},
		`true && on`:                     {`(TRUE AND h.enabled)`, nil},
		`name.startsWith("")`:            {`(h.name COLLATE "C" >= $1::text)`, []any{""}},
		`name.startsWith("a\U0010ffff")`: {`(h.name COLLATE "C" >= $1::text AND h.name COLLATE "C" < $2::text)`, []any{"a\U0010ffff", "b"}},
	} {
		e, err := hosts.Compile(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		gotSQL, gotArgs := sql(e)
		if gotSQL != want.sql {
			t.Errorf("%s\n got %s\nwant %s", text, gotSQL, want.sql)
		}
		if d := cmp.Diff(want.args, gotArgs); d != "" {
			t.Errorf("%s: arguments\n%s", text, d)
		}
	}
}

func TestCompile_SaysWhereAndWhatIsKnown(t *testing.T) {
	for text, want := range map[string]string{
		``:                              "is empty",
		`nosuch == 1`:                   "line 1, column 1: undeclared reference to 'nosuch'",
		`on &&`:                         "line 1, column 6: Syntax error",
		"on &&\n  cores == \"4\"":       "line 2, column 9: found no matching overload",
		`cores`:                         "is a int, and must be a condition",
		`1 == 1`:                        "one of the two must be a field",
		`status == "up"`:                "line 1, column 11: status is one of Up, Down",
		`status in ["Up", "x"]`:         "line 1, column 18: status is one of Up, Down",
		`names.exists(n, n == "a")`:     "undeclared reference to",
		`names[0] == "a"`:               "only fields that are maps have keys",
		`tags[name] == "a"`:             "must be a text in quotes",
		`name.matches("a")`:             "undeclared reference to 'matches'",
		`size(name) == 1`:               "undeclared reference to 'size'",
		`cores + 1 == 2`:                "one of the two must be a field",
		`name + "a" == "b"`:             "one of the two must be a field",
		`name == "\x00"`:                "is not text",
		`tags["\x00"] == "a"`:           "is not text",
		`seen < timestamp("yesterday")`: "is no time",
		`seen < timestamp("0000-01-01T00:00:00Z")`:                   "is no time",
		`seen < now() + duration("30d")`:                             "is no duration",
		`seen < now() + duration("-2562047h47m16.854775808s")`:       "is no duration",
		`seen < timestamp("9999-12-31T00:00:00Z") + duration("48h")`: "years 1 to 9999",
		`tags == {"a": "b"}`:                                         "there is no translation",
		`seen < null`:                                                "null has no order",
		`!!on == !!on && nosuch`:                                     "",
		strings.Repeat("on||", 400) + "on":                           "",
		strings.Repeat("(", 100) + "on" + strings.Repeat(")", 100):   "",
		strings.Repeat(" ", search.MaxLength) + "on":                 "is longer than 2048 bytes",
		"name == \"\xff\"":                                           "is not text",
	} {
		_, err := hosts.Compile(text)
		if fault.CodeOf(err) != fault.Invalid || len(fault.From(err).Fields) != 1 {
			t.Errorf("%s: %v", text, err)
			continue
		}
		f := fault.From(err).Fields[0]
		if f.Name != "q" || !strings.Contains(f.Reason, want) {
			t.Errorf("%s\n got %s\nwant %s", text, f.Reason, want)
		}
		if !strings.HasSuffix(f.Reason, "; the fields are id, name, status, cores, on, seen, type, names, tags") {
			t.Errorf("%s: the fields are not listed: %s", text, f.Reason)
		}
	}
}

func TestCompile_RemembersWhatItHasRead(t *testing.T) {
	first, err := hosts.Compile(`on`)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		if _, err := hosts.Compile(fmt.Sprintf("cores == %d", i)); err != nil {
			t.Fatal(err)
		}
	}
	second, err := hosts.Compile(`on`)
	if err != nil || second.String() != first.String() {
		t.Errorf("%v, error %v", second, err)
	}
}

// own are the words that conditions are made of.
var own = regexp.MustCompile(`^(h\.[a-z]+|reverse|strpos|ANY|AND|OR|IS NOT TRUE|IS NOT NULL|IS NULL|IS DISTINCT FROM|TRUE|FALSE|` +
	`COLLATE "C"|::(text|bigint|boolean|timestamptz|jsonb)(\[\])?|\$[0-9]+|->>|@>|<=|>=|[()<>=?, 0])*$`)

func FuzzCompile(f *testing.F) {
	for _, s := range []string{
		`name == "a" && (cores > 3 || !on)`, `"x" in names`, `has(tags.a)`, `tags["a"].startsWith("b")`,
		`seen < now() + duration("1h")`, `status in ["Up"]`, `name == "'; DROP TABLE h; --"`, `name == "\x00"`,
		`tags["'"] == "$1"`, `seen - seen < duration("1h")`, `[1,2]`, `{}`, `"\U0010ffff" in tags`, `b"x" == b"y"`, `h.name`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		e, err := hosts.Compile(text)
		if err != nil {
			if fault.CodeOf(err) != fault.Invalid {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		if s, _ := sql(e); !own.MatchString(s) {
			t.Fatalf("%q became %s", text, s)
		}
	})
}
