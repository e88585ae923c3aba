package jobs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/certctl/certctl/libs/natshttp"
	"github.com/certctl/certctl/libs/page"
)

// fleet answers listJobs as the two owners do.
type fleet map[string][]row

func (f fleet) RoundTrip(r *http.Request) (*http.Response, error) {
	route, _ := natshttp.RouteOf(r.Context())
	rows := f[route.Service]
	q := r.URL.Query()
	if text := q.Get("cursor"); text != "" {
		c, err := page.Parse(text)
		if err != nil {
			return nil, err
		}
		at, err := c.Time()
		if err != nil {
			return nil, err
		}
		rows = slices.DeleteFunc(slices.Clone(rows), func(x row) bool { return !before(row{ID: c.ID, CreatedAt: at}, x) })
	}
	size, err := strconv.Atoi(q.Get("per_page"))
	if err != nil {
		return nil, err
	}
	l := list{Data: []json.RawMessage{}, Total: int64(len(f[route.Service]))}
	for _, x := range rows[:min(size, len(rows))] {
		b, err := json.Marshal(map[string]any{"id": x.ID, "created_at": x.CreatedAt})
		if err != nil {
			return nil, err
		}
		l.Data = append(l.Data, b)
	}
	if len(rows) > size {
		l.NextCursor = page.At(rows[size-1].CreatedAt, rows[size-1].ID).String()
	}
	b, err := json.Marshal(l)
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(bytes.NewReader(b))}, err
}

func draw(t *rapid.T, prefix string) []row {
	start := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	n := rapid.IntRange(0, 30).Draw(t, prefix+"n")
	rows := make([]row, n)
	for i := range rows {
		rows[i] = row{
			ID:        fmt.Sprintf("%s%02d", prefix, i),
			CreatedAt: start.Add(time.Duration(rapid.IntRange(0, 9).Draw(t, "at")) * time.Second),
		}
	}
	slices.SortFunc(rows, func(a, b row) int {
		if before(a, b) {
			return -1
		}
		return 1
	})
	return rows
}

func get(t *rapid.T, f fleet, query string) list {
	w := httptest.NewRecorder()
	List(f).ServeHTTP(w, httptest.NewRequest("GET", "/api/v1/jobs?"+query, nil))
	if w.Code != http.StatusOK {
		t.Fatalf("%s: %d %s", query, w.Code, w.Body)
	}
	var l list
	if err := json.Unmarshal(w.Body.Bytes(), &l); err != nil {
		t.Fatal(err)
	}
	return l
}

func ids(t *rapid.T, l list) []string {
	var out []string
	for _, raw := range l.Data {
		var r row
		if err := json.Unmarshal(raw, &r); err != nil {
			t.Fatal(err)
		}
		out = append(out, r.ID)
	}
	return out
}

func TestList_ShowsEveryJobOnceInOrderByCursorAndByPage(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := fleet{"issuer": draw(t, "job-i-"), "deployment": draw(t, "job-d-")}
		var want []string
		for _, r := range merge(f["issuer"], f["deployment"]) {
			want = append(want, r.ID)
		}
		size := rapid.IntRange(1, 12).Draw(t, "size")

		var byCursor, byPage []string
		query := fmt.Sprintf("per_page=%d", size)
		for l := get(t, f, query); ; l = get(t, f, query+"&cursor="+l.NextCursor) {
			byCursor = append(byCursor, ids(t, l)...)
			if l.NextCursor == "" {
				break
			}
		}
		for n := 1; (n-1)*size < len(want); n++ {
			l := get(t, f, fmt.Sprintf("%s&page=%d", query, n))
			if l.Total != int64(len(want)) {
				t.Fatalf("total is %d of %d", l.Total, len(want))
			}
			byPage = append(byPage, ids(t, l)...)
		}
		if d := cmp.Diff(want, byCursor); d != "" {
			t.Errorf("by cursor:\n%s", d)
		}
		if d := cmp.Diff(want, byPage); d != "" {
			t.Errorf("by page:\n%s", d)
		}
	})
}

func TestList_RefusesPagesThatOnlyACursorCanReach(t *testing.T) {
	for query, want := range map[string]int{"page=0": 400, "page=x": 400, "per_page=0": 400, "page=201": 400, "per_page=9999": 200} {
		w := httptest.NewRecorder()
		List(fleet{}).ServeHTTP(w, httptest.NewRequest("GET", "/api/v1/jobs?"+query, nil))
		if w.Code != want {
			t.Errorf("%s: %d %s", query, w.Code, w.Body)
		}
	}
}

// owner answers everything alike, and notes what it was asked.
type owner struct {
	status int
	body   string
	asked  chan url.Values
}

func (o owner) RoundTrip(r *http.Request) (*http.Response, error) {
	o.asked <- r.URL.Query()
	return &http.Response{StatusCode: o.status, Body: io.NopCloser(strings.NewReader(o.body))}, nil
}

func TestList_AsksBothOwnersWhatItWasAsked(t *testing.T) {
	o := owner{http.StatusOK, `{"data":[],"total":0}`, make(chan url.Values, 2)}
	w := httptest.NewRecorder()
	query := url.Values{"q": {`status == "Failed" && attempts > 1`}, "created_after": {"2026-01-01T00:00:00Z"}, "page": {"2"}}
	List(o).ServeHTTP(w, httptest.NewRequest("GET", "/api/v1/jobs?"+query.Encode(), nil))
	if w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	for range 2 {
		asked := <-o.asked
		if asked.Get("q") != query.Get("q") || asked.Get("created_after") != query.Get("created_after") || asked.Has("page") {
			t.Errorf("asked %v", asked)
		}
	}
}

func TestList_PassesOnWhichParameterIsWrong(t *testing.T) {
	o := owner{http.StatusBadRequest, `{"code":"invalid","message":"q: is wrong","errors":[{"field":"q","reason":"is wrong"}]}`, make(chan url.Values, 2)}
	w := httptest.NewRecorder()
	List(o).ServeHTTP(w, httptest.NewRequest("GET", "/api/v1/jobs?q=x", nil))
	if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), `"field":"q"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
