package api

import (
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/certctl/certctl/contracts/httpapi/issuerapi"
	"github.com/certctl/certctl/services/issuer/internal/campaign"
)

// The formats of a report.
const (
	asJSON     = "json"
	asCSV      = "csv"
	asMarkdown = "markdown"
)

// reportFormat has Accept decide about the format of a report for which none was asked by name.
func reportFormat(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if strings.HasPrefix(r.URL.Path, "/api/v1/campaigns/") && strings.HasSuffix(r.URL.Path, "/report") && !q.Has("format") {
			first, _, _ := strings.Cut(r.Header.Get("Accept"), ",")
			kind, _, _ := mime.ParseMediaType(first)
			if format, ok := map[string]string{"text/csv": asCSV, "text/markdown": asMarkdown}[kind]; ok {
				q.Set("format", format)
				r.URL.RawQuery = q.Encode()
			}
		}
		next.ServeHTTP(w, r)
	})
}

// GetCampaignReport implements the operation of that name.
func (s *server) GetCampaignReport(ctx context.Context, r issuerapi.GetCampaignReportRequestObject) (issuerapi.GetCampaignReportResponseObject, error) {
	if err := known("campaign", r.ID); err != nil {
		return nil, err
	}
	p, _ := asking(ctx)
	format := asJSON
	if f := value(r.Params.Format); f != "" {
		format = f
	}
	viewer := campaign.ViewerOf(p)
	switch format {
	case asCSV:
		if _, err := s.store.Campaign(ctx, viewer, r.ID); err != nil {
			return nil, err
		}
		return itemsAsCSV{ctx, s, r.ID}, nil
	case asMarkdown, asJSON:
	default:
		return nil, invalid("format", "is none of json, csv and markdown")
	}
	report, err := s.store.CampaignReport(ctx, viewer, r.ID, s.clock.Now())
	if err != nil {
		return nil, err
	}
	if format == asJSON {
		return issuerapi.GetCampaignReport200JSONResponse(s.report(&report)), nil
	}
	var text bytes.Buffer
	if err := report.Markdown(&text); err != nil {
		return nil, err
	}
	return issuerapi.GetCampaignReport200TextMarkdownResponse{Body: &text, ContentLength: int64(text.Len())}, nil
}

// itemsAsCSV writes one line for each certificate, a few in memory at a time.
type itemsAsCSV struct {
	ctx context.Context //nolint:containedctx // of the request that it answers
	s   *server
	id  string
}

var csvHead = []string{
	"position", "wave", "certificate_id", "common_name", "owner_id", "team_id", "environment", "status", "reason", "job_id", "begun_at", "ended_at",
	"old_version_id", "old_fingerprint_sha256", "old_issuer_id", "old_authority_key_id", "old_not_after",
	"new_version_id", "new_fingerprint_sha256", "new_issuer_id", "new_authority_key_id", "new_not_after",
}

// VisitGetCampaignReportResponse implements [issuerapi.GetCampaignReportResponseObject].
func (r itemsAsCSV) VisitGetCampaignReportResponse(w http.ResponseWriter) error {
	w.Header().Set("Content-Type", "text/csv; charset=utf-8; header=present")
	w.Header().Set("Content-Disposition", fmt.Sprintf(`attachment; filename="certctl-campaign-%s.csv"`, r.id))
	out := csv.NewWriter(w)
	err := out.Write(csvHead)
	if err == nil {
		err = r.s.store.EachCampaignItem(r.ctx, r.id, func(i *campaign.Item) error {
			line := []string{
				strconv.Itoa(i.Position), strconv.Itoa(i.Wave), i.CertificateID, i.CommonName, i.OwnerID, i.TeamID, i.Environment, string(i.Status),
				i.Reason, i.JobID, stamp(i.BegunAt), stamp(i.EndedAt),
				i.OldVersionID, i.OldFingerprint, i.OldIssuerID, i.OldAuthorityKeyID, stamp(i.OldNotAfter),
				i.NewVersionID, i.NewFingerprint, i.NewIssuerID, i.NewAuthorityKeyID, stamp(i.NewNotAfter),
			}
			for n, text := range line {
				line[n] = inert(text)
			}
			return out.Write(line)
		})
	}
	out.Flush()
	if err != nil || out.Error() != nil {
		// Nobody is to take the half of it for the whole.
		panic(http.ErrAbortHandler)
	}
	return nil
}

// inert is a text that a spreadsheet does not take for a formula. A wave of -1 is a number.
func inert(s string) string {
	if s != "" && s != "-1" && strings.ContainsRune("=+-@\t\r'", rune(s[0])) {
		return "'" + s
	}
	return s
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

func (s *server) report(r *campaign.Report) issuerapi.CampaignReport {
	out := issuerapi.CampaignReport{
		At: r.At.UTC(), Campaign: s.campaign(&r.Campaign), Plan: campaignPlan(&r.Campaign.Plan), Waves: make([]issuerapi.CampaignWave, len(r.Waves)),
		Owners: make([]issuerapi.CampaignOwner, len(r.Owners)), Failures: reasons(r.Failures), Skipped: reasons(r.Skipped),
		Failed: campaignItems(r.FailedItems), Cas: make([]issuerapi.CampaignCA, len(r.CAs)),
	}
	for i, w := range r.Waves {
		out.Waves[i] = issuerapi.CampaignWave{
			Number: w.Number, Counts: shownCounts(w.Counts), StartedAt: moment(w.StartedAt), CompletedAt: moment(w.CompletedAt),
		}
	}
	for i, o := range r.Owners {
		out.Owners[i] = issuerapi.CampaignOwner{OwnerID: o.Of, Name: text(o.Name), Email: text(o.Email), Counts: shownCounts(o.Counts), KeysHeld: o.KeysHeld}
	}
	for i, a := range r.CAs {
		out.Cas[i] = issuerapi.CampaignCA{Versions: "old", IssuerID: a.IssuerID, AuthorityKeyID: a.AuthorityKeyID, Certificates: a.Certificates}
		if a.New {
			out.Cas[i].Versions = "new"
		}
	}
	d := &out.Durations
	d.P50, d.P99, d.Longest = r.Durations.P50.Seconds(), r.Durations.P99.Seconds(), r.Durations.Longest.Seconds()
	out.OldVersions.StillValid, out.OldVersions.NotReplaced = r.Old.Valid, r.Old.NotReplaced
	out.OldVersions.ValidUntil = moment(r.Old.LastUntil)
	return out
}

func reasons(rows []campaign.Reason) []issuerapi.CampaignReason {
	out := make([]issuerapi.CampaignReason, len(rows))
	for i, r := range rows {
		out[i] = issuerapi.CampaignReason{Reason: r.Reason, Count: r.Count}
	}
	return out
}
