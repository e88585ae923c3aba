package event

// SiteCreated tells that a site may join.
type SiteCreated struct {
	SiteID string `json:"site_id"`
	Name   string `json:"name"`
}

// SiteConnected tells that a site's leaf enrolled.
type SiteConnected struct {
	SiteID string `json:"site_id"`
}

// About implements [Event].
func (e SiteCreated) About() (string, string, string) { return "site", e.SiteID, "created" }

// About implements [Event].
func (e SiteConnected) About() (string, string, string) { return "site", e.SiteID, "connected" }
