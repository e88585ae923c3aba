package config

import (
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/certctl/certctl/libs/nearest"
)

// Suggestion is a variable that nobody reads, and the name that was perhaps meant. Nearest is empty when none is near.
type Suggestion struct {
	Name    string
	Nearest string
}

// Kubernetes describes every service of the namespace to every pod; for those named certctl these are variables with
// our prefix.
var injected = regexp.MustCompile(`^\w+_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)=|^\w+_PORT=(tcp|udp|sctp)://`)

// Unknown returns the variables of the environment that start with prefix and an underscore and are in none of the
// known lists, sorted by name. They deserve a warning, never a refusal: another version may know them.
func Unknown(prefix string, known ...[]Var) []Suggestion {
	var names []string
	for _, list := range known {
		for _, v := range list {
			names = append(names, v.Name)
			if v.Secret {
				names = append(names, v.Name+"_FILE")
			}
		}
	}
	var out []Suggestion
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, prefix+"_") || slices.Contains(names, name) || injected.MatchString(entry) {
			continue
		}
		out = append(out, Suggestion{Name: name, Nearest: nearest.Name(name, names)})
	}
	slices.SortFunc(out, func(a, b Suggestion) int { return strings.Compare(a.Name, b.Name) })
	return out
}
