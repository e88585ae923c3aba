package pg

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// Totals are exact up to ExactTotal. Beyond that counting costs more than a page, and nobody reads the last digit: the
// planner's estimate stands in, and is remembered for a while.
const (
	ExactTotal   = 10_000
	estimateAge  = 10 * time.Second
	maxEstimates = 256
)

// Queryer asks for one row: a pool, a connection or a transaction.
type Queryer interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Totals says how many rows lists have. Its zero value is ready, and safe for concurrent use.
type Totals struct {
	mu        sync.Mutex
	estimates map[string]estimate // guarded by mu
}

type estimate struct {
	rows int64
	at   time.Time
}

// Count counts what "FROM from where" has. Where is empty, or begins with " WHERE "; args may begin with the mode of the
// query, as everywhere in pgx.
func (t *Totals) Count(ctx context.Context, q Queryer, from, where string, args []any) (int64, error) {
	key := fmt.Sprint(from, where, args)
	if n, ok := t.recall(key); ok {
		return n, nil
	}
	var n int64
	sql := "SELECT count(*) FROM (SELECT FROM " + from + where + fmt.Sprintf(" LIMIT %d) t", ExactTotal+1)
	if err := q.QueryRow(ctx, sql, args...).Scan(&n); err != nil {
		return 0, Fault(fmt.Errorf("count: %w", err))
	}
	if n <= ExactTotal {
		return n, nil
	}
	n, err := expected(ctx, q, from+where, args)
	if err != nil {
		return 0, err
	}
	t.remember(key, n)
	return n, nil
}

// expected is how many rows the planner expects.
func expected(ctx context.Context, q Queryer, from string, args []any) (int64, error) {
	var text []byte
	if err := q.QueryRow(ctx, "EXPLAIN (FORMAT JSON) SELECT FROM "+from, args...).Scan(&text); err != nil {
		return 0, Fault(fmt.Errorf("estimate a count: %w", err))
	}
	var plans []struct {
		Plan struct {
			Rows float64 `json:"Plan Rows"`
		}
	}
	if err := json.Unmarshal(text, &plans); err != nil {
		return 0, fmt.Errorf("read the plan of a count: %w", err)
	}
	if len(plans) == 0 {
		return 0, errors.New("the plan of a count is empty")
	}
	return max(int64(plans[0].Plan.Rows), ExactTotal+1), nil
}

func (t *Totals) recall(key string) (int64, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, ok := t.estimates[key]
	return e.rows, ok && time.Since(e.at) < estimateAge
}

func (t *Totals) remember(key string, n int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.estimates == nil || len(t.estimates) >= maxEstimates {
		t.estimates = map[string]estimate{}
	}
	t.estimates[key] = estimate{rows: n, at: time.Now()}
}
