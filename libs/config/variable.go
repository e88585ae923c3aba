package config

import (
	"encoding"
	"fmt"
	"io"
	"reflect"
	"strings"
	"text/template"

	"github.com/kelseyhightower/envconfig"
)

// Var describes one variable, for generated documentation.
type Var struct {
	Name        string
	Type        string
	Default     string
	Description string
	Required    bool
	// Secret says that the variable's value must not be shown and that Name + "_FILE" is accepted in its place.
	Secret bool
}

// Describe lists the variables that Load(prefix, into) reads, in the order of the fields.
func Describe(prefix string, into any) ([]Var, error) {
	vars, err := gather(prefix, into)
	if err != nil {
		return nil, err
	}
	out := make([]Var, len(vars))
	for i, v := range vars {
		out[i] = Var{
			Name:        v.key,
			Type:        typeName(v.field.Type()),
			Default:     v.tags.Get("default"),
			Description: v.tags.Get("desc"),
			Required:    v.tags.Get("required") == "true",
			Secret:      v.secret(),
		}
	}
	return out, nil
}

func typeName(t reflect.Type) string {
	switch {
	case t == durationType:
		return "duration"
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.String:
		return "list"
	case t.Kind() == reflect.Map:
		return "map"
	case t.Kind() == reflect.Pointer:
		return typeName(t.Elem())
	case t.PkgPath() == "":
		return t.Kind().String()
	default:
		return "text"
	}
}

type variable struct {
	key   string
	field reflect.Value
	tags  reflect.StructTag
}

func (v variable) secret() bool     { return v.tags.Get("secret") == "true" }
func (v variable) fileName() string { return v.key + "_FILE" }

func (v variable) names() []string {
	if v.secret() {
		return []string{v.key, v.fileName()}
	}
	return []string{v.key}
}

// gather lists the fields under the names that envconfig itself gives them. Its list is not exported, but is handed to
// the template of its usage text.
func gather(prefix string, into any) ([]variable, error) {
	var vars []variable
	collect := func(info any) string {
		s := reflect.ValueOf(info)
		vars = append(vars, variable{
			key:   s.FieldByName("Key").String(),
			field: s.FieldByName("Field").Interface().(reflect.Value),
			tags:  s.FieldByName("Tags").Interface().(reflect.StructTag),
		})
		return ""
	}
	list := template.Must(template.New("").Funcs(template.FuncMap{"collect": collect}).Parse(`{{range .}}{{collect .}}{{end}}`))
	if err := envconfig.Usaget(prefix, into, io.Discard, list); err != nil {
		return nil, fmt.Errorf("read the fields of %T: %w", into, err)
	}
	if err := checkSplit(reflect.TypeOf(into).Elem()); err != nil {
		return nil, err
	}
	for _, v := range vars {
		if err := v.check(); err != nil {
			return nil, err
		}
	}
	return vars, nil
}

// checkSplit refuses a field whose name would be run together (RateLimit as RATELIMIT), at any depth: the fields that
// are structs of variables are not among those that gather lists.
func checkSplit(t reflect.Type) error {
	for _, f := range reflect.VisibleFields(t) {
		if !f.IsExported() || f.Anonymous || f.Tag.Get("ignored") == "true" {
			continue
		}
		if f.Tag.Get("split_words") != "true" {
			return fmt.Errorf(`the field %s of %s lacks split_words:"true"`, f.Name, t)
		}
		inner := f.Type
		if inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		if inner.Kind() != reflect.Struct || decodes(inner) {
			continue
		}
		if err := checkSplit(inner); err != nil {
			return err
		}
	}
	return nil
}

// decodes reports whether a struct is a single value, such as a url.URL, to envconfig.
func decodes(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) || p.Implements(reflect.TypeFor[encoding.BinaryUnmarshaler]()) ||
		p.Implements(reflect.TypeFor[envconfig.Decoder]()) || p.Implements(reflect.TypeFor[envconfig.Setter]())
}

// check refuses the tags that would bring one of envconfig's traps back.
func (v variable) check() error {
	switch {
	case v.tags.Get("envconfig") != "":
		return fmt.Errorf("%s: the envconfig tag would also read the name without its prefix", v.key)
	case v.secret() && v.field.Kind() != reflect.String:
		return fmt.Errorf("%s: a secret must be a string", v.key)
	case v.secret() && v.tags.Get("required") != "":
		return fmt.Errorf("%s: a secret may come from a file, so Validate must ask for it", v.key)
	case strings.HasSuffix(v.key, "_FILE") && v.secret():
		return fmt.Errorf("%s: the name of a secret must not end in _FILE", v.key)
	}
	return nil
}
