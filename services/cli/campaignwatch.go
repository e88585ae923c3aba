package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/certctl/certctl/contracts/httpapi/client"
)

// watching adds the flags of what can be watched.
func (s *session) watching(when string) *bool {
	s.flags.DurationVar(&s.every, "interval", defaultWatch, "how often it is looked at")
	return s.flags.Bool("watch", false, when+"show how it goes on until it ends")
}

// progress is how far a campaign is, on one line.
func progress(c *client.Campaign) string {
	n := c.Counts
	ended := n.Done + n.Failed + n.Skipped
	percent := 100
	if n.Total > 0 {
		percent = 100 * ended / n.Total
	}
	line := fmt.Sprintf("%s  %d %%  wave %d/%d  %d done, %d under way, %d failed, %d skipped, %d to come",
		c.Status, percent, c.Wave, c.LastWave, n.Done, n.Renewing+n.Issued, n.Failed, n.Skipped, n.Pending)
	if c.RatePerSecond != nil {
		line += fmt.Sprintf("  %.1f/s", *c.RatePerSecond)
	}
	if c.RemainingSeconds != nil {
		line += "  " + seconds(*c.RemainingSeconds) + " left"
	}
	if c.NextWaveAt != nil {
		line += "  next wave at " + c.NextWaveAt.Local().Format(time.TimeOnly)
	}
	if c.Reason != nil {
		line += "  (" + harmless(*c.Reason) + ")"
	}
	return line
}

// errStopped has the exit code tell that a campaign did not come to its end.
var errStopped = errors.New("the campaign was stopped before its end")

// watch shows how a campaign goes on until it has ended: a line that changes on a terminal, or a line for each change.
func (s *session) watch(ctx context.Context, c *client.Client, id string) error {
	moves := s.onTerminal()
	tick := time.NewTicker(max(s.every, time.Millisecond))
	defer tick.Stop()
	for before := ""; ; {
		var now client.Campaign
		res, err := c.GetCampaign(ctx, id)
		raw, err := decode(res, err, &now)
		if err != nil {
			return err
		}
		line := progress(&now)
		ended := (now.Status == client.CampaignStatusCompleted || now.Status == client.CampaignStatusStopped) && now.Counts.Renewing+now.Counts.Issued == 0
		switch {
		case s.json && ended:
			err = s.printJSON(raw)
		case s.json || line == before:
		case moves:
			_, err = fmt.Fprintf(s.Out, "\r%s\x1b[K", line)
		default:
			_, err = fmt.Fprintln(s.Out, line)
		}
		if err != nil {
			return err
		}
		if before = line; ended {
			if moves && !s.json {
				fmt.Fprintln(s.Out)
			}
			if now.Status == client.CampaignStatusStopped {
				return errStopped
			}
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// onTerminal reports whether output goes to a terminal.
func (s *session) onTerminal() bool {
	f, ok := s.Out.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
