package policy

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// config reads the configuration of a rule, and objects to what it does not understand: a misspelt key would otherwise be
// a rule that does nothing.
type config struct {
	of     map[string]any
	object func(field, reason string)
	known  []string
}

// strings reads a list of distinct texts. What is missing is an empty list.
func (c *config) strings(key string, objection func(string) string) []string {
	c.known = append(c.known, key)
	v, there := c.of[key]
	if !there || v == nil {
		return nil
	}
	list, ok := v.([]any)
	if !ok {
		c.object(key, "must be a list of texts")
		return nil
	}
	if len(list) > maxEntries {
		c.object(key, fmt.Sprintf("has more than %d entries", maxEntries))
		return nil
	}
	out := make([]string, 0, len(list))
	for i, entry := range list {
		text, ok := entry.(string)
		field := fmt.Sprintf("%s[%d]", key, i)
		switch {
		case !ok:
			c.object(field, "must be a text")
		case text == "" || len(text) > maxName || !printable(text):
			c.object(field, fmt.Sprintf("must be 1 to %d printable characters", maxName))
		case objection != nil && objection(text) != "":
			c.object(field, objection(text))
		case !slices.Contains(out, text):
			out = append(out, text)
		}
	}
	return out
}

// required is strings that must not be empty.
func (c *config) required(key string, objection func(string) string) []string {
	v, there := c.of[key]
	out := c.strings(key, objection)
	if list, ok := v.([]any); !there || v == nil || ok && len(list) == 0 {
		c.object(key, "must name at least one")
	}
	return out
}

// whole reads a whole number within bounds.
func (c *config) whole(key string, least, most int) int {
	c.known = append(c.known, key)
	v, ok := c.of[key].(float64)
	if !ok || v != math.Trunc(v) || v < float64(least) || v > float64(most) {
		c.object(key, fmt.Sprintf("must be a whole number from %d to %d", least, most))
		return least
	}
	return int(v)
}

// finish objects to keys that were not read.
func (c *config) finish(of Type) {
	var unknown []string
	for key := range c.of {
		if !slices.Contains(c.known, key) {
			unknown = append(unknown, key)
		}
	}
	slices.Sort(unknown)
	for _, key := range unknown {
		c.object(bounded(strings.ToValidUTF8(key, "?")), fmt.Sprintf("is not known to rules of the type %s, which have %s", of, strings.Join(c.known, " and ")))
	}
}
