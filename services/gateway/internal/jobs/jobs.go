// Package jobs makes one list of the jobs of two owners. An id says whose job it is:
// job-i- the issuer's, job-d- the deployment service's.
//
// Both owners sort by creation, newest first, and use the same cursor, so the lists are
// merged row by row and the cursor behind any row is good for both.
package jobs

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"golang.org/x/sync/errgroup"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/httpx"
	"github.com/certctl/certctl/libs/page"
	"github.com/certctl/certctl/services/gateway/internal/edge"
)

// owners of jobs by the prefix of their ids.
var owners = []struct{ prefix, service string }{{"job-i-", "issuer"}, {"job-d-", "deployment"}}

// ByID sends an operation on one job to the job's owner.
func ByID(transport http.RoundTripper, operation string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := chi.URLParam(r, "id")
		for _, o := range owners {
			if strings.HasPrefix(id, o.prefix) {
				edge.Forward(transport, o.service, operation).ServeHTTP(w, r)
				return
			}
		}
		httpx.WriteProblem(w, r, fault.New(fault.NotFound, "there is no job %q; ids of jobs begin with job-i- or job-d-", id))
	})
}

// list is a page of either owner, and of the result. Rows pass through as they are.
type list struct {
	Data       []json.RawMessage `json:"data"`
	Total      int64             `json:"total"`
	Page       int               `json:"page"`
	PerPage    int               `json:"per_page"`
	NextCursor string            `json:"next_cursor,omitempty"`
}

// List answers with the merged list.
func List(transport http.RoundTripper) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l, err := merged(transport, r)
		if err != nil {
			httpx.WriteProblem(w, r, err)
			return
		}
		httpx.WriteJSON(w, http.StatusOK, l)
	})
}

func merged(transport http.RoundTripper, r *http.Request) (*list, error) {
	q := r.URL.Query()
	size, number, err := bounds(q)
	if err != nil {
		return nil, err
	}
	skip := (number - 1) * size
	if q.Get("cursor") != "" {
		skip = 0
	}
	// One row beyond the page tells whether there is a next one.
	sources := make([]*source, len(owners))
	var g errgroup.Group
	for i, o := range owners {
		sources[i] = &source{transport: transport, service: o.service, request: r, query: cloneWithoutPage(q)}
		g.Go(func() error { return sources[i].read(skip + size + 1) })
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	rows := merge(sources[0].rows, sources[1].rows)
	out := &list{Data: []json.RawMessage{}, Total: sources[0].total + sources[1].total, Page: number, PerPage: size}
	for i := skip; i < min(len(rows), skip+size); i++ {
		out.Data = append(out.Data, rows[i].raw)
	}
	if len(rows) > skip+size {
		last := rows[skip+size-1]
		out.NextCursor = page.At(last.CreatedAt, last.ID).String()
	}
	return out, nil
}

// bounds reads the paging parameters.
func bounds(q url.Values) (size, number int, err error) {
	perPage, err := integer(q, "per_page")
	if err != nil {
		return 0, 0, err
	}
	if size, err = page.Size(perPage); err != nil {
		return 0, 0, err
	}
	asked, err := integer(q, "page")
	if err != nil {
		return 0, 0, err
	}
	number, err = page.Number(asked, size)
	return size, number, err
}

func integer(q url.Values, name string) (*int, error) {
	if !q.Has(name) {
		return nil, nil //nolint:nilnil // absent is neither a number nor an error
	}
	n, err := strconv.Atoi(q.Get(name))
	if err != nil {
		return nil, fault.InvalidFields(fault.Field{Name: name, Reason: "must be an integer"})
	}
	return &n, nil
}

func cloneWithoutPage(q url.Values) url.Values {
	c := url.Values{}
	for k, v := range q {
		if k != "page" && k != "per_page" {
			c[k] = v
		}
	}
	return c
}

// row is a job, with what it is sorted by.
type row struct {
	ID        string    `json:"id"`
	CreatedAt time.Time `json:"created_at"`
	raw       json.RawMessage
}

// source reads the list of one owner, as far as it is needed.
type source struct {
	transport http.RoundTripper
	service   string
	request   *http.Request
	query     url.Values

	rows  []row
	total int64
}

func (s *source) read(want int) error {
	for len(s.rows) < want {
		s.query.Set("per_page", strconv.Itoa(min(want-len(s.rows), page.MaxSize)))
		l, err := s.page()
		if err != nil {
			return err
		}
		if len(s.rows) == 0 {
			s.total = l.Total
		}
		for _, raw := range l.Data {
			next := row{raw: raw}
			if err := json.Unmarshal(raw, &next); err != nil {
				return fmt.Errorf("read a job of %s: %w", s.service, err)
			}
			s.rows = append(s.rows, next)
		}
		if l.NextCursor == "" || len(l.Data) == 0 {
			return nil
		}
		s.query.Set("cursor", l.NextCursor)
	}
	return nil
}

func (s *source) page() (*list, error) {
	r := s.request.Clone(s.request.Context())
	r.URL.RawQuery = s.query.Encode()
	var l list
	if err := edge.Fetch(s.transport, s.service, "listJobs", r, &l); err != nil {
		return nil, err
	}
	return &l, nil
}

// merge interleaves two lists that are sorted newest first.
func merge(a, b []row) []row {
	out := make([]row, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		if before(a[0], b[0]) {
			out, a = append(out, a[0]), a[1:]
		} else {
			out, b = append(out, b[0]), b[1:]
		}
	}
	return append(append(out, a...), b...)
}

func before(a, b row) bool {
	if !a.CreatedAt.Equal(b.CreatedAt) {
		return a.CreatedAt.After(b.CreatedAt)
	}
	return a.ID > b.ID
}
