package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
	"unicode/utf8"

	"golang.org/x/term"

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

// watch shows how a campaign goes on until it has ended: a line that changes on a terminal, or a line for each change. If
// nothing moves it says what is waited for. A server that is away for a while is waited for.
func (s *session) watch(ctx context.Context, c *client.Client, id string) error {
	tick := time.NewTicker(max(s.every, time.Millisecond))
	defer tick.Stop()
	shown := display{out: s.Out, width: s.columns()}
	defer shown.end()
	var before *client.Campaign
	var away time.Time
	for {
		now, raw, err := look(ctx, c, id)
		passing, isPassing := errors.AsType[*passingError](err)
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("%s is not watched any more, and goes on; certctl-cli campaigns pause %s has it begin nothing more", id, id)
		case before != nil && isPassing && (away.IsZero() || time.Since(away) < awayFor):
			if away.IsZero() {
				away = time.Now()
				shown.end()
				fmt.Fprintln(s.Err, "certctl-cli:", harmless(passing.Error())+"; looked at again until it answers")
			}
		case err != nil:
			return err
		default:
			away = time.Time{}
			if ended, err := s.showStep(ctx, c, &shown, before, now, raw); ended || err != nil {
				return err
			}
			before = now
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// awayFor is how long a server may be away while a campaign is watched.
const awayFor = 10 * time.Minute

// passingError is a refusal that a server takes back of itself: it is being restarted, or asks to slow down.
type passingError struct{ error }

func look(ctx context.Context, c *client.Client, id string) (*client.Campaign, []byte, error) {
	var now client.Campaign
	res, err := c.GetCampaign(ctx, id)
	passing := err != nil || res.StatusCode == http.StatusTooManyRequests || res.StatusCode >= http.StatusInternalServerError
	raw, err := decode(res, err, &now)
	if err != nil && passing {
		err = &passingError{err}
	}
	return &now, raw, err
}

// showStep shows a campaign as it is now, and reports whether it has ended.
func (s *session) showStep(ctx context.Context, c *client.Client, to *display, before, now *client.Campaign, raw []byte) (bool, error) {
	underWay := now.Counts.Renewing + now.Counts.Issued
	ended := (now.Status == client.CampaignStatusCompleted || now.Status == client.CampaignStatusStopped) && underWay == 0
	if s.json {
		if !ended {
			return false, nil
		}
		if err := s.printJSON(raw); err != nil {
			return true, err
		}
	} else {
		line := progress(now)
		if !ended && underWay > 0 && before != nil && before.Counts == now.Counts {
			// Nothing has moved since the last look.
			if waiting := waitingItems(ctx, c, now, 1); len(waiting) > 0 {
				line += "  " + harmless(waiting[0].CertificateID+": "+waitsFor(&waiting[0]))
			}
		}
		if err := to.show(line); err != nil {
			return true, err
		}
	}
	if ended && now.Status == client.CampaignStatusStopped {
		return true, fmt.Errorf("the campaign was stopped before its end; certctl-cli campaigns report %s says what became of it", now.ID)
	}
	return ended, nil
}

// waitingItems are the first items that are under way.
func waitingItems(ctx context.Context, c *client.Client, of *client.Campaign, n int) []client.CampaignItem {
	if of.Counts.Renewing > 0 {
		return items(ctx, c, of.ID, client.CampaignItemStatusRenewing, n)
	}
	return items(ctx, c, of.ID, client.CampaignItemStatusIssued, n)
}

// items are the first of a status. That there is nothing to show is no reason to fail.
func items(ctx context.Context, c *client.Client, id string, status client.CampaignItemStatus, n int) []client.CampaignItem {
	var list client.CampaignItemList
	res, err := c.ListCampaignItems(ctx, id, &client.ListCampaignItemsParams{Status: &status, PerPage: &n})
	if _, err := decode(res, err, &list); err != nil {
		return nil
	}
	return list.Data
}

func waitsFor(it *client.CampaignItem) string {
	if it.Status == client.CampaignItemStatusIssued {
		return first(text(it.Reason), "waits for its targets to serve it")
	}
	return first(text(it.Reason), string(it.Status))
}

// display is a line that changes, or lines one below the other where nothing can change.
type display struct {
	out io.Writer
	// width is how many columns the terminal has, zero if out is none.
	width int
	line  string
}

func (d *display) show(line string) error {
	before := d.line
	if line == before {
		return nil
	}
	d.line = line
	var err error
	switch {
	case d.width == 0:
		_, err = fmt.Fprintln(d.out, line)
	case before != "" && utf8.RuneCountInString(before) > d.width:
		// Back to the row where it began.
		_, err = fmt.Fprintf(d.out, "\r\x1b[%dA%s\x1b[J", (utf8.RuneCountInString(before)-1)/d.width, line)
	default:
		_, err = fmt.Fprintf(d.out, "\r%s\x1b[J", line)
	}
	return err
}

// end leaves what is shown and goes on below.
func (d *display) end() {
	if d.width > 0 && d.line != "" {
		fmt.Fprintln(d.out)
	}
	d.line = ""
}

// columns is the width of the terminal that output goes to, zero if it goes elsewhere.
func (s *session) columns() int {
	f, ok := s.Out.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return 0
	}
	if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
		return width
	}
	return 80
}
