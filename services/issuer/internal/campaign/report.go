package campaign

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// Listed is how many failures a report lists; all of them are in its CSV.
const Listed = 1000

// Tally is how many items of a kind there are, with what they came to.
type Tally struct {
	// Of is what they have in common: an owner, or a reason.
	Of, Name, Email string
	Counts
	// KeysHeld is how many were skipped because their requesters hold the keys.
	KeysHeld int
}

// CA is a key of a CA that signed old or new versions.
type CA struct {
	// New tells that it signed new versions.
	New                      bool
	IssuerID, AuthorityKeyID string
	Certificates             int
}

// Durations are how long items took from their beginning until they were done.
type Durations struct {
	P50, P99, Longest time.Duration
}

// Old is what became of the versions that were replaced.
type Old struct {
	// Valid is how many of those that were replaced have not ended, LastUntil when the last of them does.
	Valid     int
	LastUntil time.Time
	// NotReplaced is how many have not been replaced and have not ended.
	NotReplaced int
}

// Report is what came of a campaign.
type Report struct {
	Campaign    Campaign
	Waves       []Wave
	Owners      []Tally
	Failures    []Reason
	Skipped     []Reason
	FailedItems []Item
	Durations   Durations
	CAs         []CA
	Old         Old
	At          time.Time
}

// Reason is why items failed or were skipped, and how many.
type Reason struct {
	Reason string
	Count  int
}

// Markdown writes a report for people.
func (r *Report) Markdown(w io.Writer) error {
	d := document{w: w}
	c := &r.Campaign
	title := "Campaign"
	if c.Rehearsal {
		title = "Rehearsal"
	}
	d.line("# %s %s", title, cell(c.Name))
	d.line("")
	d.line("`%s`, %s%s. Made by `%s` on %s%s%s.", c.ID, c.Status, orNothing(": ", c.Reason), cell(c.Origin.Actor), day(c.CreatedAt),
		orNothing(", begun ", day(c.StartedAt)), orNothing(", ended ", day(c.CompletedAt)))
	d.line("")
	d.line("Chosen: %s.%s", r.selection(), r.destination())
	d.line("")
	r.planAndReality(&d)
	r.waves(&d)
	r.owners(&d)
	d.reasons("Failed", r.Failures)
	r.failed(&d)
	d.reasons("Left as they are", r.Skipped)
	r.authorities(&d)
	return d.err
}

func (r *Report) selection() string {
	s := r.Campaign.Selection
	var parts []string
	for _, p := range [...]struct{ what, value string }{
		{"issued by", s.IssuerID},
		{"signed by CA key", s.AuthorityKeyID},
		{"of the CA certificate", s.CAFingerprint},
		{"profile", s.ProfileID},
		{"key", strings.TrimPrefix(keyName(s.KeyAlgorithm, s.KeySize), " ")},
		{"expression", s.Q},
	} {
		if p.value != "" {
			parts = append(parts, p.what+" `"+cell(p.value)+"`")
		}
	}
	return strings.Join(parts, ", ")
}

func (r *Report) destination() string {
	var parts []string
	if to := r.Campaign.ToIssuerID; to != nil {
		parts = append(parts, "to issuer `"+cell(*to)+"`")
	}
	if to := r.Campaign.ToProfileID; to != nil {
		parts = append(parts, "to profile `"+cell(*to)+"`")
	}
	if len(parts) == 0 {
		return ""
	}
	return " Moved " + strings.Join(parts, " and ") + "."
}

func (r *Report) planAndReality(d *document) {
	c, p := &r.Campaign, &r.Campaign.Plan
	done, failed := "Done", "Failed"
	if c.Rehearsal {
		done, failed = "Would pass", "Would fail"
	}
	d.line("| | planned | came |")
	d.line("|---|---:|---:|")
	d.line("| Certificates | %d | %d |", p.Total, c.Total)
	d.line("| %s | %d | %d |", done, p.WouldIssue, c.Done)
	d.line("| %s | %d | %d |", failed, p.WouldFail, c.Failed)
	d.line("| Skipped | %d | %d |", p.WouldSkip, c.Skipped)
	d.line("| Not ended | | %d |", c.Pending+c.UnderWay())
	d.line("| Waves | %d | %d |", len(p.Waves), len(r.Waves))
	took := ""
	if !c.StartedAt.IsZero() && !c.CompletedAt.IsZero() {
		took = span(c.CompletedAt.Sub(c.StartedAt))
	}
	d.line("| Duration | about %s | %s |", span(p.Takes), took)
	d.line("")
	if r.Durations.Longest > 0 {
		d.line("Of one certificate, from its beginning until it was done: half within %s, 99 of 100 within %s, the slowest in %s.",
			span(r.Durations.P50), span(r.Durations.P99), span(r.Durations.Longest))
		d.line("")
	}
}

func (r *Report) waves(d *document) {
	d.line("## Waves\n")
	d.line("| Wave | Certificates | Done | Failed | Skipped | Begun | Ended |")
	d.line("|---|---:|---:|---:|---:|---|---|")
	for _, w := range r.Waves {
		name := fmt.Sprint(w.Number)
		if w.Number == CanaryWave {
			name = "canary"
		}
		d.line("| %s | %d | %d | %d | %d | %s | %s |", name, w.Total, w.Done, w.Failed, w.Skipped, moment(w.StartedAt), moment(w.CompletedAt))
	}
	d.line("")
}

func (r *Report) owners(d *document) {
	d.line("## Owners\n")
	d.line("| Owner | Certificates | Done | Failed | Skipped | Keys that they hold |")
	d.line("|---|---:|---:|---:|---:|---:|")
	for _, o := range r.Owners {
		d.line("| %s%s%s | %d | %d | %d | %d | %d |", cell(o.Of), orNothing(", ", cell(o.Name)), orNothing(", ", cell(o.Email)),
			o.Total, o.Done, o.Failed, o.Skipped, o.KeysHeld)
	}
	d.line("")
}

func (r *Report) failed(d *document) {
	if len(r.FailedItems) == 0 {
		return
	}
	d.line("| Certificate | Name | Owner | Job | Why |")
	d.line("|---|---|---|---|---|")
	for i := range r.FailedItems {
		it := &r.FailedItems[i]
		d.line("| `%s` | %s | %s | %s | %s |", it.CertificateID, cell(it.CommonName), cell(it.OwnerID), it.JobID, cell(it.Reason))
	}
	if left := r.Campaign.Failed - len(r.FailedItems); left > 0 {
		d.line("\nand %d more, which are in the report as CSV.", left)
	}
	d.line("")
}

func (r *Report) authorities(d *document) {
	d.line("## CAs and old versions\n")
	d.line("| Versions | Issuer | CA key | Certificates |")
	d.line("|---|---|---|---:|")
	for _, a := range r.CAs {
		which := "old"
		if a.New {
			which = "new"
		}
		d.line("| %s | %s | `%s` | %d |", which, cell(a.IssuerID), cell(a.AuthorityKeyID), a.Certificates)
	}
	d.line("")
	d.line("Of the versions that were replaced, %d are still valid%s. They have not been revoked by this campaign.",
		r.Old.Valid, orNothing(", the last until ", day(r.Old.LastUntil)))
	if r.Old.NotReplaced > 0 {
		d.line("\nOf the others, %d are still valid and have not been replaced.", r.Old.NotReplaced)
	}
}

// document writes lines until one fails.
type document struct {
	w   io.Writer
	err error
}

func (d *document) line(format string, args ...any) {
	if d.err == nil {
		_, d.err = fmt.Fprintf(d.w, format+"\n", args...)
	}
}

func (d *document) reasons(title string, reasons []Reason) {
	if len(reasons) == 0 {
		return
	}
	d.line("## %s\n", title)
	for _, r := range reasons {
		d.line("- %d: %s", r.Count, cell(r.Reason))
	}
	d.line("")
}

// cell is a text from elsewhere as it may stand in a table or a sentence.
func cell(s string) string {
	return strings.NewReplacer("\n", " ", "\r", " ", "|", `\|`, "<", "&lt;", "`", "'").Replace(s)
}

func orNothing(before, s string) string {
	if s == "" {
		return ""
	}
	return before + s
}

func day(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("15:04:05.000")
}

func span(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	default:
		return d.Round(time.Second).String()
	}
}
