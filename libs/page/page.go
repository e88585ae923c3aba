// Package page holds what every list agrees on: how many rows a page has, and the
// cursor by which the next one is asked for.
//
// A cursor names the last row that was seen by its sort key and its id, so a list
// goes on at the right place however many rows have come or gone meanwhile (keyset
// paging). It is opaque to clients, and the same for every owner: the gateway can
// therefore merge the lists of two owners.
package page

import (
	"encoding/base64"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/certctl/certctl/libs/fault"
)

// Bounds of a page.
const (
	DefaultSize = 50
	MaxSize     = 500
	// MaxDepth is how many rows deep page numbers reach. A cursor has no such limit.
	MaxDepth = 10_000
)

// Size is the number of rows asked for, brought within bounds: none means
// [DefaultSize], more than [MaxSize] is read as MaxSize.
func Size(asked *int) (int, error) {
	switch {
	case asked == nil:
		return DefaultSize, nil
	case *asked < 1:
		return 0, fault.InvalidFields(fault.Field{Name: "per_page", Reason: "must be at least 1"})
	default:
		return min(*asked, MaxSize), nil
	}
}

// Number is the page asked for, 1 if none is. A page that ends deeper than
// [MaxDepth] rows is refused with a pointer to the cursor.
func Number(asked *int, size int) (int, error) {
	switch {
	case asked == nil:
		return 1, nil
	case *asked < 1:
		return 0, fault.InvalidFields(fault.Field{Name: "page", Reason: "must be at least 1"})
	case *asked > MaxDepth/size:
		return 0, fault.InvalidFields(fault.Field{
			Name:   "page",
			Reason: "page numbers reach 10,000 rows deep; go further with the cursor in next_cursor",
		})
	default:
		return *asked, nil
	}
}

// Cursor is a place in a list: just behind the row with this key and id. Key is the
// sort key's text; for times see [At].
type Cursor struct {
	Key, ID string
}

// At is the cursor behind a row of a list that is sorted by a time.
func At(t time.Time, id string) Cursor {
	return Cursor{Key: t.UTC().Format(time.RFC3339Nano), ID: id}
}

// Time is the key of a cursor that [At] made.
func (c Cursor) Time() (time.Time, error) {
	t, err := time.Parse(time.RFC3339Nano, c.Key)
	if err != nil {
		return time.Time{}, bad()
	}
	return t, nil
}

// String is the cursor as clients see it.
func (c Cursor) String() string {
	return base64.RawURLEncoding.EncodeToString([]byte(c.Key + "\x00" + c.ID))
}

// Parse reads a cursor that [Cursor.String] made. Anything else is Invalid.
func Parse(s string) (Cursor, error) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return Cursor{}, bad()
	}
	key, id, found := strings.Cut(string(b), "\x00")
	// What no key or id can be must not reach a database.
	if !found || id == "" || strings.Contains(id, "\x00") || !utf8.Valid(b) {
		return Cursor{}, bad()
	}
	return Cursor{Key: key, ID: id}, nil
}

func bad() error {
	return fault.InvalidFields(fault.Field{Name: "cursor", Reason: "is not one that a list has given"})
}
