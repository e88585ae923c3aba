package rollout

import (
	"cmp"
	"encoding/json"
	"fmt"
	"time"
)

// Version is one issued certificate that has targets.
type Version struct {
	ID            string
	CertificateID string
	Fingerprint   string
	NotBefore     time.Time
	NotAfter      time.Time
	PEMChain      string
	// KeyAgentID is the agent that holds the key; empty if the request came from
	// elsewhere.
	KeyAgentID string
	// Revision is the certificate's when the version was made.
	Revision int64
}

// Newer reports whether v is to be preferred to another version of its certificate.
// Events arrive in any order, so this is decided by what they say.
func (v Version) Newer(than Version) bool {
	return cmp.Or(v.NotBefore.Compare(than.NotBefore), cmp.Compare(v.Revision, than.Revision), cmp.Compare(v.ID, than.ID)) > 0
}

// Place is a target with what matters of its agent.
type Place struct {
	TargetID string
	Type     string
	Config   json.RawMessage
	Enabled  bool
	AgentID  string
	SiteID   string
	// Retired tells that the agent's identity is gone.
	Retired bool
}

// Objection says why a version cannot be deployed to a target at all, in words for a
// person; it is empty if it can. A nil place is a target that does not exist.
func Objection(v Version, targetID string, p *Place, now time.Time) string {
	switch {
	case p == nil:
		return fmt.Sprintf("there is no target %s", targetID)
	case !p.Enabled:
		return fmt.Sprintf("target %s is disabled", targetID)
	case p.Retired:
		return fmt.Sprintf("agent %s of target %s is retired", p.AgentID, targetID)
	case v.KeyAgentID != "" && v.KeyAgentID != p.AgentID:
		return fmt.Sprintf("the key of version %s is on agent %s, and target %s belongs to agent %s", v.ID, v.KeyAgentID, targetID, p.AgentID)
	case !v.NotAfter.After(now):
		return fmt.Sprintf("version %s expired at %s", v.ID, v.NotAfter.UTC().Format(time.RFC3339))
	default:
		return ""
	}
}
