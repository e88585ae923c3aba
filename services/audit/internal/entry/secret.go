package entry

import (
	"bytes"
	"encoding/json"
	"strings"
)

// hidden stands for a secret, as it does in the changes that events tell of.
const hidden = "(secret)"

// privateKey ends the first line of every private key in PEM.
const privateKey = "PRIVATE KEY-----"

// secrets are the ends of the names of fields that may hold one. Who tells of a change
// leaves secrets out; what stands on record can never be taken back, so they are looked
// for here once more.
var secrets = []string{"password", "passwd", "passphrase", "secret", "token", "key", "credential", "credentials", "authorization"}

// secret tells by a field's name whether its value may be one. A public key is none.
func secret(name string) bool {
	name = strings.ToLower(name)
	for _, s := range secrets {
		if strings.HasSuffix(name, s) {
			return !strings.HasSuffix(strings.ReplaceAll(name, "_", ""), "publickey")
		}
	}
	return false
}

// bulky tells by a field's name whether it holds certificates or requests. They are kept
// by their owner; their fingerprints stay here.
func bulky(name string) bool {
	return strings.HasSuffix(strings.ToLower(name), "pem") || name == "pem_chain"
}

// clean leaves out of a field what must not, or need not, be on record. What holds nothing
// of the kind stays as it was, to the byte.
func clean(name string, value json.RawMessage) json.RawMessage {
	if !secret(name) && plain(value) {
		return value
	}
	d := json.NewDecoder(bytes.NewReader(value))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return value
	}
	changed := false
	v = cleaned(v, secret(name), &changed)
	if !changed {
		return value
	}
	b, err := json.Marshal(v)
	if err != nil {
		panic("entry: what was decoded always encodes: " + err.Error())
	}
	return b
}

// plain reports whether JSON obviously holds nothing to be hidden: no object, whose fields would have to be looked at,
// nothing that is spelt with escapes, and no private key. That is most of what events tell, and decoding it is not worth it.
func plain(value json.RawMessage) bool {
	return !bytes.ContainsAny(value, "{\\") && !bytes.Contains(value, []byte(privateKey))
}

// cleaned hides every text and number within a secret, so that its shape still tells
// whether it was there before and after a change.
func cleaned(v any, within bool, changed *bool) any {
	switch v := v.(type) {
	case map[string]any:
		for name, inner := range v {
			if bulky(name) {
				delete(v, name)
				*changed = true
				continue
			}
			v[name] = cleaned(inner, within || secret(name), changed)
		}
	case []any:
		for i := range v {
			v[i] = cleaned(v[i], within, changed)
		}
	case string:
		if v != "" && v != hidden && (within || strings.Contains(v, privateKey)) {
			*changed = true
			return hidden
		}
	case json.Number:
		if within {
			*changed = true
			return hidden
		}
	}
	return v
}
