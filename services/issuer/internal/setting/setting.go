// Package setting reads the settings of an issuer, which come as JSON, and gathers those at fault, so that whoever sets
// an issuer up is told of all of them at once.
package setting

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/certctl/certctl/libs/fault"
)

// Days is how long what an issuer issues is valid at most; every type that can be told has it under this name.
const Days = "validity_days"

// maxDays is a century: what is meant to be longer is a slip of the hand.
const maxDays = 36500

// Merge returns a config after an update of some settings, of which a null is taken away.
func Merge(config, update map[string]any) map[string]any {
	merged := map[string]any{}
	maps.Copy(merged, config)
	maps.Copy(merged, update)
	maps.DeleteFunc(merged, func(_ string, v any) bool { return v == nil })
	return merged
}

// Reader reads a config, each setting by its name. Its methods return the zero value for what is missing or wrong.
type Reader struct {
	of     string
	config map[string]any
	known  []string
	bad    []fault.Field
}

// Of returns the reader of a config of a type of issuer.
func Of(kind string, config map[string]any) *Reader { return &Reader{of: kind, config: config} }

func (r *Reader) get(name string) (any, bool) {
	r.known = append(r.known, name)
	v, ok := r.config[name]
	return v, ok && v != nil
}

// Bad notes that a setting is at fault.
func (r *Reader) Bad(name, reason string) {
	r.bad = append(r.bad, fault.Field{Name: "config." + name, Reason: reason})
}

// Text reads a string, without the spaces around it.
func (r *Reader) Text(name string) string {
	v, ok := r.get(name)
	if !ok {
		return ""
	}
	s, ok := v.(string)
	if !ok {
		r.Bad(name, "must be a string")
	}
	return strings.TrimSpace(s)
}

// Required reads a string that must be there.
func (r *Reader) Required(name string) string {
	s := r.Text(name)
	if _, isText := r.config[name].(string); s == "" && (isText || r.config[name] == nil) {
		r.Bad(name, "is required")
	}
	return s
}

// Whole reads a whole number within bounds.
func (r *Reader) Whole(name string, least, most int) int {
	v, ok := r.get(name)
	if !ok {
		return 0
	}
	n, ok := v.(float64)
	if !ok || n != math.Trunc(n) || n < float64(least) || n > float64(most) {
		r.Bad(name, fmt.Sprintf("must be a whole number from %d to %d", least, most))
		return 0
	}
	return int(n)
}

// Lifetime reads [Days].
func (r *Reader) Lifetime() time.Duration {
	return time.Duration(r.Whole(Days, 1, maxDays)) * 24 * time.Hour
}

// Words reads a list of strings, or one string, which is a list of one.
func (r *Reader) Words(name string) []string {
	v, ok := r.get(name)
	if !ok {
		return nil
	}
	if s, ok := v.(string); ok {
		return []string{s}
	}
	list, ok := v.([]any)
	words := make([]string, len(list))
	for i := range list {
		s, isText := list[i].(string)
		ok = ok && isText
		words[i] = s
	}
	if !ok {
		r.Bad(name, "must be a string or a list of strings")
		return nil
	}
	return words
}

// Err is Invalid and names every setting that is at fault, and those that the type does not have.
func (r *Reader) Err() error {
	for _, name := range slices.Sorted(maps.Keys(r.config)) {
		if !slices.Contains(r.known, name) {
			r.Bad(name, "is no setting of type "+r.of+"; it has "+strings.Join(r.known, ", "))
		}
	}
	if len(r.bad) == 0 {
		return nil
	}
	return fault.InvalidFields(r.bad...)
}
