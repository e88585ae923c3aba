package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/certctl/certctl/contracts/httpapi/client"
)

func listKeys(ctx context.Context, s *session, args []string) error {
	all := s.flags.Bool("all", false, "also those that are revoked")
	limit := s.flags.Int("limit", defaultLimit, "rows at most, up to 500")
	if _, err := s.arguments(args, 0); err != nil {
		return err
	}
	c, err := s.dial()
	if err != nil {
		return err
	}
	res, err := c.ListAPIKeys(ctx, &client.ListAPIKeysParams{PerPage: limit, IncludeRevoked: all})
	var list client.APIKeyList
	body, err := decode(res, err, &list)
	if err != nil {
		return err
	}
	if s.json {
		return s.printJSON(body)
	}
	rows := make([][]string, len(list.Data))
	for i, k := range list.Data {
		rows[i] = []string{k.ID, k.Name, k.Prefix, roleNames(k.Roles), scopeText(k.Scope), string(k.Status), ends(k), last(k.LastUsedAt)}
	}
	if err := s.table([]string{"ID", "NAME", "BEGINS", "ROLES", "SCOPE", "STATUS", "EXPIRES", "LAST USED"}, rows); err != nil {
		return err
	}
	return s.shown(len(rows), list.Total)
}

func roleNames(roles []client.Role) string {
	names := make([]string, len(roles))
	for i, r := range roles {
		names[i] = string(r)
	}
	return strings.Join(names, ",")
}

// scopeText is what a key is limited to, "all" if to nothing.
func scopeText(s client.Scope) string {
	var limits []string
	for _, d := range []struct {
		name string
		ids  *client.ScopeList
	}{{"teams", s.Teams}, {"environments", s.Environments}, {"issuers", s.Issuers}, {"profiles", s.Profiles}} {
		if d.ids != nil {
			limits = append(limits, d.name+"="+strings.Join(*d.ids, ","))
		}
	}
	if len(limits) == 0 {
		return "all"
	}
	return strings.Join(limits, " ")
}

func ends(k client.APIKey) string {
	if k.ExpiresAt == nil {
		return "never"
	}
	return date(*k.ExpiresAt)
}

func last(at *time.Time) string {
	if at == nil {
		return "never"
	}
	return date(*at)
}

func createKey(ctx context.Context, s *session, args []string) error {
	var body client.APIKeyCreate
	s.flags.Func("role", "what it may do: admin, operator, approver, agent-manager, auditor, viewer or mcp; may be given again", func(v string) error {
		body.Roles = append(body.Roles, client.Role(v))
		return nil
	})
	var scope client.Scope
	limit := func(name, what string, ids **client.ScopeList) {
		s.flags.Func(name, "limits it to "+what+"; may be given again", func(v string) error {
			if *ids == nil {
				*ids = &client.ScopeList{}
			}
			**ids = append(**ids, v)
			return nil
		})
	}
	limit("team", "a team", &scope.Teams)
	limit("environment", "an environment", &scope.Environments)
	limit("issuer-id", "an issuer", &scope.Issuers)
	limit("profile-id", "a profile", &scope.Profiles)
	s.flags.Func("expires-in", "how long it is good, such as 90d or 12h; without, for ever", func(v string) error {
		d, err := period(v)
		if err == nil {
			until := time.Now().Add(d).UTC().Truncate(time.Second)
			body.ExpiresAt = &until
		}
		return err
	})
	rest, err := s.arguments(args, 1)
	if err != nil {
		return err
	}
	body.Name, body.Scope = rest[0], &scope
	if len(body.Roles) == 0 {
		fmt.Fprintln(s.Err, "certctl-cli: say what the key may do, such as --role viewer")
		return errUsage
	}
	c, err := s.dial()
	if err != nil {
		return err
	}
	var k client.APIKey
	res, err := c.CreateAPIKey(ctx, body)
	raw, err := decode(res, err, &k)
	if err != nil {
		return err
	}
	return s.printKey(raw, k)
}

// period is a duration, which may be in days.
func period(text string) (time.Duration, error) {
	const day, most = 24 * time.Hour, 36500
	if days, isDays := strings.CutSuffix(text, "d"); isDays {
		n, err := strconv.Atoi(days)
		if err != nil || n < 1 || n > most {
			return 0, errors.New("must be like 90d or 12h")
		}
		return time.Duration(n) * day, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, errors.New("must be like 90d or 12h")
	}
	return d, nil
}

// printKey shows a key that cannot be shown again.
func (s *session) printKey(raw []byte, k client.APIKey) error {
	if s.json {
		return s.printJSON(raw)
	}
	fields := [][]string{
		{"ID", k.ID},
		{"Name", k.Name},
		{"Roles", roleNames(k.Roles)},
		{"Scope", scopeText(k.Scope)},
		{"Expires", ends(k)},
		{"Key", text(k.Key)},
	}
	if k.PreviousUntil != nil {
		fields = append(fields, []string{"Old key until", date(*k.PreviousUntil)})
	}
	for _, f := range fields {
		if _, err := fmt.Fprintf(s.Out, "%-15s %s\n", f[0]+":", printable(f[1])); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(s.Err, "keep the key now: it cannot be shown again")
	return err
}

func rotateKey(ctx context.Context, s *session, args []string) error {
	overlap := 24 * time.Hour
	s.flags.Func("overlap", "how long the old key stays good, such as 30d, 12h or 0s (default 1d)", func(v string) (err error) {
		overlap, err = period(v)
		return err
	})
	rest, err := s.arguments(args, 1)
	if err != nil {
		return err
	}
	c, err := s.dial()
	if err != nil {
		return err
	}
	seconds := int(overlap.Seconds())
	var k client.APIKey
	res, err := c.RotateAPIKey(ctx, rest[0], client.APIKeyRotate{OverlapSeconds: &seconds})
	raw, err := decode(res, err, &k)
	if err != nil {
		return err
	}
	return s.printKey(raw, k)
}

func revokeKey(ctx context.Context, s *session, args []string) error {
	rest, err := s.arguments(args, 1)
	if err != nil {
		return err
	}
	c, err := s.dial()
	if err != nil {
		return err
	}
	res, err := c.RevokeAPIKey(ctx, rest[0])
	if err := done(res, err); err != nil {
		return err
	}
	if s.json {
		return s.printJSON([]byte(`{"status":"revoked"}`))
	}
	_, err = fmt.Fprintf(s.Out, "%s is revoked\n", rest[0])
	return err
}
