package api

import (
	"strings"
	"time"
	"unicode/utf8"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/id"
	"github.com/certctl/certctl/libs/page"
	"github.com/certctl/certctl/services/deployment/internal/postgres"
)

// askNewest reads which part of a list that is sorted newest first is asked for: a page
// by its number, or what lies behind a cursor. One row more than is shown is read, since
// it tells whether the list goes on.
func askNewest(number, size *int, cursor *string) (window, postgres.Place, error) {
	w, err := ask(number, size)
	if err != nil {
		return w, postgres.Place{}, err
	}
	place := postgres.Place{Offset: w.offset(), Limit: w.size + 1}
	if cursor == nil || *cursor == "" {
		return w, place, nil
	}
	at, err := page.Parse(*cursor)
	if err != nil {
		return w, place, err
	}
	if place.Behind, err = at.Time(); err != nil {
		return w, place, err
	}
	if place.BehindID = at.ID; !id.Valid(at.ID) {
		return w, place, fault.InvalidFields(fault.Field{Name: "cursor", Reason: "is not one that a list has given"})
	}
	return w, place, nil
}

// cut drops the row beyond the page and returns the cursor behind the last that is left,
// nil at the end.
func cut[T any](rows []T, w window, at func(T) (time.Time, string)) ([]T, *string) {
	if len(rows) <= w.size {
		return rows, nil
	}
	rows = rows[:w.size]
	cursor := page.At(at(rows[w.size-1])).String()
	return rows, &cursor
}

// shownAll turns rows into what is shown of them; a list is never null.
func shownAll[T, S any](rows []T, show func(T) S) []S {
	shown := make([]S, len(rows))
	for i, row := range rows {
		shown[i] = show(row)
	}
	return shown
}

// filters reads parameters that limit a list, and says of all that are wrong what is.
type filters struct{ bad []fault.Field }

func (f *filters) text(name string, given *string) string {
	if given == nil {
		return ""
	}
	if !utf8.ValidString(*given) || strings.ContainsRune(*given, 0) {
		f.refuse(name, "holds characters that no value has")
	}
	return *given
}

func (f *filters) id(name string, given *string) string {
	if given == nil || *given == "" {
		return ""
	}
	if !id.Valid(*given) {
		f.refuse(name, "is no id")
	}
	return *given
}

func (f *filters) refuse(name, reason string) {
	f.bad = append(f.bad, fault.Field{Name: name, Reason: reason})
}

func (f *filters) err() error {
	if len(f.bad) == 0 {
		return nil
	}
	return fault.InvalidFields(f.bad...)
}
