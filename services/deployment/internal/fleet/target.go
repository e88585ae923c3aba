package fleet

import (
	"encoding/json"
	"fmt"
	"net"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/certctl/certctl/libs/fault"
)

// Target is a place where an agent installs certificates.
type Target struct {
	ID        string
	Name      string
	Type      string
	AgentID   string
	Config    map[string]any
	Enabled   bool
	Revision  int64
	CreatedAt time.Time
	UpdatedAt time.Time
}

// canonical lists the types as they are written, by their lower-case form.
var canonical = map[string]string{
	"nginx": "NGINX", "apache": "Apache", "haproxy": "HAProxy", "f5": "F5", "iis": "IIS",
}

// installable lists the types whose agents exist, with the check of their config.
var installable = map[string]func(config map[string]any) []fault.Field{
	"NGINX": checkNGINX,
}

// CheckName checks the name of a site or a target.
func CheckName(name string) error {
	switch {
	case strings.TrimSpace(name) == "":
		return fault.InvalidFields(fault.Field{Name: "name", Reason: "must not be empty"})
	case len(name) > maxField || clean(name) != name:
		return fault.InvalidFields(fault.Field{Name: "name", Reason: "must be plain text of at most 255 bytes, without blanks at its ends"})
	}
	return nil
}

// TargetType is the canonical form of a type, and whether there is such a one.
func TargetType(given string) (name string, known bool) {
	name, known = canonical[strings.ToLower(strings.TrimSpace(given))]
	return name, known
}

// CheckTarget brings a target's type into its canonical form and checks the whole.
func CheckTarget(t *Target) error {
	if err := CheckName(t.Name); err != nil {
		return err
	}
	name, known := TargetType(t.Type)
	if !known {
		return fault.InvalidFields(fault.Field{Name: "type", Reason: "must be one of NGINX, Apache, HAProxy, F5, IIS"})
	}
	check, able := installable[name]
	if !able {
		return fault.InvalidFields(fault.Field{Name: "type", Reason: fmt.Sprintf("this build installs on NGINX only, not yet on %s", name)})
	}
	t.Type = name
	if fields := append(check(t.Config), storable("config", t.Config)...); len(fields) > 0 {
		return fault.InvalidFields(fields...)
	}
	return nil
}

// checkNGINX knows the keys that the agent reads. All are text; paths are those of the
// agent's host. What else stands in the config is kept, and of no effect.
func checkNGINX(config map[string]any) []fault.Field {
	var bad []fault.Field
	text := func(key string) string {
		value, given := config[key]
		s, ok := value.(string)
		if given && !ok {
			bad = append(bad, fault.Field{Name: "config." + key, Reason: "must be text"})
		}
		return s
	}
	paths := map[string]string{}
	for _, key := range []string{"cert_path", "key_path", "chain_path", "config_path", "prefix"} {
		paths[key] = text(key)
		switch p := paths[key]; {
		case p == "" && (key == "cert_path" || key == "key_path"):
			bad = append(bad, fault.Field{Name: "config." + key, Reason: "is required"})
		case p != "" && (!path.IsAbs(p) || path.Clean(p) != p && key != "prefix"):
			bad = append(bad, fault.Field{Name: "config." + key, Reason: "must be an absolute path, such as /etc/nginx/tls/www.pem"})
		}
	}
	if paths["key_path"] != "" && (paths["key_path"] == paths["cert_path"] || paths["key_path"] == paths["chain_path"]) {
		bad = append(bad, fault.Field{Name: "config.key_path", Reason: "must be a file of its own"})
	}
	if address := text("verify_address"); address != "" && !hostPort(address) {
		bad = append(bad, fault.Field{Name: "config.verify_address", Reason: "must be host:port, such as 127.0.0.1:443"})
	}
	for _, key := range []string{"server_name", "nginx_binary", "reload_command", "validate_command"} {
		text(key)
	}
	return bad
}

func hostPort(address string) bool {
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" {
		return false
	}
	n, err := strconv.Atoi(port)
	return err == nil && n > 0 && n < 1<<16
}

// storable refuses the one character that jsonb cannot hold, and what is far too large
// for an order to carry.
func storable(name string, config map[string]any) []fault.Field {
	text, err := json.Marshal(config)
	switch {
	case err != nil:
		return []fault.Field{{Name: name, Reason: "cannot be encoded"}}
	case len(text) > 16<<10:
		return []fault.Field{{Name: name, Reason: "is larger than 16 KiB"}}
	case strings.Contains(string(text), `\u0000`):
		return []fault.Field{{Name: name, Reason: "must not hold the character NUL"}}
	}
	return nil
}
