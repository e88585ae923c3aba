package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/certctl/certctl/contracts/httpapi/client"
)

const (
	chosenArgs = "NAME [--issuer-id I] [--ca-cert FILE] [--ca-key HEX] [--profile-id P] [--key-algorithm A] [--key-size N] [--q EXPRESSION] ..."
	// defaultWatch is how often a campaign that is watched is asked for.
	defaultWatch = time.Second
)

// campaignCommands are the verbs behind campaigns.
func campaignCommands() []command {
	return []command{
		{"plan", chosenArgs, "say what a campaign would do, and do nothing", planCampaign},
		{"create", chosenArgs + " [--start] [--watch]", "make a campaign that re-issues many certificates", createCampaign},
		{"start", "ID [--watch]", "begin a campaign that is planned", steer("started", func(ctx context.Context, c *client.Client, id string) (*http.Response, error) {
			return c.StartCampaign(ctx, id)
		})},
		{"pause", "ID", "have it begin nothing more for now", steer("paused", func(ctx context.Context, c *client.Client, id string) (*http.Response, error) {
			return c.PauseCampaign(ctx, id)
		})},
		{"resume", "ID [--watch]", "have it go on that was paused or stopped", steer("resumed", func(ctx context.Context, c *client.Client, id string) (*http.Response, error) {
			return c.ResumeCampaign(ctx, id)
		})},
		{"stop", "ID", "end it; what has not begun stays as it is", steer("stopped", func(ctx context.Context, c *client.Client, id string) (*http.Response, error) {
			return c.StopCampaign(ctx, id)
		})},
		{"retry", "ID [--include-skipped] [--watch]", "have what failed begin again", retryCampaign},
		{"status", "ID [--watch]", "show how far a campaign is", campaignStatus},
		{"report", "ID [--csv]", "print what came of a campaign: Markdown, CSV, or JSON with --format json", campaignReport},
		{"list", "[--status S] [--limit N]", "list campaigns, newest first", listCampaigns},
	}
}

// campaigns carries out one of its verbs.
func campaigns(ctx context.Context, s *session, args []string) error {
	verbs := campaignCommands()
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		for _, v := range verbs {
			if v.name == args[0] {
				v.name = "campaigns " + v.name
				s.use(v)
				return v.run(ctx, s, args[1:])
			}
		}
	}
	head := s.usage
	s.usage = func(w io.Writer) {
		head(w)
		fmt.Fprint(w, "\nVerbs; certctl-cli campaigns VERB --help explains one:\n")
		for _, v := range verbs {
			fmt.Fprintf(w, "  %-8s  %s\n", v.name, v.summary)
		}
	}
	rest, err := s.arguments(args, 1)
	if err != nil {
		return err
	}
	fmt.Fprintf(s.Err, "certctl-cli: campaigns has no verb %q\n", harmless(rest[0]))
	return errUsage
}

func planCampaign(ctx context.Context, s *session, args []string) error {
	var f campaignFlags
	f.add(s.flags)
	rest, err := s.arguments(args, 1)
	if err != nil {
		return err
	}
	body, err := f.body(rest[0])
	if err != nil {
		return err
	}
	c, err := s.dial()
	if err != nil {
		return err
	}
	dry := true
	body.DryRun = &dry
	var plan client.CampaignPlan
	res, err := c.CreateCampaign(ctx, body)
	raw, err := decode(res, err, &plan)
	if err != nil {
		return err
	}
	if s.json {
		return s.printJSON(raw)
	}
	return s.printPlan(plan)
}

func createCampaign(ctx context.Context, s *session, args []string) error {
	var f campaignFlags
	f.add(s.flags)
	start := s.flags.Bool("start", false, "begin at once")
	watch := s.watching("with --start, ")
	rest, err := s.arguments(args, 1)
	if err != nil {
		return err
	}
	body, err := f.body(rest[0])
	if err != nil {
		return err
	}
	body.Start = start
	c, err := s.dial()
	if err != nil {
		return err
	}
	var made client.Campaign
	res, err := c.CreateCampaign(ctx, body)
	raw, err := decode(res, err, &made)
	switch {
	case err != nil:
		return err
	case *watch && *start:
		return s.watch(ctx, c, made.ID)
	case s.json:
		return s.printJSON(raw)
	}
	next := "campaigns start"
	if *start {
		next = "campaigns status --watch"
	}
	_, err = fmt.Fprintf(s.Out, "%s is %s with %d certificates; certctl-cli %s %s\n", harmless(made.ID), made.Status, made.Counts.Total, next, harmless(made.ID))
	return err
}

// steer is a verb that changes the state of a campaign.
func steer(done string, call func(context.Context, *client.Client, string) (*http.Response, error)) func(context.Context, *session, []string) error {
	return func(ctx context.Context, s *session, args []string) error {
		watch := s.watching("")
		rest, err := s.arguments(args, 1)
		if err != nil {
			return err
		}
		c, err := s.dial()
		if err != nil {
			return err
		}
		res, err := call(ctx, c, rest[0]) //nolint:bodyclose // decode closes it
		return s.steered(ctx, c, done, *watch, res, err)
	}
}

func (s *session) steered(ctx context.Context, c *client.Client, done string, watch bool, res *http.Response, err error) error {
	var now client.Campaign
	raw, err := decode(res, err, &now)
	switch {
	case err != nil:
		return err
	case watch:
		return s.watch(ctx, c, now.ID)
	case s.json:
		return s.printJSON(raw)
	}
	_, err = fmt.Fprintf(s.Out, "%s is %s: %s\n", harmless(now.ID), done, progress(&now))
	return err
}

func retryCampaign(ctx context.Context, s *session, args []string) error {
	skipped := s.flags.Bool("include-skipped", false, "look at what was skipped as well")
	watch := s.watching("")
	rest, err := s.arguments(args, 1)
	if err != nil {
		return err
	}
	c, err := s.dial()
	if err != nil {
		return err
	}
	res, err := c.RetryCampaign(ctx, rest[0], client.CampaignRetry{IncludeSkipped: skipped}) //nolint:bodyclose // decode closes it
	return s.steered(ctx, c, "going on", *watch, res, err)
}

func campaignStatus(ctx context.Context, s *session, args []string) error {
	watch := s.watching("")
	rest, err := s.arguments(args, 1)
	if err != nil {
		return err
	}
	c, err := s.dial()
	if err != nil {
		return err
	}
	if *watch {
		return s.watch(ctx, c, rest[0])
	}
	var now client.Campaign
	res, err := c.GetCampaign(ctx, rest[0])
	raw, err := decode(res, err, &now)
	if err != nil {
		return err
	}
	if s.json {
		return s.printJSON(raw)
	}
	if _, err := fmt.Fprintf(s.Out, "%s  %s\n%s\n", harmless(now.ID), harmless(now.Name), progress(&now)); err != nil {
		return err
	}
	return s.printReasons(ctx, c, &now)
}

// named is how many certificates of a kind the status of a campaign names.
const named = 5

// printReasons shows what the first certificates wait for that are under way, and why the first failed.
func (s *session) printReasons(ctx context.Context, c *client.Client, now *client.Campaign) error {
	var told []client.CampaignItem
	if now.Counts.Renewing+now.Counts.Issued > 0 {
		told = waitingItems(ctx, c, now, named)
	}
	if now.Counts.Failed > 0 {
		failed := client.CampaignItemStatusFailed
		if now.Rehearsal {
			failed = client.CampaignItemStatusWouldFail
		}
		told = append(told, items(ctx, c, now.ID, failed, named)...)
	}
	if len(told) == 0 {
		return nil
	}
	rows := make([][]string, len(told))
	for i, it := range told {
		rows[i] = []string{it.CertificateID, string(it.Status), waitsFor(&it)}
	}
	fmt.Fprintln(s.Out)
	return s.table([]string{"CERTIFICATE", "IS", "WHY"}, rows)
}

func campaignReport(ctx context.Context, s *session, args []string) error {
	asCSV := s.flags.Bool("csv", false, "one line for each certificate, with its old and its new version")
	rest, err := s.arguments(args, 1)
	if err != nil {
		return err
	}
	c, err := s.dial()
	if err != nil {
		return err
	}
	format := "markdown"
	switch {
	case s.json:
		format = "json"
	case *asCSV:
		format = "csv"
	}
	res, err := c.GetCampaignReport(ctx, rest[0], &client.GetCampaignReportParams{Format: &format})
	if s.json {
		var report client.CampaignReport
		raw, err := decode(res, err, &report)
		if err != nil {
			return err
		}
		return s.printJSON(raw)
	}
	return s.printLines(res, err)
}

// printLines prints an answer in text as it comes, without what a terminal acts upon.
func (s *session) printLines(res *http.Response, err error) error {
	if err != nil || res.StatusCode >= http.StatusBadRequest {
		return done(res, err)
	}
	defer res.Body.Close()
	lines := bufio.NewReader(res.Body)
	for {
		line, err := lines.ReadString('\n')
		if text := strings.TrimSuffix(line, "\n"); line != "" {
			if _, err := fmt.Fprintln(s.Out, harmless(text)); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("the server broke off its answer: %w", err)
		}
	}
}

func listCampaigns(ctx context.Context, s *session, args []string) error {
	status := s.flags.String("status", "", "only campaigns of this status, such as Running")
	limit := s.flags.Int("limit", defaultLimit, "rows at most, up to 500")
	if _, err := s.arguments(args, 0); err != nil {
		return err
	}
	c, err := s.dial()
	if err != nil {
		return err
	}
	var list client.CampaignList
	res, err := c.ListCampaigns(ctx, &client.ListCampaignsParams{PerPage: limit, Status: optional[client.CampaignStatus](*status)})
	body, err := decode(res, err, &list)
	if err != nil {
		return err
	}
	if s.json {
		return s.printJSON(body)
	}
	rows := make([][]string, len(list.Data))
	for i, c := range list.Data {
		kind := "re-issue"
		if c.Rehearsal {
			kind = "rehearsal"
		}
		rows[i] = []string{
			c.ID, c.Name, kind, string(c.Status), fmt.Sprintf("%d/%d", c.Counts.Done, c.Counts.Total), strconv.Itoa(c.Counts.Failed), date(c.CreatedAt),
		}
	}
	if err := s.table([]string{"ID", "NAME", "KIND", "STATUS", "DONE", "FAILED", "MADE"}, rows); err != nil {
		return err
	}
	return s.shown(len(rows), list.Total)
}
