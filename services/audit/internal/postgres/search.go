package postgres

import (
	"strconv"

	"github.com/certctl/certctl/libs/search"
)

// Search is what search expressions can ask of audit events.
var Search = search.New(
	search.Field{Name: "id", Column: "id", Type: search.Text},
	search.Field{Name: "sequence", Column: "sequence", Type: search.Int},
	search.Field{Name: "actor", Column: "actor", Type: search.Text},
	search.Field{Name: "actor_type", Column: "actor_type", Type: search.Text, Values: []string{"User", "System", "Agent"}},
	search.Field{Name: "action", Column: "action", Type: search.Text},
	search.Field{Name: "resource_type", Column: "resource_type", Type: search.Text},
	search.Field{Name: "resource_id", Column: "resource_id", Type: search.Text},
	search.Field{Name: "timestamp", Column: "happened_at", Type: search.Time},
)

// searched adds what a search asks for to the conditions.
func searched(q search.Query, parts []string, args []any) ([]string, []any) {
	sql, asked := q.Condition(func(v any) string {
		args = append(args, v)
		return "$" + strconv.Itoa(len(args))
	})
	if asked {
		parts = append(parts, sql)
	}
	return parts, args
}
