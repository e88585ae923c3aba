package postgres

import (
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/search"
)

// conditions grow the WHERE of a query over certificates c. Texts are this package's own; values travel as arguments.
type conditions struct {
	parts []string
	args  []any
}

// arg adds an argument and returns its placeholder.
func (c *conditions) arg(v any) string {
	c.args = append(c.args, v)
	return "$" + strconv.Itoa(len(c.args))
}

// equal asks for a column to have a value, unless that is nil.
func (c *conditions) equal(column string, v *string) {
	if v != nil {
		c.parts = append(c.parts, column+" = "+c.arg(*v))
	}
}

// moment compares a column with a time, unless that is nil.
func (c *conditions) moment(comparison string, at *time.Time) {
	if at != nil {
		c.parts = append(c.parts, comparison+" "+c.arg(*at))
	}
}

// search asks for what a search expression says.
func (c *conditions) search(q search.Query) {
	if sql, asked := q.Condition(c.arg); asked {
		c.parts = append(c.parts, sql)
	}
}

// scope limits certificates to what a principal may see. An empty list that is not nil admits nothing.
func (c *conditions) scope(s authn.Scope) {
	for _, dimension := range [...]struct {
		column string
		of     []string
	}{{"c.team_id", s.Teams}, {"c.environment", s.Environments}, {"c.issuer_id", s.Issuers}, {"c.certificate_profile_id", s.Profiles}} {
		if dimension.of != nil {
			c.parts = append(c.parts, dimension.column+" = ANY("+c.arg(dimension.of)+")")
		}
	}
}

// behind asks for the rows behind a place in a list that is sorted by columns.
func (c *conditions) behind(columns []string, descending bool, place []any) {
	operator := ">"
	if descending {
		operator = "<"
	}
	values := make([]string, len(place))
	for i, v := range place {
		values[i] = c.arg(v)
	}
	c.parts = append(c.parts, "("+strings.Join(columns, ", ")+") "+operator+" ("+strings.Join(values, ", ")+")")
}

// planned are arguments for a query under these conditions. With any, the server is to plan it for the values at hand: a
// plan that is kept for any value walks the whole table for what is rare. Without, one plan is as good as another.
func (c *conditions) planned(args []any) []any {
	if len(c.parts) == 0 {
		return args
	}
	return append([]any{pgx.QueryExecModeCacheDescribe}, args...)
}

// where is the whole WHERE, empty without conditions.
func (c *conditions) where() string {
	if len(c.parts) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(c.parts, " AND ")
}

// and continues a WHERE.
func (c *conditions) and() string {
	if len(c.parts) == 0 {
		return ""
	}
	return " AND " + strings.Join(c.parts, " AND ")
}
