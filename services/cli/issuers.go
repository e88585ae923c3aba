package cli

import (
	"context"
	"fmt"

	"github.com/certctl/certctl/contracts/httpapi/client"
)

// preflight fails if something forbids, so that a script goes no further.
func preflight(ctx context.Context, s *session, args []string) error {
	rest, err := s.operands(args)
	if err != nil {
		return err
	}
	if len(rest) < 2 {
		s.usage(s.Err)
		return errUsage
	}
	c, err := s.dial()
	if err != nil {
		return err
	}
	res, err := c.PreflightIssuer(ctx, rest[0], client.PreflightIssuerJSONRequestBody{Names: rest[1:]})
	var found client.Preflight
	body, err := decode(res, err, &found)
	if err != nil {
		return err
	}
	if s.json {
		err = s.printJSON(body)
	} else {
		rows := make([][]string, len(found.Findings))
		for i, f := range found.Findings {
			rows[i] = []string{f.Name, f.Check, string(f.Verdict), f.Message}
		}
		err = s.table([]string{"NAME", "CHECK", "VERDICT", "MESSAGE"}, rows)
	}
	if err == nil && string(found.Verdict) == "forbidden" {
		err = fmt.Errorf("issuer %s cannot issue for these names", rest[0])
	}
	return err
}
