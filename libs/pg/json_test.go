package pg_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestJSON_IsReadAsEncodingJSONReadsIt: what services keep as JSON was written by encoding/json, or by them in SQL.
func TestJSON_IsReadAsEncodingJSONReadsIt(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	type inner struct {
		Wait  time.Duration
		Bytes []byte
		Sum   [3]byte
		When  time.Time `json:"when"`
	}
	type kept struct {
		inner
		Names  []string
		Counts map[string]int
		Any    any
		Raw    json.RawMessage
		Maybe  *int
		Text   string `json:"text,omitempty"`
	}
	for _, text := range []string{
		`{"Wait":1500000000,"Bytes":"AQID","Sum":[1,2,3],"when":"2026-11-23T12:00:00.5Z","Names":["a"],"Counts":{"x":1},"Any":{"a":[1,1.5,"x",null]},"Raw":{"b": [1]},"Maybe":7,"text":"ü€<>"}`,
		`{"names":null,"COUNTS":{},"Any":null,"Raw":null,"Maybe":null,"TEXT":"\ud800","unknown":{"x":[]}}`,
		`{"Names":[],"Sum":[1],"Any":12345678901234567890}`,
		`{}`,
		`null`,
	} {
		for _, kind := range []string{"json", "jsonb"} {
			if kind == "jsonb" && strings.Contains(text, `\ud800`) {
				// jsonb takes no half of a character.
				continue
			}
			// As the column holds it: jsonb writes anew.
			var stored string
			must(t, pool.QueryRow(t.Context(), "SELECT $1::text::"+kind+"::text", text).Scan(&stored))
			var got, want kept
			must(t, json.Unmarshal([]byte(stored), &want))
			must(t, pool.QueryRow(t.Context(), "SELECT $1::text::"+kind, text).Scan(&got))
			if d := cmp.Diff(want, got, cmp.AllowUnexported(kept{})); d != "" {
				t.Errorf("%s %s: %s", kind, text, d)
			}
		}
	}
}
