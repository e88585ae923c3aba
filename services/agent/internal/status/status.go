// Package status shows a person who an agent is, from what is on its disk. It works
// beside a running agent and changes nothing.
package status

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/certctl/certctl/services/agent/internal/host"
	"github.com/certctl/certctl/services/agent/internal/identity"
	"github.com/certctl/certctl/services/agent/internal/statedir"
)

// Write shows the agent whose state is in dir.
func Write(w io.Writer, dir, leafURL string) error {
	id, err := identity.Read(dir)
	if err != nil {
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, format string, a ...any) { fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, a...)) }
	line("version", "%s", host.Version())
	line("state folder", "%s", dir)
	line("leaf", "%s", leafURL)
	if id.AgentID == "" {
		line("identity", "none: this host is not enrolled")
		return t.Flush()
	}
	line("agent", "%s", id.AgentID)
	line("site", "%s", id.SiteID)
	line("identity", "%s", validity(id))
	line("platform key", "%s", id.PlatformKey)
	if statedir.InUse(dir) {
		line("running", "yes")
	} else {
		line("running", "no")
	}
	line("orders under way", "%d", count(filepath.Join(dir, "journal", "open")))
	line("orders remembered", "%d", count(filepath.Join(dir, "journal", "done")))
	line("reports waiting", "%d", count(filepath.Join(dir, "spool")))
	return t.Flush()
}

func validity(id identity.Identity) string {
	issued, expires, err := id.Validity()
	switch {
	case err != nil:
		return err.Error()
	case !expires.IsZero() && time.Now().After(expires):
		return "expired at " + expires.Format(time.RFC3339) + ": enrol again with a new token"
	}
	return fmt.Sprintf("issued %s, good until %s", issued.Format(time.RFC3339), expires.Format(time.RFC3339))
}

func count(dir string) int {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0
	}
	return len(entries)
}
