package event

// CampaignCounts are how many certificates of a campaign, or of a wave of it, are where. Of a rehearsal, Done are those
// that would pass, and Failed those that would not.
type CampaignCounts struct {
	Total    int `json:"total"`
	Pending  int `json:"pending"`
	UnderWay int `json:"under_way"`
	Done     int `json:"done"`
	Failed   int `json:"failed"`
	Skipped  int `json:"skipped"`
}

// Campaign is a re-issue of many certificates in order, as it is once what is told has happened.
type Campaign struct {
	CampaignID string `json:"campaign_id"`
	Name       string `json:"name"`
	// Rehearsal tells that nothing is issued.
	Rehearsal bool           `json:"rehearsal,omitempty"`
	Status    string         `json:"status"`
	Counts    CampaignCounts `json:"counts"`
}

// CampaignStarted tells that a campaign begins to re-issue certificates.
type CampaignStarted struct{ Campaign }

// CampaignPaused tells that a campaign begins nothing more until it is resumed.
type CampaignPaused struct{ Campaign }

// CampaignResumed tells that a campaign goes on that was paused, stopped or completed.
type CampaignResumed struct {
	Campaign
	// Retries tells that certificates begin again that had failed.
	Retries bool `json:"retries,omitempty"`
}

// CampaignStopped tells that a campaign has ended before all was done.
type CampaignStopped struct {
	Campaign
	Reason string `json:"reason"`
	// Automatic tells that it stopped itself, because too much failed: somebody should look at it.
	Automatic bool `json:"automatic,omitempty"`
}

// CampaignCompleted tells that every certificate of a campaign has an outcome.
type CampaignCompleted struct{ Campaign }

// CampaignWaveCompleted tells that every certificate of a wave has an outcome.
type CampaignWaveCompleted struct {
	Campaign
	// Wave is its number; 0 is the canary.
	Wave int `json:"wave"`
	// WaveCounts are the wave's own.
	WaveCounts CampaignCounts `json:"wave_counts"`
}

// About implements [Event].
func (e CampaignStarted) About() (string, string, string) { return "campaign", e.CampaignID, "started" }

// About implements [Event].
func (e CampaignPaused) About() (string, string, string) { return "campaign", e.CampaignID, "paused" }

// About implements [Event].
func (e CampaignResumed) About() (string, string, string) { return "campaign", e.CampaignID, "resumed" }

// About implements [Event].
func (e CampaignStopped) About() (string, string, string) { return "campaign", e.CampaignID, "stopped" }

// About implements [Event].
func (e CampaignCompleted) About() (string, string, string) {
	return "campaign", e.CampaignID, "completed"
}

// About implements [Event].
func (e CampaignWaveCompleted) About() (string, string, string) {
	return "campaign", e.CampaignID, "wavecompleted"
}
