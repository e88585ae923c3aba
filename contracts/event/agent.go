package event

// AgentRegistered tells that a host enrolled.
type AgentRegistered struct {
	AgentID      string `json:"agent_id"`
	SiteID       string `json:"site_id"`
	Name         string `json:"name"`
	Hostname     string `json:"hostname"`
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
	Version      string `json:"version"`
}

// AgentOnline tells that an agent is heard of again.
type AgentOnline struct {
	AgentID string `json:"agent_id"`
	SiteID  string `json:"site_id"`
}

// AgentOffline tells that an agent missed its heartbeats.
type AgentOffline struct {
	AgentID string `json:"agent_id"`
	SiteID  string `json:"site_id"`
}

// AgentRetired tells that an agent's identity is revoked.
type AgentRetired struct {
	AgentID string `json:"agent_id"`
	SiteID  string `json:"site_id"`
}

// About implements [Event].
func (e AgentRegistered) About() (string, string, string) { return "agent", e.AgentID, "registered" }

// About implements [Event].
func (e AgentOnline) About() (string, string, string) { return "agent", e.AgentID, "online" }

// About implements [Event].
func (e AgentOffline) About() (string, string, string) { return "agent", e.AgentID, "offline" }

// About implements [Event].
func (e AgentRetired) About() (string, string, string) { return "agent", e.AgentID, "retired" }
