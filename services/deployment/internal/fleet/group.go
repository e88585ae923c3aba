package fleet

import (
	"net/netip"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"

	"github.com/certctl/certctl/libs/fault"
)

// Group is a set of agents: those that meet its criteria, and those that were put into
// it by hand.
type Group struct {
	ID          string
	Name        string
	Description string
	// The criteria; an empty one is none.
	MatchOS, MatchArchitecture, MatchIPCIDR, MatchVersion string

	// Enabled tells whether what is scoped to the group applies to anybody.
	Enabled   bool
	Revision  int64
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Membership is what was said by hand of an agent and a group, or why the agent belongs
// to it.
type Membership string

// The kinds of membership. Nothing said by hand is the empty text.
const (
	Include Membership = "include"
	Exclude Membership = "exclude"
	Dynamic Membership = "dynamic"
)

const maxDescription = 1000

// CheckGroup checks a group and brings its network into the canonical form.
func CheckGroup(g *Group) error {
	if err := CheckName(g.Name); err != nil {
		return err
	}
	var bad []fault.Field
	refuse := func(field, reason string) { bad = append(bad, fault.Field{Name: field, Reason: reason}) }
	if len(g.Description) > maxDescription || strings.ContainsRune(g.Description, 0) {
		refuse("description", "must be text of at most 1000 bytes")
	}
	for field, text := range map[string]string{"match_os": g.MatchOS, "match_architecture": g.MatchArchitecture} {
		if clean(text) != text || len(text) > maxField {
			refuse(field, "must be plain text of at most 255 bytes, without blanks at its ends")
		}
	}
	if g.MatchIPCIDR != "" {
		network, ok := parseNetwork(g.MatchIPCIDR)
		if !ok {
			refuse("match_ip_cidr", "must be a network such as 10.20.0.0/16 or 2001:db8::/32")
		}
		g.MatchIPCIDR = network.String()
	}
	if g.MatchVersion != "" {
		if _, err := semver.NewConstraint(g.MatchVersion); err != nil || len(g.MatchVersion) > maxField || clean(g.MatchVersion) != g.MatchVersion {
			refuse("match_version", `must be a range of versions such as ">= 1.2, < 2"`)
		}
	}
	if len(bad) > 0 {
		return fault.InvalidFields(bad...)
	}
	return nil
}

// parseNetwork reads a network; an address alone is the network of that address.
func parseNetwork(s string) (netip.Prefix, bool) {
	if network, err := netip.ParsePrefix(s); err == nil {
		return network.Masked(), true
	}
	address, err := netip.ParseAddr(s)
	if err != nil || address.Zone() != "" {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(address, address.BitLen()), true
}

// Criteria reports whether the group has any.
func (g Group) Criteria() bool {
	return g.MatchOS != "" || g.MatchArchitecture != "" || g.MatchIPCIDR != "" || g.MatchVersion != ""
}

// MatchesAgent reports whether an agent meets all of the group's criteria. A group
// without any is met by nobody: else a group that is still empty would be everybody.
func (g Group) MatchesAgent(a Agent) bool {
	return g.Criteria() &&
		(g.MatchOS == "" || strings.EqualFold(g.MatchOS, a.OS)) &&
		(g.MatchArchitecture == "" || strings.EqualFold(g.MatchArchitecture, a.Architecture)) &&
		(g.MatchIPCIDR == "" || within(g.MatchIPCIDR, a.IPAddress)) &&
		(g.MatchVersion == "" || inRange(g.MatchVersion, a.Version))
}

// Member says why an agent belongs to the group, given what was said of the two by hand:
// Include or Dynamic. It is Exclude if the agent was kept out by hand, and empty if it
// simply does not belong. An agent that is retired belongs nowhere.
func (g Group) Member(a Agent, byHand Membership) Membership {
	switch {
	case a.Status == Retired:
		return ""
	case byHand != "":
		return byHand
	case g.MatchesAgent(a):
		return Dynamic
	default:
		return ""
	}
}

// within reports whether an address lies in a network. What is no address lies nowhere.
func within(network, address string) bool {
	n, ok := parseNetwork(network)
	if !ok {
		return false
	}
	a, err := netip.ParseAddr(address)
	return err == nil && n.Contains(a)
}

// inRange reports whether a version, with or without a leading v, lies in a range. What
// is no version lies in none.
func inRange(wanted, version string) bool {
	constraint, err := semver.NewConstraint(wanted)
	if err != nil {
		return false
	}
	v, err := semver.NewVersion(version)
	return err == nil && constraint.Check(v)
}
