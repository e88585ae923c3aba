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
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

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
	return s.dialAs(func(_ context.Context, r *http.Request) error {
		r.Header.Set("Authorization", "Bearer "+key)
		return nil
	})
}

// dialAs returns a client whose requests are changed by edit.
func (s *session) dialAs(edit client.RequestEditorFn) (*client.Client, error) {
	if u, err := url.Parse(s.server); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		fmt.Fprintf(s.Err, "certctl-cli: the server's URL must be like %s\n", defaultServer)
		return nil, errUsage
	}
	h := &http.Client{Timeout: requestTimeout, CheckRedirect: func(to *http.Request, _ []*http.Request) error {
		// The API redirects nobody; the key is not for whoever does.
		return fmt.Errorf("the server points elsewhere, to %s; is its URL right?", to.URL.Redacted())
	}}
	return client.NewClient(s.server, client.WithHTTPClient(h), client.WithRequestEditorFn(edit))
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

// done reads an answer that has nothing to say but that all went well.
func done(res *http.Response, err error) error {
	if err != nil {
		return fmt.Errorf("the server was not reached: %w", err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return fmt.Errorf("the server broke off its answer: %w", err)
	}
	if res.StatusCode >= http.StatusBadRequest {
		return refusal(res, body)
	}
	return nil
}

func refusal(res *http.Response, body []byte) error {
	var p client.Problem
	text := "the server refuses without a reason"
	if err := json.Unmarshal(body, &p); err == nil && p.Message != "" {
		text = p.Message
	}
	text += fmt.Sprintf(" (HTTP %d", res.StatusCode)
	if id := res.Header.Get("X-Request-ID"); id != "" {
		text += ", request " + id
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
	_, err := io.WriteString(s.Out, escaped(out.String()))
	return err
}

// escaped is the same JSON without characters that a terminal acts upon. Between its
// strings JSON has none but blanks.
func escaped(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r == '\n' || r == ' ' || r == utf8.RuneError || !unicode.In(r, unicode.Cc, unicode.Cf):
			b.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
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

// printable is s for a cell of a table.
func printable(s string) string {
	if s == "" {
		return "-"
	}
	return harmless(s)
}

// harmless is s without what a terminal acts upon: control characters of both sets, and
// those that change the direction of text or cannot be seen.
func harmless(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
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
