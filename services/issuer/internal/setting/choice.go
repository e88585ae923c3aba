package setting

import (
	"slices"
	"strings"
)

// OneOf reads a string that is one of several; what is missing is otherwise.
func (r *Reader) OneOf(name, otherwise string, values ...string) string {
	s := r.Text(name)
	switch {
	case s == "":
		return otherwise
	case !slices.Contains(values, s):
		r.Bad(name, "must be one of "+strings.Join(values, ", "))
		return otherwise
	default:
		return s
	}
}

// Switch reads a boolean; what is missing is otherwise.
func (r *Reader) Switch(name string, otherwise bool) bool {
	v, ok := r.get(name)
	if !ok {
		return otherwise
	}
	on, isBool := v.(bool)
	if !isBool {
		r.Bad(name, "must be true or false")
		return otherwise
	}
	return on
}
