package fleet

import (
	"strings"
	"time"
	"unicode/utf8"

	"github.com/certctl/certctl/contracts/command"
)

// MissedHeartbeats is how many reports an agent may miss before it is Offline.
const MissedHeartbeats = 3

// LocalSite is the site of the leaf that certctl itself starts.
const LocalSite = "site-local"

// Status tells whether an agent is heard of.
type Status string

// The states of an agent. Retired is for ever.
const (
	Online   Status = "Online"
	Offline  Status = "Offline"
	Degraded Status = "Degraded"
	Retired  Status = "Retired"
)

// Agent is a host that enrolled.
type Agent struct {
	ID           string
	SiteID       string
	PublicKey    string
	Name         string
	Hostname     string
	OS           string
	Architecture string
	IPAddress    string
	Version      string
	Status       Status
	HeardAt      time.Time
	RegisteredAt time.Time
	Revision     int64
}

const maxField = 255

// Clean makes what a host tells of itself fit to be stored: without control
// characters, and of bounded length. One host's odd name must not keep a whole bundle
// of heartbeats from being stored.
func Clean(h command.Heartbeat) command.Heartbeat {
	for _, field := range []*string{&h.Name, &h.Hostname, &h.OS, &h.Architecture, &h.IPAddress, &h.Version} {
		*field = clean(*field)
	}
	return h
}

func clean(s string) string {
	for i := range len(s) {
		if s[i] < ' ' || s[i] >= 0x7f {
			s = strings.Map(printable, s)
			break
		}
	}
	if len(s) > maxField {
		s = strings.ToValidUTF8(s[:maxField], "")
	}
	return strings.TrimSpace(s)
}

func printable(r rune) rune {
	if r < ' ' || r == 0x7f || r == utf8.RuneError {
		return -1
	}
	return r
}
