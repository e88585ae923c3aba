package entry

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// body is what an event tells: the fields of a JSON object by their names, each once and as it came. It is taken apart
// without being decoded, for every event of the platform passes here.
type body []field

type field struct {
	name  string
	value json.RawMessage
}

// What encoding/json takes is taken, and strings are left as they are spelt.
var (
	lenient = jsontext.AllowDuplicateNames(true)
	unclean = jsontext.AllowInvalidUTF8(true)
	asSpelt = jsontext.PreserveRawStrings(true)
	noHTML  = jsontext.EscapeForHTML(true)
	noJS    = jsontext.EscapeForJS(true)
)

// readBody takes a body apart. What is JSON but no object becomes the field body of one.
func readBody(text []byte) (body, error) {
	if !utf8.Valid(text) {
		// Postgres would refuse it.
		text = bytes.ToValidUTF8(text, []byte("\uFFFD"))
	}
	d := jsontext.NewDecoder(bytes.NewBuffer(text), lenient, unclean)
	if d.PeekKind() != jsontext.KindBeginObject {
		if !json.Valid(text) {
			return nil, errNotJSON
		}
		return body{{"body", text}}, nil
	}
	// The decoder's own errors say no more, and quote the text.
	if _, err := d.ReadToken(); err != nil {
		return nil, errNotJSON
	}
	b := make(body, 0, 24)
	for d.PeekKind() != jsontext.KindEndObject {
		name, err := d.ReadToken()
		if err != nil {
			return nil, errNotJSON
		}
		f := field{name: name.String()}
		value, err := d.ReadValue()
		if err != nil {
			return nil, errNotJSON
		}
		// The decoder's is good until it reads on.
		end := int(d.InputOffset())
		f.value = text[end-len(value) : end]
		b = append(b, f)
	}
	if _, err := d.ReadToken(); err != nil || len(bytes.TrimLeft(text[d.InputOffset():], " \t\r\n")) > 0 {
		return nil, errNotJSON
	}
	return b.sorted(), nil
}

// sorted orders fields by their names. Of those that have the same one the last counts.
func (b body) sorted() body {
	slices.SortStableFunc(b, func(x, y field) int { return cmp.Compare(x.name, y.name) })
	out := b[:0]
	for i, f := range b {
		if i+1 == len(b) || b[i+1].name != f.name {
			out = append(out, f)
		}
	}
	return out
}

// get returns the value of a field, nil if there is none.
func (b body) get(name string) json.RawMessage {
	i, found := slices.BinarySearchFunc(b, name, func(f field, name string) int { return cmp.Compare(f.name, name) })
	if !found {
		return nil
	}
	return b[i].value
}

// text returns the value of a field that is a string, empty if it is none.
func (b body) text(name string) string {
	value := b.get(name)
	if len(value) == 0 || value[0] != '"' {
		return ""
	}
	// The error is about text that is no UTF-8, which is mended.
	s, _ := jsontext.AppendUnquote(nil, value)
	return string(s)
}

// write returns the fields as one JSON object without space.
func (b body) write() ([]byte, error) {
	size := 2
	for _, f := range b {
		size += len(f.name) + len(f.value) + len(`"":,`)
	}
	out := append(make([]byte, 0, size), '{')
	for i, f := range b {
		if i > 0 {
			out = append(out, ',')
		}
		var err error
		if out, err = jsontext.AppendQuote(out, f.name); err != nil {
			return nil, err
		}
		out = append(append(out, ':'), f.value...)
	}
	out = append(out, '}')
	return jsontext.AppendFormat(out[:0], out, lenient, unclean, asSpelt, noHTML, noJS)
}
