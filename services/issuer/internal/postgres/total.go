package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/certctl/certctl/libs/pg"
)

// Totals are exact up to exactTotal. Beyond that counting costs more than the page, and nobody reads the last digit: the
// planner's estimate stands in, and is remembered for a while.
const (
	exactTotal   = 10_000
	estimateAge  = 10 * time.Second
	maxEstimates = 256
)

// totals remembers estimates of large lists. Its zero value is ready.
type totals struct {
	mu        sync.Mutex
	estimates map[string]estimate // guarded by mu
}

type estimate struct {
	rows int64
	at   time.Time
}

// total counts the rows of from under c. A page that ends the list says how many there are without counting.
func (s *Store) total(ctx context.Context, from string, c *conditions) (int64, error) {
	key := fmt.Sprint(from, c.parts, c.args)
	if n, ok := s.totals.recall(key); ok {
		return n, nil
	}
	var n int64
	sql := "SELECT count(*) FROM (SELECT FROM " + from + c.where() + fmt.Sprintf(" LIMIT %d) t", exactTotal+1)
	if err := s.pool.QueryRow(ctx, sql, c.planned(c.args)...).Scan(&n); err != nil {
		return 0, pg.Fault(fmt.Errorf("count: %w", err))
	}
	if n <= exactTotal {
		return n, nil
	}
	n, err := s.estimate(ctx, from, c)
	if err != nil {
		return 0, err
	}
	s.totals.remember(key, n)
	return n, nil
}

func (s *Store) estimate(ctx context.Context, from string, c *conditions) (int64, error) {
	var text []byte
	err := s.pool.QueryRow(ctx, "EXPLAIN (FORMAT JSON) SELECT FROM "+from+c.where(), c.args...).Scan(&text)
	if err != nil {
		return 0, pg.Fault(fmt.Errorf("estimate a count: %w", err))
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

func (t *totals) recall(key string) (int64, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, ok := t.estimates[key]
	return e.rows, ok && time.Since(e.at) < estimateAge
}

func (t *totals) remember(key string, n int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.estimates == nil || len(t.estimates) >= maxEstimates {
		t.estimates = map[string]estimate{}
	}
	t.estimates[key] = estimate{rows: n, at: time.Now()}
}
