package cli

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
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

// campaignFlags are the flags by which a campaign is described.
type campaignFlags struct {
	issuer, caKey, caFingerprint, caCert, profile, algorithm, q, toIssuer, toProfile string
	keySize, canary, waveSize, maxFailures, maxPercent, inFlight                     int
	pause                                                                            time.Duration
	rehearsal, reuseCSR                                                              bool
	canaryIDs                                                                        []string
}

func (f *campaignFlags) add(flags *flag.FlagSet) {
	flags.StringVar(&f.issuer, "issuer-id", "", "certificates that this issuer issued")
	flags.StringVar(&f.caCert, "ca-cert", "", "certificates signed by the key of the CA whose certificate is in this file, in PEM")
	flags.StringVar(&f.caFingerprint, "ca-fingerprint", "", "the same by the SHA-256 fingerprint of that certificate")
	flags.StringVar(&f.caKey, "ca-key", "", "certificates signed by the CA key with this authority key identifier, in hex")
	flags.StringVar(&f.profile, "profile-id", "", "certificates of this profile")
	flags.StringVar(&f.algorithm, "key-algorithm", "", "certificates with a key of this kind: RSA, ECDSA or Ed25519")
	flags.IntVar(&f.keySize, "key-size", 0, "certificates with a key of so many bits")
	flags.StringVar(&f.q, "q", "", searchHelp)
	flags.StringVar(&f.toIssuer, "to-issuer", "", "the issuer that they get")
	flags.StringVar(&f.toProfile, "to-profile", "", "the profile that they get")
	flags.BoolVar(&f.rehearsal, "rehearsal", false, "go through everything but the signing, and change nothing")
	flags.BoolVar(&f.reuseCSR, "reuse-csr", false, "have certificates whose requesters hold the keys issued again with the same request and key")
	flags.IntVar(&f.canary, "canary", -1, "how many are issued and served before anything else begins (default a hundredth, 1 to 10)")
	flags.Func("canary-id", "a certificate for the canary; may be given again", func(v string) error { f.canaryIDs = append(f.canaryIDs, v); return nil })
	flags.IntVar(&f.waveSize, "wave-size", 0, "how many a wave has behind the canary; 0 is all")
	flags.DurationVar(&f.pause, "pause", 0, "how long to wait between waves, such as 10m")
	flags.IntVar(&f.maxFailures, "max-failures", -1, "stop when more fail")
	flags.IntVar(&f.maxPercent, "max-failure-percent", -1, "stop when a larger share of those that have ended fails (default 10)")
	flags.IntVar(&f.inFlight, "in-flight", 0, "how many may be under way (default 500)")
}

// body is the request that the flags make.
func (f *campaignFlags) body(name string) (client.CampaignCreate, error) {
	b := client.CampaignCreate{
		Name: name, ToIssuerID: optional[string](f.toIssuer), ToProfileID: optional[string](f.toProfile),
		Rehearsal: &f.rehearsal, ReuseCsr: &f.reuseCSR,
		Selection: client.CampaignSelection{
			IssuerID: optional[string](f.issuer), AuthorityKeyID: optional[string](f.caKey), CaFingerprintSha256: optional[string](f.caFingerprint),
			CertificateProfileID: optional[string](f.profile), KeyAlgorithm: optional[client.CampaignSelectionKeyAlgorithm](f.algorithm),
			Q: optional[string](f.q),
		},
	}
	if f.caCert != "" {
		text, err := os.ReadFile(f.caCert)
		if err != nil {
			return b, fmt.Errorf("read the CA certificate: %w", err)
		}
		block, _ := pem.Decode(text)
		if block == nil || block.Type != "CERTIFICATE" {
			return b, fmt.Errorf("%s holds no certificate in PEM", f.caCert)
		}
		sum := sha256.Sum256(block.Bytes)
		b.Selection.CaFingerprintSha256 = optional[string](hex.EncodeToString(sum[:]))
	}
	for _, n := range []struct {
		given, unless int
		to            **int
	}{
		{f.keySize, 0, &b.Selection.KeySize},
		{f.waveSize, 0, &b.WaveSize},
		{f.maxFailures, -1, &b.MaxFailures},
		{f.maxPercent, -1, &b.MaxFailurePercent},
		{f.inFlight, 0, &b.InFlight},
	} {
		if n.given != n.unless {
			*n.to = &n.given
		}
	}
	if f.pause > 0 {
		seconds := int(f.pause.Round(time.Second).Seconds())
		b.PauseBetweenSeconds = &seconds
	}
	switch {
	case len(f.canaryIDs) > 0:
		b.Canary = &client.CampaignCanary{Ids: &f.canaryIDs}
	case f.canary >= 0:
		b.Canary = &client.CampaignCanary{Count: &f.canary}
	}
	return b, nil
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

func (s *session) printPlan(p client.CampaignPlan) error {
	fmt.Fprintf(s.Out, "%d certificates are chosen; %d would be re-issued, %d skipped.\n", p.Total, p.WouldIssue, p.WouldSkip)
	waves := make([]string, 0, len(p.Waves))
	for i, n := range p.Waves {
		if i == 12 {
			waves = append(waves, fmt.Sprintf("... %d waves in all", len(p.Waves)))
			break
		}
		waves = append(waves, strconv.Itoa(n))
	}
	fmt.Fprintf(s.Out, "Waves: %s, of which the canary has %d. It would take about %s.\n\n", strings.Join(waves, " + "), p.Canary, seconds(p.EstimatedSeconds))
	rows := [][]string{}
	for _, of := range []struct {
		what string
		n    map[string]int
	}{
		{"issued by", p.ByIssuer},
		{"CA key", p.ByCaKey},
		{"key", p.ByKey},
		{"owner", p.ByOwner},
		{"team", p.ByTeam},
		{"environment", p.ByEnvironment},
		{"skipped", p.SkippedBy},
		{"to be told", p.KeyHolders},
	} {
		most := slices.SortedFunc(maps.Keys(of.n), func(a, b string) int { return cmp.Or(of.n[b]-of.n[a], strings.Compare(a, b)) })
		for _, name := range most[:min(len(most), 10)] {
			rows = append(rows, []string{of.what, name, strconv.Itoa(of.n[name])})
		}
	}
	for _, cost := range p.Costs {
		budget := "no limit"
		if cost.Budget.RateLimit != nil && cost.Budget.RateWindowSeconds != nil {
			budget = fmt.Sprintf("%d in %s", *cost.Budget.RateLimit, seconds(*cost.Budget.RateWindowSeconds))
		}
		rows = append(rows, []string{"requests to", cost.IssuerID + " (" + budget + ", at least " + seconds(cost.AtLeastSeconds) + ")", strconv.Itoa(cost.Requests)})
	}
	if err := s.table([]string{"BY", "", "CERTIFICATES"}, rows); err != nil {
		return err
	}
	for _, r := range p.Refusals[:min(len(p.Refusals), 10)] {
		fmt.Fprintf(s.Out, "skipped: %s: %s\n", harmless(r.CertificateID), harmless(r.Reason))
	}
	for _, w := range p.Warnings {
		fmt.Fprintf(s.Out, "warning: %s\n", harmless(w))
	}
	return nil
}

func seconds(n float64) string {
	d := time.Duration(n * float64(time.Second))
	if d > time.Minute {
		return d.Round(time.Second).String()
	}
	return d.Round(10 * time.Millisecond).String()
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

// watching adds the flags of what can be watched.
func (s *session) watching(when string) *bool {
	s.flags.DurationVar(&s.every, "interval", defaultWatch, "how often it is looked at")
	return s.flags.Bool("watch", false, when+"show how it goes on until it ends")
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
		res, err := call(ctx, c, rest[0])
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
	res, err := c.RetryCampaign(ctx, rest[0], client.CampaignRetry{IncludeSkipped: skipped})
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
	_, err = fmt.Fprintf(s.Out, "%s  %s\n%s\n", harmless(now.ID), harmless(now.Name), progress(&now))
	return err
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
