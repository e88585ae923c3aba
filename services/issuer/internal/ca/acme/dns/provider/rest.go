package provider

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"

	"golang.org/x/oauth2"
)

const (
	callPatience = 30 * time.Second
	// maxAnswer is more than any answer about one record or one page of zones.
	maxAnswer = 4 << 20
	maxWords  = 300
)

// web carries every call. Calls are few and far between, so no connection is kept. Nobody is followed who points
// elsewhere: what proves who asks is for the one who was named.
var web = &http.Client{
	Timeout:       callPatience,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	Transport: &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
		DisableKeepAlives: true, TLSHandshakeTimeout: callPatience,
	},
}

// rest speaks JSON over HTTP.
type rest struct {
	// who is how errors call the other side.
	who, base string
	// sign adds what proves who asks.
	sign func(context.Context, *http.Request) error
}

// refusal is an answer that is none of success.
type refusal struct {
	who    string
	status int
	words  string
}

func (r *refusal) Error() string { return fmt.Sprintf("%s says: HTTP %d %s", r.who, r.status, r.words) }

// status is that of a refusal, zero of any other error.
func status(err error) int {
	if r, ok := errors.AsType[*refusal](err); ok {
		return r.status
	}
	return 0
}

// call asks for something and reads the answer into out, if that is not nil.
func (r *rest) call(ctx context.Context, method, path string, header http.Header, in, out any) error {
	var body io.Reader = http.NoBody
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode a call of %s: %w", r.who, err)
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, r.base+path, body)
	if err != nil {
		return fmt.Errorf("call %s: %w", r.who, err)
	}
	if header != nil {
		req.Header = header
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "certctl")
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if r.sign != nil {
		if err := r.sign(ctx, req); err != nil {
			return err
		}
	}
	res, err := web.Do(req)
	if err != nil {
		return fmt.Errorf("%s cannot be asked: %w", r.who, plain(err))
	}
	defer res.Body.Close()
	text, err := io.ReadAll(http.MaxBytesReader(nil, res.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("%s cannot be heard to the end: %w", r.who, plain(err))
	}
	if res.StatusCode/100 != 2 {
		return &refusal{r.who, res.StatusCode, words(text)}
	}
	if out == nil || len(text) == 0 {
		return nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("%s answers what cannot be read: %w", r.who, err)
	}
	return nil
}

// plain is an error without the URL that net/http puts before it.
func plain(err error) error {
	if at, ok := errors.AsType[*url.Error](err); ok {
		return at.Err
	}
	return err
}

// words are what an error answer says, in the forms that are usual, or its beginning.
func words(text []byte) string {
	var said struct {
		Errors []struct {
			Code    json.Number `json:"code"`
			Message string      `json:"message"`
		} `json:"errors"`
		Error json.RawMessage `json:"error"`
	}
	var nested struct {
		Message string `json:"message"`
	}
	var short string
	var all []string
	if json.Unmarshal(text, &said) == nil {
		for _, e := range said.Errors {
			all = append(all, e.Message+" ("+e.Code.String()+")")
		}
		switch {
		case json.Unmarshal(said.Error, &nested) == nil && nested.Message != "":
			all = append(all, nested.Message)
		case json.Unmarshal(said.Error, &short) == nil && short != "":
			all = append(all, short)
		}
	}
	if len(all) == 0 {
		all = []string{string(text)}
	}
	return clipped(strings.Join(all, "; "))
}

func clipped(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if len(s) > maxWords {
		s = strings.ToValidUTF8(s[:maxWords], "") + "…"
	}
	return strings.TrimSpace(s)
}

// bearer signs with a token that lasts.
func bearer(token string) func(context.Context, *http.Request) error {
	return func(_ context.Context, req *http.Request) error {
		req.Header.Set("Authorization", "Bearer "+token)
		return nil
	}
}

// oauth signs with tokens that are fetched.
func oauth(who string, tokens func(context.Context) oauth2.TokenSource) func(context.Context, *http.Request) error {
	return func(ctx context.Context, req *http.Request) error {
		token, err := tokens(context.WithValue(ctx, oauth2.HTTPClient, web)).Token()
		if err != nil {
			if refused, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
				return fmt.Errorf("%s gives no token: %s", who, clipped(refused.ErrorCode+" "+refused.ErrorDescription))
			}
			return fmt.Errorf("%s gives no token: %w", who, plain(err))
		}
		token.SetAuthHeader(req)
		return nil
	}
}
