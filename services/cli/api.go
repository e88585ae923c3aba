package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/certctl/certctl/contracts/httpapi/client"
)

// requestTimeout is for one call; a CA may take its time.
const requestTimeout = 30 * time.Second

// dial returns a client that bears the key.
func (s *session) dial() (*client.Client, error) {
	key, err := s.apiKey()
	if err != nil {
		return nil, err
	}
	bearer := func(_ context.Context, r *http.Request) error {
		r.Header.Set("Authorization", "Bearer "+key)
		return nil
	}
	return client.NewClient(s.server, client.WithHTTPClient(&http.Client{Timeout: requestTimeout}), client.WithRequestEditorFn(bearer))
}

// decode reads an answer into v and returns its bytes. A problem document is an error
// that says what the server said.
func decode(res *http.Response, err error, v any) ([]byte, error) {
	if err != nil {
		return nil, fmt.Errorf("the server was not reached: %w", err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, fmt.Errorf("the server broke off its answer: %w", err)
	}
	if res.StatusCode >= http.StatusBadRequest {
		return nil, refusal(res, body)
	}
	if err := json.Unmarshal(body, v); err != nil {
		return nil, fmt.Errorf("the server's answer is not what this version of certctl-cli expects: %w", err)
	}
	return body, nil
}

func refusal(res *http.Response, body []byte) error {
	var p client.Problem
	if err := json.Unmarshal(body, &p); err != nil || p.Message == "" {
		return fmt.Errorf("HTTP %s", res.Status)
	}
	text := fmt.Sprintf("%s (HTTP %d", p.Message, res.StatusCode)
	if p.RequestID != nil {
		text += ", request " + *p.RequestID
	}
	return errors.New(text + ")")
}

// printJSON prints an answer as it came, indented.
func (s *session) printJSON(body []byte) error {
	var out bytes.Buffer
	if err := json.Indent(&out, bytes.TrimSpace(body), "", "  "); err != nil {
		return err
	}
	out.WriteByte('\n')
	_, err := s.Out.Write(out.Bytes())
	return err
}

// table prints rows under a head.
func (s *session) table(head []string, rows [][]string) error {
	w := tabwriter.NewWriter(s.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(head, "\t"))
	for _, r := range rows {
		for i, cell := range r {
			// What others have named must not move the cursor of whoever looks.
			r[i] = printable(cell)
		}
		fmt.Fprintln(w, strings.Join(r, "\t"))
	}
	return w.Flush()
}

func printable(s string) string {
	if s == "" {
		return "-"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}

func text[T ~string](p *T) string {
	if p == nil {
		return ""
	}
	return string(*p)
}

func optional[T ~string](s string) *T {
	if s == "" {
		return nil
	}
	t := T(s)
	return &t
}

// sorted iterates over a map in the order of its keys.
func sorted(m map[string]string) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			if !yield(k, m[k]) {
				return
			}
		}
	}
}
