package search

import "time"

// Query is an expression that is asked at a time. The zero value asks for nothing.
type Query struct {
	expression *Expression
	at         time.Time
}

// Ask reads what a caller may have given; nil and the empty text ask for nothing. The time is cut to the second, so that
// what is remembered of a query, such as a total, is found again.
func (l *Language) Ask(text *string, at time.Time) (Query, error) {
	if text == nil || *text == "" {
		return Query{}, nil
	}
	e, err := l.Compile(*text)
	return Query{e, at.Truncate(time.Second)}, err
}

// Condition is the query's condition, false if it asks for nothing. It calls arg for each value, which returns the
// value's placeholder.
func (q Query) Condition(arg func(any) string) (sql string, asked bool) {
	if q.expression == nil {
		return "", false
	}
	return q.expression.SQL(q.at, arg), true
}
