package cli

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/certctl/certctl/contracts/httpapi/client"
)

func listAgents(ctx context.Context, s *session, args []string) error {
	status := s.flags.String("status", "", "only agents of this status: Online, Offline or Retired")
	search := s.flags.String("q", "", searchHelp)
	limit := s.flags.Int("limit", defaultLimit, "rows at most, up to 500")
	if _, err := s.arguments(args, 0); err != nil {
		return err
	}
	c, err := s.dial()
	if err != nil {
		return err
	}
	res, err := c.ListAgents(ctx, &client.ListAgentsParams{
		PerPage: limit, Status: optional[client.AgentStatus](*status), Q: optional[string](*search),
	})
	var list client.AgentList
	body, err := decode(res, err, &list)
	if err != nil {
		return err
	}
	if s.json {
		return s.printJSON(body)
	}
	rows := make([][]string, len(list.Data))
	for i, a := range list.Data {
		seen := "-"
		if a.LastHeartbeatAt != nil {
			seen = date(*a.LastHeartbeatAt)
		}
		rows[i] = []string{a.ID, a.Hostname, string(a.Status), strings.Trim(a.Os+"/"+a.Architecture, "/"), a.IPAddress, a.Version, a.SiteID, seen}
	}
	if err := s.table([]string{"ID", "HOST", "STATUS", "PLATFORM", "ADDRESS", "VERSION", "SITE", "LAST SEEN"}, rows); err != nil {
		return err
	}
	return s.shown(len(rows), list.Total)
}

func listJobs(ctx context.Context, s *session, args []string) error {
	status := s.flags.String("status", "", "only jobs of this status, such as Running")
	kind := s.flags.String("type", "", "only jobs of this type: Issuance, Renewal, Deployment or Validation")
	cert := s.flags.String("cert", "", "only jobs of this certificate")
	search := s.flags.String("q", "", searchHelp)
	limit := s.flags.Int("limit", defaultLimit, "rows at most, up to 500")
	if _, err := s.arguments(args, 0); err != nil {
		return err
	}
	c, err := s.dial()
	if err != nil {
		return err
	}
	res, err := c.ListJobs(ctx, &client.ListJobsParams{
		PerPage: limit, Status: optional[client.JobStatus](*status), Type: optional[client.JobType](*kind),
		CertificateID: optional[string](*cert), Q: optional[string](*search),
	})
	var list client.JobList
	body, err := decode(res, err, &list)
	if err != nil {
		return err
	}
	if s.json {
		return s.printJSON(body)
	}
	rows := make([][]string, len(list.Data))
	for i, j := range list.Data {
		rows[i] = []string{
			j.ID, string(j.Type), j.CertificateID, string(j.Status),
			strconv.Itoa(j.Attempts) + "/" + strconv.Itoa(j.MaxAttempts), date(j.CreatedAt), text(j.LastError),
		}
	}
	if err := s.table([]string{"ID", "TYPE", "CERTIFICATE", "STATUS", "TRIES", "CREATED", "LAST ERROR"}, rows); err != nil {
		return err
	}
	return s.shown(len(rows), list.Total)
}

// health needs no key, so that a probe can use it.
func health(ctx context.Context, s *session, args []string) error {
	if _, err := s.arguments(args, 0); err != nil {
		return err
	}
	c, err := s.dialAs(func(context.Context, *http.Request) error { return nil })
	if err != nil {
		return err
	}
	res, err := c.GetReady(ctx)
	if err != nil {
		return fmt.Errorf("the server was not reached: %w", err)
	}
	unready := res.StatusCode == http.StatusServiceUnavailable
	if unready {
		res.StatusCode = http.StatusOK // the body tells which part is away
	}
	var ready client.Readiness
	body, err := decode(res, nil, &ready)
	if err != nil {
		return err
	}
	if err := s.printHealth(body, ready); err != nil {
		return err
	}
	if unready {
		return fmt.Errorf("%s is not ready", s.server)
	}
	return nil
}

func (s *session) printHealth(body []byte, ready client.Readiness) error {
	if s.json {
		return s.printJSON(body)
	}
	if _, err := fmt.Fprintf(s.Out, "%s is %s\n", s.server, harmless(string(ready.Status))); err != nil {
		return err
	}
	if ready.Checks == nil {
		return nil
	}
	rows := [][]string{}
	for name, problem := range sorted(*ready.Checks) {
		state := "ok"
		if problem != "" {
			state = problem
		}
		rows = append(rows, []string{name, state})
	}
	return s.table([]string{"PART", "STATE"}, rows)
}

func printVersion(_ context.Context, s *session, args []string) error {
	if _, err := s.arguments(args, 0); err != nil {
		return err
	}
	_, err := fmt.Fprintln(s.Out, "certctl-cli", Version)
	return err
}
