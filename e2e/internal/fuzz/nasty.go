package fuzz

import (
	"bytes"
	"encoding/json"
	"mime"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

// nastyText is text of the kind on which programs break.
func (f *Fuzzer) nastyText() string {
	return f.pick(
		"", " ", "\x00", "a\x00b", "\xff\xfe", "\xc0\xaf", "\u202e\ufeff", "😀", "'; DROP TABLE certificates; --", "%s%n%x", "%00", "../../etc/passwd",
		"*", ">", "a.b.c", "{}", "[]", "null", "true", "-1", "0", "1e400", "99999999999999999999", "9223372036854775807", "-9223372036854775808",
		"2147483648", "NaN", "0x10", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "294277-01-01T00:00:00Z", "2026-02-30T00:00:00Z", "infinity",
		strings.Repeat("a", 65), strings.Repeat("a", 256), strings.Repeat("ä", 8000), strings.Repeat("%", 999), `\`, `"`, "\r\nX-A: b", "(", "[a-", "(?<n",
	)
}

// nastyJSON is JSON, or nearly, for the place of a value.
func (f *Fuzzer) nastyJSON() string {
	return f.pick(
		"null", "true", "0", "-1", "1.5", "1e400", "-1e400", "1e-400", "99999999999999999999999", "9223372036854775808", "2147483648", `""`, `" "`, `"a"`, `[]`, `{}`, `[[]]`, `[null]`, `[{}]`,
		`{"":""}`, `{"a":{"b":{"c":[1,2,{"d":null}]}}}`, `"\u0000"`, `"a\u0000b"`, `{"\u0000":1}`, `"\ud800"`, `"\udc00\ud800"`, "\"\xff\"", "\"\xed\xa0\x80\"", `"\u202e"`,
		`"`+strings.Repeat("a", 300)+`"`, `"`+strings.Repeat("a", 70_000)+`"`, `"`+strings.Repeat(`\u00e4`, 5000)+`"`,
		strings.Repeat("[", 50)+strings.Repeat("]", 50), strings.Repeat("[", 5000)+strings.Repeat("]", 5000), strings.Repeat(`{"a":`, 60)+"1"+strings.Repeat("}", 60),
		"["+strings.Repeat("1,", 20_000)+"1]", `["a","a","a"]`, `"0001-01-01T00:00:00Z"`, `"9999-12-31T23:59:59Z"`, `"294277-01-01T00:00:00Z"`, `"(?<n"`, `"[a-"`, `"a/b/../c"`,
	)
}

// marker stands in made-up JSON where nasty JSON is to come.
const marker = "@@nasty@@"

// body makes the body of a request, and its type.
func (f *Fuzzer) body(t *target, broken bool) ([]byte, string) {
	if t.body == nil {
		if broken && t.method != "GET" && f.rand.IntN(3) == 0 {
			return []byte(f.nastyJSON()), "application/json"
		}
		return nil, ""
	}
	names := make([]string, 0, len(t.body.Content))
	for name := range t.body.Content {
		names = append(names, name)
	}
	slices.Sort(names)
	name := names[f.rand.IntN(len(names))]
	if kind, _, err := mime.ParseMediaType(name); err != nil || kind != "application/json" {
		b := make([]byte, f.rand.IntN(200))
		for i := range b {
			b[i] = byte(f.rand.Uint32())
		}
		return b, name
	}
	if !t.body.Required && f.rand.IntN(4) == 0 {
		return nil, ""
	}
	value := f.example(t.body.Content[name])
	if !broken {
		return encode(value), name
	}
	switch f.rand.IntN(8) {
	case 0: // cut off
		b := encode(value)
		return b[:f.rand.IntN(len(b)+1)], name
	case 1: // something else altogether
		return []byte(f.nastyJSON()), f.pick(name, "text/plain", "")
	case 2: // with more behind it
		return append(encode(value), f.pick(" x", "{}", "\x00", "   ")...), name
	case 3: // something left out
		if members, ok := value.(map[string]any); ok && len(members) > 0 {
			all := make([]string, 0, len(members))
			for m := range members {
				all = append(all, m)
			}
			slices.Sort(all)
			delete(members, all[f.rand.IntN(len(all))])
		}
		return encode(value), name
	default: // something in it
		return bytes.Replace(encode(f.mark(value)), []byte(`"`+marker+`"`), []byte(f.nastyJSON()), 1), name
	}
}

// example is the contract's own now and then, else what its schema allows.
func (f *Fuzzer) example(media *openapi3.MediaType) any {
	if media.Example != nil && f.rand.IntN(3) == 0 {
		var v any
		if json.Unmarshal(encode(media.Example), &v) == nil {
			return f.real(v)
		}
	}
	if media.Schema == nil {
		return map[string]any{}
	}
	return f.value("", media.Schema.Value, 0)
}

// real puts ids that exist in the place of an example's.
func (f *Fuzzer) real(example any) any {
	members, ok := example.(map[string]any)
	if !ok {
		return example
	}
	for name, v := range members {
		if _, isText := v.(string); isText && strings.HasSuffix(name, "_id") {
			members[name] = f.id(strings.TrimSuffix(name, "_id"))
		}
		if kind, many := strings.CutSuffix(name, "_ids"); many {
			members[name] = []any{f.id(kind)}
		}
	}
	return members
}

// mark puts the marker somewhere into a value.
func (f *Fuzzer) mark(value any) any {
	switch v := value.(type) {
	case map[string]any:
		if len(v) == 0 || f.rand.IntN(20) == 0 {
			return marker
		}
		names := make([]string, 0, len(v))
		for name := range v {
			names = append(names, name)
		}
		slices.Sort(names)
		name := names[f.rand.IntN(len(names))]
		v[name] = f.mark(v[name])
		return v
	case []any:
		if len(v) == 0 || f.rand.IntN(3) == 0 {
			return marker
		}
		i := f.rand.IntN(len(v))
		v[i] = f.mark(v[i])
		return v
	default:
		return marker
	}
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		return []byte("{}")
	}
	return b
}
