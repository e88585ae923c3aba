package subject

import "strings"

// Agent is who spoke, and about what, as the server let the subject pass: the only
// trustworthy source of a site's and an agent's identity.
type Agent struct {
	Site, Agent string
	// Verb is the kind of a report, the verb of a command or of a request.
	Verb string
	// Job is empty for requests.
	Job string
}

// ParseAgent takes apart a hub-side subject of the agents: a command, a report or a
// request.
func ParseAgent(s string) (Agent, bool) {
	rest, ok := strings.CutPrefix(s, "certctl.agent.")
	if !ok {
		return Agent{}, false
	}
	t := strings.Split(rest, ".")
	switch {
	case len(t) == 5 && (t[0] == "cmd" || t[0] == "evt"):
		return Agent{Site: t[1], Agent: t[2], Verb: t[3], Job: t[4]}, tokens(t[1:])
	case len(t) == 4 && t[0] == "rpc":
		return Agent{Site: t[1], Agent: t[2], Verb: t[3]}, tokens(t[1:])
	}
	return Agent{}, false
}

// ParseSite takes apart a subject inside a site; the result's Site is empty.
func ParseSite(s string) (Agent, bool) {
	t := strings.Split(s, ".")
	if t[0] != "site" {
		return Agent{}, false
	}
	switch {
	case len(t) == 5 && (t[1] == "cmd" || t[1] == "evt"):
		return Agent{Agent: t[2], Verb: t[3], Job: t[4]}, tokens(t[2:])
	case len(t) == 4 && t[1] == "rpc":
		return Agent{Agent: t[2], Verb: t[3]}, tokens(t[2:])
	}
	return Agent{}, false
}

func tokens(ts []string) bool {
	for _, t := range ts {
		if !Token(t) {
			return false
		}
	}
	return true
}
