package bus

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// rules are how one kind of object is compared. Fields are called as in the server's API.
type rules struct {
	// defaults are what the server fills in for a field that is absent or zero.
	defaults map[string]any
	// fixed fields cannot be changed on the server.
	fixed []string
	// ignored fields say nothing about the declaration.
	ignored []string
}

var streamRules = rules{
	defaults: map[string]any{
		"num_replicas": 1.0, "max_msgs": -1.0, "max_msgs_per_subject": -1.0, "max_msg_size": -1.0,
		"duplicate_window": float64(2 * time.Minute), "compression": "none",
	},
	fixed:   []string{"storage", "retention", "max_consumers", "mirror", "persist_mode", "allow_msg_counter"},
	ignored: []string{"metadata", "consumer_limits", "name"},
}

var consumerRules = rules{
	defaults: map[string]any{
		"ack_wait": float64(30 * time.Second), "max_deliver": -1.0, "max_waiting": 512.0, "max_ack_pending": 1000.0,
	},
	fixed:   []string{"deliver_policy", "ack_policy", "replay_policy", "opt_start_seq", "opt_start_time", "max_waiting"},
	ignored: []string{"metadata", "name", "durable_name"},
}

var durationFields = []string{"max_age", "duplicate_window", "subject_delete_marker_ttl", "ack_wait", "inactive_threshold", "max_expires"}

// change compares what the server has with what the manifest wants. It returns nil when they agree.
func (m Manifest) change(object string, there, wanted any, r rules) (*Change, error) {
	if there == nil {
		return &Change{Action: Create, Object: object}, nil
	}
	has, err := fields(there)
	if err != nil {
		return nil, err
	}
	wants, err := fields(wanted)
	if err != nil {
		return nil, err
	}
	rev, err := appliedRev(has)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", object, err)
	}
	if rev > m.Rev {
		return nil, fmt.Errorf("%s: %w: revision %d, this is %d", object, ErrNewerManifest, rev, m.Rev)
	}
	c := &Change{Action: Update, Object: object}
	for _, name := range fieldNames(has, wants, r.ignored) {
		from, to := r.value(has, name), r.value(wants, name)
		if from == to {
			continue
		}
		line := name + ": " + display(name, from) + " -> " + display(name, to)
		if slices.Contains(r.fixed, name) {
			c.Action = Refuse
			line += " (cannot be changed in place)"
		}
		c.Lines = append(c.Lines, line)
	}
	c.Lines = append(c.Lines, metadataLines(has, wants)...)
	if rev < m.Rev {
		c.Lines = append(c.Lines, fmt.Sprintf("manifest_rev: %d -> %d", rev, m.Rev))
	}
	if len(c.Lines) == 0 {
		return nil, nil
	}
	return c, nil
}

func fields(config any) (map[string]any, error) {
	b, err := json.Marshal(config)
	if err != nil {
		return nil, fmt.Errorf("encode configuration: %w", err)
	}
	var f map[string]any
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("decode configuration: %w", err)
	}
	return f, nil
}

func fieldNames(a, b map[string]any, ignored []string) []string {
	names := maps.Clone(a)
	maps.Copy(names, b)
	for _, name := range ignored {
		delete(names, name)
	}
	return slices.Sorted(maps.Keys(names))
}

// value returns a field in a form that compares: numbers and words as they are, everything else as JSON, the absent and
// the zero as the server's default.
func (r rules) value(f map[string]any, name string) any {
	v := f[name]
	switch v {
	case nil, 0.0, "", false:
		return r.defaults[name]
	}
	switch v.(type) {
	case float64, string, bool:
		return v
	}
	if text := plainJSON(v); text != "{}" && text != "[]" {
		return text
	}
	return r.defaults[name]
}

// plainJSON encodes without the escapes that make ">" unreadable in a subject.
func plainJSON(v any) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Sprint(v)
	}
	return strings.TrimSpace(b.String())
}

func display(name string, v any) string {
	n, isNumber := v.(float64)
	switch {
	case v == nil:
		return "unset"
	case isNumber && slices.Contains(durationFields, name):
		return time.Duration(n).String()
	case isNumber:
		return strconv.FormatFloat(n, 'f', -1, 64)
	default:
		return fmt.Sprint(v)
	}
}

func metadata(f map[string]any) map[string]any {
	md, _ := f["metadata"].(map[string]any)
	return md
}

// metadataLines compares metadata, except what the server adds by itself and the revision.
func metadataLines(has, wants map[string]any) []string {
	var lines []string
	for _, name := range fieldNames(metadata(has), metadata(wants), []string{metadataRev}) {
		from, to := metadata(has)[name], metadata(wants)[name]
		if strings.HasPrefix(name, "_nats.") || from == to {
			continue
		}
		lines = append(lines, "metadata."+name+": "+display(name, from)+" -> "+display(name, to))
	}
	return lines
}

// appliedRev returns the revision that an object was applied from, 0 when it was not made from a manifest.
func appliedRev(f map[string]any) (int, error) {
	s, ok := metadata(f)[metadataRev].(string)
	if !ok {
		return 0, nil
	}
	rev, err := strconv.Atoi(s)
	if err != nil {
		return 0, fmt.Errorf("metadata %s: %w", metadataRev, err)
	}
	return rev, nil
}

func withoutFields(lines []string, names ...string) []string {
	return slices.DeleteFunc(slices.Clone(lines), func(line string) bool {
		name, _, _ := strings.Cut(line, ":")
		return slices.Contains(names, name)
	})
}
