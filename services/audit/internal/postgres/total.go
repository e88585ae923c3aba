package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"
)

// Totals are exact up to exactTotal. Beyond that counting costs more than the page, and
// nobody reads the last digit: the planner's estimate stands in, and is remembered for a
// while.
const (
	exactTotal   = 10_000
	estimateAge  = 10 * time.Second
	maxEstimates = 256
)

// Totals counts what filters match, and remembers estimates of what is much. Its zero
// value is ready.
type Totals struct {
	mu        sync.Mutex
	estimates map[string]estimate // guarded by mu
}

type estimate struct {
	rows int64
	at   time.Time
}

// Count returns how many events match. All of them are counted by the sequence, which
// has no gaps.
func (t *Totals) Count(ctx context.Context, q Querier, f Filter) (int64, error) {
	parts, args := f.conditions()
	if len(parts) == 0 {
		head, err := Head(ctx, q)
		return head.Sequence, err
	}
	key := fmt.Sprint(parts, args)
	if n, ok := t.recall(key); ok {
		return n, nil
	}
	args = append([]any{planned}, args...)
	var n int64
	query := fmt.Sprintf("SELECT count(*) FROM (SELECT FROM audit_events%s LIMIT %d) AS bounded", where(parts), exactTotal+1)
	if err := q.QueryRow(ctx, query, args...).Scan(&n); err != nil {
		return 0, fmt.Errorf("count audit events: %w", err)
	}
	if n <= exactTotal {
		return n, nil
	}
	n, err := expected(ctx, q, where(parts), args)
	if err != nil {
		return 0, err
	}
	t.remember(key, n)
	return n, nil
}

// expected is how many rows the planner expects.
func expected(ctx context.Context, q Querier, where string, args []any) (int64, error) {
	var text []byte
	if err := q.QueryRow(ctx, "EXPLAIN (FORMAT JSON) SELECT FROM audit_events"+where, args...).Scan(&text); err != nil {
		return 0, fmt.Errorf("estimate how many audit events there are: %w", err)
	}
	var plans []struct {
		Plan struct {
			Rows float64 `json:"Plan Rows"`
		}
	}
	if err := json.Unmarshal(text, &plans); err != nil || len(plans) == 0 {
		return 0, fmt.Errorf("read the plan of a count: %w", err)
	}
	return max(int64(plans[0].Plan.Rows), exactTotal+1), nil
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
