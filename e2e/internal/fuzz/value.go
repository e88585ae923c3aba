package fuzz

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
)

const patience = 30 * time.Second

// maxNesting of what is made from schemas that hold themselves.
const maxNesting = 4

// value makes what a schema allows.
func (f *Fuzzer) value(name string, s *openapi3.Schema, nesting int) any {
	if s == nil {
		return "anything"
	}
	if s.Example != nil && f.rand.IntN(2) == 0 {
		return s.Example
	}
	if len(s.Enum) > 0 {
		return s.Enum[f.rand.IntN(len(s.Enum))]
	}
	for _, choice := range []openapi3.SchemaRefs{s.OneOf, s.AnyOf} {
		if len(choice) > 0 {
			return f.value(name, choice[f.rand.IntN(len(choice))].Value, nesting)
		}
	}
	switch {
	case len(s.AllOf) > 0 || s.Type.Is(openapi3.TypeObject) || len(s.Properties) > 0:
		return f.object(s, nesting)
	case s.Type.Includes(openapi3.TypeArray):
		list := []any{}
		for range f.rand.IntN(4) {
			if s.Items != nil && nesting < maxNesting {
				list = append(list, f.value(name, s.Items.Value, nesting+1))
			}
		}
		return list
	case s.Type.Includes(openapi3.TypeInteger):
		return f.integer(s)
	case s.Type.Includes(openapi3.TypeNumber):
		return float64(f.integer(s)) + 0.5
	case s.Type.Includes(openapi3.TypeBoolean):
		return f.rand.IntN(2) == 0
	default:
		return f.string(name, s)
	}
}

func (f *Fuzzer) object(s *openapi3.Schema, nesting int) map[string]any {
	out := map[string]any{}
	for _, part := range s.AllOf {
		maps.Copy(out, f.object(part.Value, nesting))
	}
	// Half of the time as little as possible, which is accepted more often.
	sparse := f.rand.IntN(2) == 0
	required := map[string]bool{}
	for _, name := range s.Required {
		required[name] = true
	}
	names := make([]string, 0, len(s.Properties))
	for name := range s.Properties {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if required[name] || !sparse && nesting < maxNesting && f.rand.IntN(3) == 0 {
			out[name] = f.value(name, s.Properties[name].Value, nesting+1)
		}
	}
	if additional := s.AdditionalProperties.Schema; additional != nil && f.rand.IntN(2) == 0 {
		out["key"+strconv.Itoa(f.rand.IntN(9))] = f.value("", additional.Value, nesting+1)
	}
	return out
}

func (f *Fuzzer) integer(s *openapi3.Schema) int64 {
	least, most := int64(0), int64(1000)
	if s.Min != nil {
		least = int64(*s.Min)
	}
	if s.Max != nil {
		most = int64(*s.Max)
	}
	if most <= least {
		return least
	}
	return least + f.rand.Int64N(min(most-least, 1<<40)+1)
}

func (f *Fuzzer) string(name string, s *openapi3.Schema) string {
	var v string
	switch {
	case s.Format == "date-time":
		v = time.Now().Add(time.Duration(f.rand.IntN(2000)-1000) * time.Hour).UTC().Format(time.RFC3339)
	case s.Format == "date":
		v = time.Now().UTC().Format(time.DateOnly)
	case name == "id" && f.rand.IntN(2) == 0:
		v = fmt.Sprintf("fuzz-%d", f.rand.IntN(1<<30))
	case name == "id", strings.HasSuffix(name, "_id"), strings.HasSuffix(name, "_ids"):
		v = f.id(strings.TrimSuffix(strings.TrimSuffix(name, "_ids"), "_id"))
	case name == "cursor":
		v = f.pick("", "AA", "MjAyNi0wMS0zMVQwMDowMDowMFoAbWMtMQ", "null", "////", "%2e%2e")
	case name == "common_name", name == "sans":
		v = f.pick("www-"+strconv.Itoa(f.rand.IntN(1000))+".fuzz.test", "*.fuzz.test", "192.0.2.1", "a b")
	case strings.Contains(name, "email"):
		v = f.pick("a@example.test", "no address")
	case strings.Contains(name, "cidr"):
		v = f.pick("10.0.0.0/8", "2001:db8::/32", "10.0.0.0/33")
	case strings.Contains(name, "pem"):
		v = f.pick("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", "no PEM")
	case name == "q" || name == "query" || strings.Contains(name, "expression"):
		v = f.pick(`status == "Active"`, `name.startsWith("a") && !(status in ["Failed"])`, `(((`, `x == 1`, `"`, `a.b.c()`, strings.Repeat("!", 500)+"true")
	default:
		v = f.pick("a", "www-"+strconv.Itoa(f.rand.IntN(1000))+".fuzz.test", "*.fuzz.test", "production", "192.0.2.1", "true", "1h", "Ünïcödé", "a b", "n"+strconv.Itoa(f.rand.IntN(1<<30)))
	}
	for s.MinLength > uint64(len(v)) {
		v += "x"
	}
	if s.MaxLength != nil && uint64(len(v)) > *s.MaxLength {
		v = v[:*s.MaxLength]
	}
	return v
}

// prefixes of ids, by what they are of.
var prefixes = map[string]string{
	"certificate": "mc-", "issuer": "iss-", "target": "tgt-", "agent": "agent-", "team": "t-", "owner": "o-", "site": "site-", "job": "job-",
	"renewal_policy": "rp-", "policie": "pr-", "profile": "prof-", "certificate_profile": "prof-", "audit": "evt-", "agent_group": "ag-", "view": "view-",
}

// id is one that exists, of the right kind if there is one.
func (f *Fuzzer) id(kind string) string {
	prefix := prefixes[kind]
	for range 20 {
		if v := f.ids[f.rand.IntN(len(f.ids))]; strings.HasPrefix(v, prefix) {
			return v
		}
	}
	return f.ids[f.rand.IntN(len(f.ids))]
}

// text is a parameter's value, as a text.
func (f *Fuzzer) text(p *openapi3.Parameter, broken bool) string {
	if broken && f.rand.IntN(2) == 0 {
		return f.nastyText()
	}
	switch v := f.value(p.Name, p.Schema.Value, 0).(type) {
	case string:
		return v
	case []any:
		texts := make([]string, len(v))
		for i, e := range v {
			texts[i] = fmt.Sprint(e)
		}
		return strings.Join(texts, ",")
	default:
		b, err := json.Marshal(v)
		if err != nil {
			return ""
		}
		return string(b)
	}
}

// pathValue is mostly an id of what the path is about.
func (f *Fuzzer) pathValue(path string, p *openapi3.Parameter, broken bool) string {
	if broken && f.rand.IntN(3) == 0 {
		return f.nastyText()
	}
	if p.Name == "serial" {
		return f.pick("0a", "DEADBEEF", "zz-not-hex", strings.Repeat("f", 40), strings.Repeat("f", 41))
	}
	if before, _, found := strings.Cut(path, "/{id}"); found && p.Name == "id" {
		// /api/v1/certificates/{id} is of certificates.
		collection := before[strings.LastIndexByte(before, '/')+1:]
		return f.id(strings.ReplaceAll(strings.TrimSuffix(collection, "s"), "-", "_"))
	}
	return f.id(strings.TrimSuffix(p.Name, "_id"))
}
