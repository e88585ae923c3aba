// Package view keeps queries that a caller wants to ask again, for itself or for
// everybody.
//
// A view is a name for a list's parameters and gives nobody a right: what it shows is
// asked for anew, as whoever asks. It belongs to the principal that made it, who alone
// changes it.
package view

import (
	"strings"
	"time"
	"unicode/utf8"

	"github.com/certctl/certctl/libs/fault"
)

// View is a saved query.
type View struct {
	ID, Principal  string
	Name, Resource string
	Query          map[string]string
	Shared         bool
	Revision       int64
	CreatedAt      time.Time
	UpdatedAt      time.Time
}

const (
	maxName       = 255
	maxParameters = 50
	maxValue      = 2000
	// maxOwn is how many views one principal can have.
	maxOwn = 500
)

// check holds a view to what can be kept.
func check(v View) error {
	var wrong []fault.Field
	if n := utf8.RuneCountInString(v.Name); n == 0 || n > maxName || strings.TrimSpace(v.Name) == "" {
		wrong = append(wrong, fault.Field{Name: "name", Reason: "must be 1 to 255 characters, and not all of them blanks"})
	}
	switch v.Resource {
	case "certificates", "jobs", "agents", "audit":
	default:
		wrong = append(wrong, fault.Field{Name: "resource", Reason: "must be one of certificates, jobs, agents, audit"})
	}
	switch {
	case v.Query == nil:
		wrong = append(wrong, fault.Field{Name: "query", Reason: "is missing"})
	case len(v.Query) > maxParameters:
		wrong = append(wrong, fault.Field{Name: "query", Reason: "must have at most 50 parameters"})
	}
	for name, value := range v.Query {
		if name == "" || len(name) > maxName || utf8.RuneCountInString(value) > maxValue {
			wrong = append(wrong, fault.Field{Name: "query", Reason: "must have names of 1 to 255 bytes and values of at most 2000 characters"})
			break
		}
	}
	if len(wrong) > 0 {
		return fault.InvalidFields(wrong...)
	}
	return nil
}
