package api

import (
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/page"
	"github.com/certctl/certctl/services/audit/internal/postgres"
)

// asked is what a caller asks for; nil and empty ask for nothing.
type asked struct {
	actor, action, resourceType, resourceID, resource, q *string
	since, until, after, before                          *time.Time
}

// filter reads what is asked for, and names every parameter that is wrong.
func filter(a asked) (postgres.Filter, error) {
	var f postgres.Filter
	var bad []fault.Field
	wrong := func(name, reason string) { bad = append(bad, fault.Field{Name: name, Reason: reason}) }
	resource, id := "", ""
	if a.resource != nil {
		resource, id, _ = strings.Cut(*a.resource, "/")
	}
	for _, c := range [...]struct {
		name  string
		asked *string
		into  *string
	}{
		{"actor", a.actor, &f.Actor},
		{"action", a.action, &f.Action},
		{"resource_type", a.resourceType, &f.ResourceType},
		{"resource_id", a.resourceID, &f.ResourceID},
		{"resource", &resource, &f.ResourceType},
		{"resource", &id, &f.ResourceID},
	} {
		switch {
		case c.asked == nil || *c.asked == "":
		case !storable(*c.asked):
			wrong(c.name, "is not text")
		case *c.into != "" && *c.into != *c.asked:
			wrong(c.name, "contradicts resource_type or resource_id")
		default:
			*c.into = *c.asked
		}
	}
	for _, c := range [...]struct {
		name  string
		asked *time.Time
		into  *time.Time
	}{{"since", a.since, &f.Since}, {"after", a.after, &f.Since}, {"until", a.until, &f.Until}, {"before", a.before, &f.Until}} {
		switch {
		case c.asked == nil:
		case !c.into.IsZero() && !c.into.Equal(*c.asked):
			wrong(c.name, "contradicts the parameter that means the same")
		default:
			*c.into = *c.asked
		}
	}
	if len(bad) == 0 && !f.Since.IsZero() && !f.Until.IsZero() && f.Until.Before(f.Since) {
		wrong("until", "is before since")
	}
	if len(bad) > 0 {
		return f, fault.InvalidFields(bad...)
	}
	return f, nil
}

// storable tells whether Postgres takes s as text; what it does not take it does not hold.
func storable(s string) bool { return utf8.ValidString(s) && !strings.ContainsRune(s, 0) }

// bounds reads which page is asked for.
func bounds(perPage, number *int) (size, n int, err error) {
	if size, err = page.Size(perPage); err != nil {
		return 0, 0, err
	}
	n, err = page.Number(number, size)
	return size, n, err
}

// behind reads where to go on.
func behind(cursor *string) (postgres.Place, error) {
	if cursor == nil || *cursor == "" {
		return postgres.Place{}, nil
	}
	c, err := page.Parse(*cursor)
	if err != nil {
		return postgres.Place{}, err
	}
	at, err := c.Time()
	if err != nil {
		return postgres.Place{}, err
	}
	sequence, err := place(c.ID)
	return postgres.Place{At: at, Sequence: sequence}, err
}

func place(text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 {
		return 0, fault.InvalidFields(fault.Field{Name: "cursor", Reason: "is not one that this list has given"})
	}
	return n, nil
}
