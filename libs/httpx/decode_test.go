package httpx_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/httpx"
)

type body struct {
	Name    string    `json:"name"`
	SANs    []string  `json:"sans"`
	Count   int8      `json:"count"`
	Ratio   float64   `json:"ratio"`
	Enabled *bool     `json:"enabled"`
	Nested  nested    `json:"nested"`
	At      time.Time `json:"at"`
}

type nested struct {
	Deep string `json:"deep"`
}

func decode(text string, limit int64) (body, error) {
	var b body
	err := httpx.DecodeJSON(httptest.NewRequest(http.MethodPost, "/", strings.NewReader(text)), limit, &b)
	return b, err
}

func TestDecodeJSON_IgnoresMembersItDoesNotKnow(t *testing.T) {
	got, err := decode(`{"name":"a","sans":["b"],"force":true}`+"\n\n", 100)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(body{Name: "a", SANs: []string{"b"}}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDecodeJSON_SaysWhatIsWrong(t *testing.T) {
	tests := map[string]struct{ text, message, field string }{
		"empty":            {"", "the body is empty", ""},
		"spaces":           {" \n", "the body is empty", ""},
		"cut short":        {`{"name":"a`, "ends too early", ""},
		"not JSON":         {`{name:1}`, "not JSON: invalid character 'n'", ""},
		"two values":       {`{} {}`, "goes on after", ""},
		"junk behind":      {`{}x`, "goes on after", ""},
		"an array":         {`[]`, "the body must be an object, not an array", ""},
		"a number":         {`7`, "the body must be an object, not a number", ""},
		"string wanted":    {`{"name":7}`, "name: must be a string, not a number", "name"},
		"array wanted":     {`{"sans":"a"}`, "sans: must be an array, not a string", "sans"},
		"bool wanted":      {`{"enabled":{}}`, "enabled: must be a boolean, not an object", "enabled"},
		"number wanted":    {`{"ratio":true}`, "ratio: must be a number, not a boolean", "ratio"},
		"object wanted":    {`{"nested":[]}`, "nested: must be an object, not an array", "nested"},
		"out of range":     {`{"count":300}`, "count: must be a whole number in range, not a number", "count"},
		"fraction":         {`{"count":1.5}`, "count: must be a whole number in range, not a number", "count"},
		"deep down":        {`{"nested":{"deep":7}}`, "nested.deep: must be a string, not a number", "nested.deep"},
		"no time":          {`{"at":"tomorrow"}`, "RFC 3339", ""},
		"time of no quote": {`{"at":7}`, "", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := decode(tt.text, 1000)
			f := fault.From(err)
			if f == nil || f.Code != fault.Invalid || !strings.Contains(f.Message, tt.message) {
				t.Fatalf("err = %v, want invalid: …%s…", err, tt.message)
			}
			if tt.field != "" && (len(f.Fields) != 1 || f.Fields[0].Name != tt.field) {
				t.Errorf("fields = %+v, want %s", f.Fields, tt.field)
			}
		})
	}
}

func TestDecodeJSON_RefusesABodyOverItsLimit(t *testing.T) {
	for name, text := range map[string]string{
		"in the value":     `{"name":"` + strings.Repeat("a", 100) + `"}`,
		"behind the value": `{}` + strings.Repeat(" ", 100),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := decode(text, 50)
			if f := fault.From(err); f == nil || f.Code != fault.TooLarge || !strings.Contains(f.Message, "50 bytes") {
				t.Errorf("err = %v, want too_large", err)
			}
		})
	}
}

func TestDecodeFault_LeavesFaultsAsTheyAre(t *testing.T) {
	f := fault.New(fault.Conflict, "taken")
	if got := httpx.DecodeFault(fmt.Errorf("wrap: %w", f)); got != f {
		t.Errorf("got %v", got)
	}
	if got := httpx.DecodeFault(fmt.Errorf("can't decode JSON body: %w", io.EOF)); got.Message != "the body is empty" {
		t.Errorf("got %v", got)
	}
	if got := httpx.DecodeFault(errors.New("parameter page is not a number")); got.Code != fault.Invalid || got.Message != "parameter page is not a number" {
		t.Errorf("got %v", got)
	}
}

func FuzzDecodeJSON(f *testing.F) {
	f.Add(`{"name":"a","at":"2026-01-02T15:04:05Z"}`)
	f.Add(`{"nested":{"deep":7}}`)
	f.Add(`{}{}`)
	f.Fuzz(func(t *testing.T, text string) {
		_, err := decode(text, 200)
		if code := fault.CodeOf(err); err != nil && code != fault.Invalid && code != fault.TooLarge {
			t.Errorf("%q: %v", text, err)
		}
	})
}
