// Package fuzz asks a running installation whatever its contract lets one ask, and what
// it does not.
//
// For every operation of the OpenAPI document it makes requests out of schemas and
// examples: valid ones, with ids that earlier answers told of, and broken ones. From
// each answer it demands what the contract promises of all: no internal error, and a
// problem document with a request id wherever the status is 400 or above.
//
// One seed gives one sequence of choices. Ids and times are the installation's, so two
// runs are alike but not the same.
package fuzz

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/uuid"

	identifier "github.com/certctl/certctl/libs/id"
)

// Fuzzer asks one installation. It is for one goroutine.
type Fuzzer struct {
	url, key string
	client   *http.Client
	rand     *rand.Rand
	targets  []target
	ids      []string // that answers have told of
	spare    func(id string) bool

	// Asked counts the answers to each operation by their status.
	Asked map[string]map[int]int
	// Refused holds what was last said to a request that should have been valid.
	Refused map[string]string
}

// target is an operation that is asked.
type target struct {
	id, method, path string
	parameters       []*openapi3.Parameter
	body             *openapi3.RequestBody
}

// Finding is an answer that breaks a promise.
type Finding struct {
	Operation, Promise, Request, Answer string
}

// nothing is an id that nothing has.
const nothing = "nothing-has-this-id"

// New reads the contract. Objects whose id spare reports are looked at and referred to, but not changed.
func New(document []byte, url, key string, seed uint64, spare func(id string) bool) (*Fuzzer, error) {
	doc, err := openapi3.NewLoader().LoadFromData(document)
	if err != nil {
		return nil, err
	}
	f := &Fuzzer{
		url: url, key: key, client: &http.Client{Timeout: patience},
		rand: rand.New(rand.NewPCG(seed, 0)),
		ids:  []string{nothing}, spare: spare, Asked: map[string]map[int]int{}, Refused: map[string]string{},
	}
	for _, path := range doc.Paths.InMatchingOrder() {
		item := doc.Paths.Value(path)
		for method, op := range item.Operations() {
			t := target{id: op.OperationID, method: method, path: path}
			for _, p := range append(slices.Clone(op.Parameters), item.Parameters...) {
				t.parameters = append(t.parameters, p.Value)
			}
			if op.RequestBody != nil {
				t.body = op.RequestBody.Value
			}
			f.targets = append(f.targets, t)
		}
	}
	slices.SortFunc(f.targets, func(a, b target) int { return strings.Compare(a.id, b.id) })
	return f, nil
}

// Close lets go of connections.
func (f *Fuzzer) Close() { f.client.CloseIdleConnections() }

// Operations is how many operations there are.
func (f *Fuzzer) Operations() int { return len(f.targets) }

// Round asks every operation once, or nearly, and returns what it found.
func (f *Fuzzer) Round(ctx context.Context) ([]Finding, error) {
	var found []Finding
	for i := range f.targets {
		// What is gone cannot be asked about: things live for some rounds.
		if f.targets[i].method == http.MethodDelete && f.rand.IntN(5) > 0 {
			continue
		}
		finding, err := f.ask(ctx, &f.targets[i])
		if err != nil {
			return found, err
		}
		if finding != nil {
			found = append(found, *finding)
		}
	}
	return found, nil
}

func (f *Fuzzer) ask(ctx context.Context, t *target) (*Finding, error) {
	// In one of three everything is as the contract wants it.
	broken := f.rand.IntN(3) > 0
	r, body, err := f.request(ctx, t, broken)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t.id, err)
	}
	shown := fmt.Sprintf("%s %s %q %.2000q", r.Method, r.URL, r.Header["If-Match"], body)
	res, err := f.client.Do(r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", shown, err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, fmt.Errorf("%s: read the answer: %w", shown, err)
	}
	if f.Asked[t.id] == nil {
		f.Asked[t.id] = map[int]int{}
	}
	f.Asked[t.id][res.StatusCode]++
	f.learn(answer)
	if !broken && res.StatusCode >= http.StatusBadRequest {
		f.Refused[t.id] = fmt.Sprintf("%s: %.500s", shown, answer)
	}
	if broken := judge(t, res, answer); broken != "" {
		return &Finding{t.id, broken, shown, fmt.Sprintf("%d %v %.1000s", res.StatusCode, res.Header, answer)}, nil
	}
	return nil, nil //nolint:nilnil // nothing found
}

// judge names the promise that an answer breaks, if it breaks one.
func judge(t *target, res *http.Response, answer []byte) string {
	status := res.StatusCode
	switch {
	case status == http.StatusServiceUnavailable && t.id == "getReady":
		return ""
	case status == http.StatusRequestHeaderFieldsTooLarge:
		return "" // net/http itself, which has read no request yet
	case status == http.StatusServiceUnavailable && res.Header.Get("Retry-After") == "":
		return "a 503 says when to come again"
	case status >= 500 && status != http.StatusServiceUnavailable && status != http.StatusNotImplemented:
		return "no request is answered with an internal error"
	case res.Header.Get("X-Request-ID") == "":
		return "every answer has a request id"
	case status < http.StatusBadRequest:
		return ""
	}
	if kind, _, err := mime.ParseMediaType(res.Header.Get("Content-Type")); err != nil || kind != "application/problem+json" {
		return "an error is a problem document"
	}
	var p struct {
		Status    int
		Message   string
		Error     string
		RequestID string `json:"request_id"`
	}
	if err := json.Unmarshal(answer, &p); err != nil || p.Status != status || p.Message == "" || p.Error == "" || p.RequestID == "" {
		return "a problem has its status, a message and the request's id"
	}
	return ""
}

// maxIDs bounds what is remembered of one kind, so that the many do not crowd out the few.
const maxIDs = 20

// learn remembers the ids in an answer.
func (f *Fuzzer) learn(answer []byte) {
	var value any
	if json.Unmarshal(answer, &value) != nil {
		return
	}
	var found []string
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for name, e := range v {
				if id, isText := e.(string); isText && id != "" && (name == "id" || strings.HasSuffix(name, "_id")) && name != "request_id" {
					found = append(found, id)
				}
				walk(e)
			}
		case []any:
			for _, e := range v {
				walk(e)
			}
		}
	}
	walk(value)
	slices.Sort(found) // maps have no order, and the seed is to give one
	for _, id := range slices.Compact(found) {
		f.remember(id)
	}
}

func (f *Fuzzer) remember(id string) {
	// Audit tells of paths, addresses and requests too.
	if !identifier.Valid(id) || uuid.Validate(id) == nil || slices.Contains(f.ids, id) {
		return
	}
	kind, _, _ := strings.Cut(id, "-")
	var alike []int
	for i, other := range f.ids {
		if strings.HasPrefix(other, kind+"-") {
			alike = append(alike, i)
		}
	}
	if len(alike) >= maxIDs {
		f.ids[alike[f.rand.IntN(len(alike))]] = id
		return
	}
	f.ids = append(f.ids, id)
}

func (f *Fuzzer) request(ctx context.Context, t *target, broken bool) (*http.Request, []byte, error) {
	path, query := t.path, url.Values{}
	header := http.Header{}
	for _, p := range t.parameters {
		switch p.In {
		case openapi3.ParameterInPath:
			v := f.pathValue(t.path, p, broken)
			if t.method != http.MethodGet && f.spare(v) {
				v = nothing
			}
			path = strings.ReplaceAll(path, "{"+p.Name+"}", url.PathEscape(v))
		case openapi3.ParameterInQuery:
			if p.Required || f.rand.IntN(3) == 0 {
				query.Set(p.Name, f.text(p, broken))
			}
		case openapi3.ParameterInHeader:
			if f.rand.IntN(3) == 0 {
				header.Set(p.Name, strings.Map(visible, f.text(p, broken)))
			}
		}
	}
	raw := query.Encode()
	if broken && f.rand.IntN(8) == 0 {
		raw += f.pick("&unknown=1", "&a=%zz", ";", "&&&=", "&page=1&page=2", "&"+strings.Repeat("x", 3000)+"=1")
	}
	body, kind := f.body(t, broken)
	var content io.Reader = http.NoBody
	if body != nil {
		content = bytes.NewReader(body)
	}
	target := f.url + path
	if raw != "" {
		target += "?" + raw
	}
	r, err := http.NewRequestWithContext(ctx, t.method, target, content)
	if err != nil {
		return nil, nil, err
	}
	r.Header = header
	r.Header.Set("Authorization", "Bearer "+f.key)
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	return r, body, nil
}

// visible drops what no header can hold.
func visible(c rune) rune {
	if c < ' ' || c > '~' {
		return -1
	}
	return c
}

func (f *Fuzzer) pick(of ...string) string { return of[f.rand.IntN(len(of))] }
