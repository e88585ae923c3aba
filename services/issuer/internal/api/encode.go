package api

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/certctl/certctl/services/issuer/internal/issuance"
)

// field is how one field of a certificate is written. Append adds nothing where the field is left out.
type field struct {
	name   string
	lead   string // the name as it stands before the value
	append func([]byte, *issuance.Certificate) []byte
}

// fields are those that are written of each certificate, in their order.
type fields []field

// certificateFields are all, in the contract's order.
var certificateFields = fields{
	textField("id", func(c *issuance.Certificate) string { return c.ID }),
	textField("name", func(c *issuance.Certificate) string { return c.Name }),
	textField("common_name", func(c *issuance.Certificate) string { return c.CommonName }),
	newField("sans", func(b []byte, c *issuance.Certificate) []byte { return appendTexts(b, c.SANs) }),
	textField("environment", func(c *issuance.Certificate) string { return c.Environment }),
	textField("owner_id", func(c *issuance.Certificate) string { return c.OwnerID }),
	textField("team_id", func(c *issuance.Certificate) string { return c.TeamID }),
	textField("issuer_id", func(c *issuance.Certificate) string { return c.IssuerID }),
	newField("target_ids", func(b []byte, c *issuance.Certificate) []byte { return appendTexts(b, c.TargetIDs) }),
	textField("renewal_policy_id", func(c *issuance.Certificate) string { return c.RenewalPolicyID }),
	optional("certificate_profile_id", func(c *issuance.Certificate) string { return c.ProfileID }),
	textField("status", func(c *issuance.Certificate) string { return string(c.Status) }),
	optional("status_reason", func(c *issuance.Certificate) string { return c.StatusReason }),
	momentField("expires_at", func(c *issuance.Certificate) time.Time { return c.ExpiresAt }),
	optional("serial_number", func(c *issuance.Certificate) string { return c.SerialNumber }),
	optional("fingerprint_sha256", func(c *issuance.Certificate) string { return c.Fingerprint }),
	newField("tags", func(b []byte, c *issuance.Certificate) []byte { return appendTags(b, c.Tags) }),
	optionalMoment("last_renewal_at", func(c *issuance.Certificate) time.Time { return c.LastRenewalAt }),
	optionalMoment("last_deployment_at", func(c *issuance.Certificate) time.Time { return c.LastDeploymentAt }),
	momentField("created_at", func(c *issuance.Certificate) time.Time { return c.CreatedAt }),
	momentField("updated_at", func(c *issuance.Certificate) time.Time { return c.UpdatedAt }),
}

// chosenFields are those of a list with commas, in alphabetical order. What is no field is passed over.
func chosenFields(list string) fields {
	wanted := map[string]bool{}
	for name := range strings.SplitSeq(list, ",") {
		wanted[strings.TrimSpace(name)] = true
	}
	var out fields
	for _, f := range certificateFields {
		if wanted[f.name] {
			out = append(out, f)
		}
	}
	slices.SortFunc(out, func(a, b field) int { return strings.Compare(a.name, b.name) })
	return out
}

func (fs fields) has(name string) bool {
	return slices.ContainsFunc(fs, func(f field) bool { return f.name == name })
}

func (fs fields) append(b []byte, c *issuance.Certificate) []byte {
	b = append(b, '{')
	first := true
	for i := range fs {
		before := len(b)
		if !first {
			b = append(b, ',')
		}
		b = append(b, fs[i].lead...)
		value := len(b)
		if b = fs[i].append(b, c); len(b) == value {
			b = b[:before]
			continue
		}
		first = false
	}
	return append(b, '}')
}

func newField(name string, value func([]byte, *issuance.Certificate) []byte) field {
	return field{name: name, lead: `"` + name + `":`, append: value}
}

func textField(name string, of func(*issuance.Certificate) string) field {
	return newField(name, func(b []byte, c *issuance.Certificate) []byte { return appendText(b, of(c)) })
}

// optional is left out where it is empty.
func optional(name string, of func(*issuance.Certificate) string) field {
	return newField(name, func(b []byte, c *issuance.Certificate) []byte {
		if s := of(c); s != "" {
			return appendText(b, s)
		}
		return b
	})
}

func momentField(name string, of func(*issuance.Certificate) time.Time) field {
	return newField(name, func(b []byte, c *issuance.Certificate) []byte { return appendMoment(b, of(c)) })
}

func optionalMoment(name string, of func(*issuance.Certificate) time.Time) field {
	return newField(name, func(b []byte, c *issuance.Certificate) []byte {
		if t := of(c); !t.IsZero() {
			return appendMoment(b, t)
		}
		return b
	})
}

func appendMoment(b []byte, t time.Time) []byte {
	b = append(b, '"')
	return append(t.UTC().AppendFormat(b, time.RFC3339Nano), '"')
}

func appendTexts(b []byte, list []string) []byte {
	b = append(b, '[')
	for i, s := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendText(b, s)
	}
	return append(b, ']')
}

func appendTags(b []byte, tags map[string]string) []byte {
	if len(tags) == 0 {
		return append(b, "{}"...)
	}
	b = append(b, '{')
	for i, key := range slices.Sorted(maps.Keys(tags)) {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendText(b, key), ':')
		b = appendText(b, tags[key])
	}
	return append(b, '}')
}

// appendText writes a JSON string.
func appendText(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			encoded, err := json.Marshal(s)
			if err != nil {
				panic("api: a string always encodes: " + err.Error())
			}
			return append(b, encoded...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}
