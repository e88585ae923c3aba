package config

import (
	"os"
	"regexp"
	"slices"
	"strings"
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
		out = append(out, Suggestion{Name: name, Nearest: nearest(name, names)})
	}
	slices.SortFunc(out, func(a, b Suggestion) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func nearest(name string, names []string) string {
	best, bestDistance := "", len(name)/5+1
	for _, n := range names {
		if d := distance(name, n); d < bestDistance {
			best, bestDistance = n, d
		}
	}
	return best
}

// distance is the number of characters to insert, delete or replace on the way from a to b (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
