package validation

import (
	"net/url"
	"strings"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/nearest"
)

// checkQuery looks at each parameter where it stands. Package net/url would make a map
// of them first, which costs more than all checks.
func (op *operation) checkQuery(raw string, wrong []fault.Field) []fault.Field {
	var seen uint64 // by the parameter's place in the contract
	for rest := raw; rest != ""; {
		var pair string
		pair, rest, _ = strings.Cut(rest, "&")
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		name, nameErr := unescape(name)
		value, valueErr := unescape(value)
		if nameErr != nil || valueErr != nil || strings.IndexByte(pair, ';') >= 0 {
			wrong = append(wrong, fault.Field{Name: strings.ToValidUTF8(name, "?"), In: "query", Reason: "is malformed; special characters must be percent-encoded"})
			continue
		}
		i := op.queryIndex(name)
		if i < 0 {
			if op.list && (name == "page" || name == "per_page") {
				continue // deployed clients ask every list for pages, also those that come whole
			}
			wrong = append(wrong, op.unknown(name))
			continue
		}
		p := &op.query[i]
		bit := uint64(1) << (i % 64)
		if !p.many && seen&bit != 0 {
			wrong = append(wrong, p.wrong("is given twice"))
			continue
		}
		seen |= bit
		if value == "" {
			continue
		}
		if reason := p.check(value); reason != "" {
			wrong = append(wrong, p.wrong(reason))
		}
	}
	for i := range op.query {
		if p := &op.query[i]; p.required && seen&(1<<(i%64)) == 0 {
			wrong = append(wrong, p.wrong("is missing"))
		}
	}
	return wrong
}

func (op *operation) queryIndex(name string) int {
	for i := range op.query {
		if op.query[i].name == name {
			return i
		}
	}
	return -1
}

func (op *operation) unknown(name string) fault.Field {
	names := make([]string, len(op.query))
	for i := range op.query {
		names[i] = op.query[i].name
	}
	reason := "is not a parameter of this operation"
	if n := nearest.Name(name, names); n != "" {
		reason += "; did you mean " + n + "?"
	} else if len(names) > 0 {
		reason += ", which has " + strings.Join(names, ", ")
	}
	return fault.Field{Name: strings.ToValidUTF8(name, "?"), In: "query", Reason: reason}
}

// unescape costs nothing where nothing is escaped.
func unescape(s string) (string, error) {
	if strings.IndexByte(s, '%') < 0 && strings.IndexByte(s, '+') < 0 {
		return s, nil
	}
	out, err := url.QueryUnescape(s)
	if err != nil {
		return s, err
	}
	return out, nil
}

// pathValue is the value of a segment, which the router leaves escaped if the path has
// an escaped form.
func pathValue(segment string) (string, error) {
	if strings.IndexByte(segment, '%') < 0 {
		return segment, nil
	}
	return url.PathUnescape(segment)
}
