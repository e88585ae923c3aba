package event

// Target is what other services keep of a target.
type Target struct {
	TargetID string `json:"target_id"`
	Name     string `json:"name"`
	Type     string `json:"type"`
	AgentID  string `json:"agent_id"`
	Enabled  bool   `json:"enabled"`
}

// TargetCreated tells that certificates can be deployed to a place.
type TargetCreated struct {
	Target
}

// TargetUpdated tells that a target changed, and how it is now.
type TargetUpdated struct {
	Target
}

// TargetDeleted tells that a target is gone.
type TargetDeleted struct {
	TargetID string `json:"target_id"`
}

// About implements [Event].
func (e TargetCreated) About() (string, string, string) { return "target", e.TargetID, "created" }

// About implements [Event].
func (e TargetUpdated) About() (string, string, string) { return "target", e.TargetID, "updated" }

// About implements [Event].
func (e TargetDeleted) About() (string, string, string) { return "target", e.TargetID, "deleted" }
