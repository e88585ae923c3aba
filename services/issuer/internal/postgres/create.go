package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/outbox"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
)

// Lists of names and ids travel joined by line breaks, which neither can hold, because unnest would flatten an array of
// arrays.
const lineBreak = "\n"

var createSQL = `WITH input AS (
	SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
		$9::text[], $10::text[], $11::text[], $12::text[], $13::bigint[], $14::timestamptz[], $15::text[], $16::text[],
		$17::text[], $18::int[], $19::int[], $20::text[], $21::text[], $22::timestamptz[], $23::text[], $24::text[],
		$25::text[], ` + versionParameters(26) + `, $44::text[], $45::text[], $46::text[], $47::text[])
	AS i (id, name, common_name, sans, environment, owner_id, team_id, issuer_id,
		renewal_policy_id, tags, status, status_reason, version, at, targets, job_id,
		job_status, attempts, max_attempts, csr_pem, last_error, next_action_at, requested_by, correlation_id,
		trace_parent, ` + versionNames + `, certificate_profile_id, policy_in_force, authority_key_id, agent_id)
), profile AS (
	SELECT id FROM certificate_profiles WHERE id IN (SELECT certificate_profile_id FROM input) AND enabled FOR KEY SHARE
), cert AS (
	INSERT INTO certificates (id, name, common_name, sans, environment, owner_id, team_id, issuer_id, renewal_policy_id,
		tags, status, status_reason, version, version_id, serial_number, fingerprint_sha256, expires_at, created_at, updated_at,
		certificate_profile_id, target_ids)
	SELECT id, name, common_name, string_to_array(sans, E'\n'), environment, owner_id, team_id, issuer_id, renewal_policy_id,
		tags::jsonb, status, status_reason, version, version_id, serial_number, fingerprint_sha256,
		COALESCE(not_after, '0001-01-01 00:00:00+00'), at, at, certificate_profile_id, string_to_array(targets, E'\n')
	FROM input i
	WHERE EXISTS (SELECT FROM owners WHERE id = i.owner_id)
		AND EXISTS (SELECT FROM teams WHERE id = i.team_id)
		AND EXISTS (SELECT FROM renewal_policies WHERE id = i.renewal_policy_id)
		AND EXISTS (SELECT FROM issuers WHERE id = i.issuer_id AND enabled)
		AND (i.certificate_profile_id = '' OR EXISTS (SELECT FROM profile WHERE id = i.certificate_profile_id))
	ON CONFLICT (id) DO NOTHING
	RETURNING id
), job AS (
	INSERT INTO jobs (id, type, certificate_id, status, attempts, max_attempts, csr_pem, version_id, last_error,
		next_action_at, requested_by, correlation_id, trace_parent, created_at, started_at, completed_at, renewal_policy_id, agent_id)
	SELECT job_id, 'Issuance', i.id, job_status, attempts, max_attempts, csr_pem, version_id, last_error,
		next_action_at, requested_by, correlation_id, trace_parent, at, CASE WHEN attempts > 0 THEN at END,
		CASE WHEN job_status IN ('Completed', 'Failed') THEN at END, policy_in_force, agent_id
	FROM input i JOIN cert USING (id)
), target AS (
	INSERT INTO certificate_targets (certificate_id, target_id, position)
	SELECT i.id, t.id, t.position
	FROM input i JOIN cert USING (id), unnest(string_to_array(i.targets, E'\n')) WITH ORDINALITY AS t (id, position)
	WHERE i.targets <> ''
), version AS (
	` + insertVersions("cert.id", "input i JOIN cert ON cert.id = i.id") + `
), event AS (
	INSERT INTO outbox (msg_id, stream, subject, headers, body)
	SELECT e.id, e.stream, e.subject, e.header::json, e.body
	FROM unnest($38::text[], $39::text[], $40::text[], $41::text[], $42::text[], $43::bytea[])
		AS e (key, id, stream, subject, header, body)
	JOIN cert ON cert.id = e.key
)
SELECT id FROM cert`

// creationTries is how often a creation runs into a removal before it is given up.
const creationTries = 3

// Create implements [issuance.Store]. Calls that come at once are stored by one statement.
func (s *Store) Create(ctx context.Context, c issuance.Creation) error {
	return s.creations.Call(ctx, c)
}

// create stores creations with distinct ids, all that can be, and returns what is wrong with each of the others.
func (s *Store) create(ctx context.Context, batch []issuance.Creation) ([]error, error) {
	args, err := createArgs(batch)
	if err != nil {
		return nil, err
	}
	stored, err := s.insert(ctx, batch, args)
	for range creationTries {
		// What a certificate refers to was removed under the statement's hands: seen from now on, it is not there.
		if !pg.IsForeignKey(err) {
			break
		}
		stored, err = s.insert(ctx, batch, args)
	}
	if err != nil {
		return nil, pg.Fault(fmt.Errorf("store %d certificates: %w", len(batch), err))
	}
	s.hooks.Told()
	if slices.ContainsFunc(batch, func(c issuance.Creation) bool { return !c.Job.NextActionAt.IsZero() }) {
		s.hooks.Due()
	}
	if slices.ContainsFunc(batch, func(c issuance.Creation) bool { return c.Version != nil }) {
		s.hooks.Look()
	}
	if len(stored) == len(batch) {
		return nil, nil
	}
	there := make(map[string]bool, len(stored))
	for _, id := range stored {
		there[id] = true
	}
	errs := make([]error, len(batch))
	for i := range batch {
		if !there[batch[i].Certificate.ID] {
			errs[i] = s.refusal(ctx, &batch[i].Certificate)
		}
	}
	return errs, nil
}

// insert stores what can be stored, with its breaches if there are any, and returns the ids.
func (s *Store) insert(ctx context.Context, batch []issuance.Creation, args []any) (stored []string, err error) {
	insert := func(q querier) error {
		rows, err := q.Query(ctx, createSQL, args...)
		if err != nil {
			return err
		}
		stored, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	}
	if !slices.ContainsFunc(batch, func(c issuance.Creation) bool { return len(c.Breaches) > 0 }) {
		// A single statement needs no transaction around it.
		err = insert(s.pool)
		return stored, err
	}
	err = pg.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		if err := insert(tx); err != nil {
			return err
		}
		var breaches []issuance.Breach
		for i := range batch {
			if slices.Contains(stored, batch[i].Certificate.ID) {
				breaches = append(breaches, batch[i].Breaches...)
			}
		}
		return putOnRecord(ctx, tx, breaches)
	})
	return stored, err
}

func createArgs(batch []issuance.Creation) ([]any, error) {
	type row = issuance.Creation
	text := func(field func(*row) string) []string { return column(batch, field) }
	tags := make([]string, len(batch))
	var told events
	for i := range batch {
		encoded, err := encodeTags(batch[i].Certificate.Tags)
		if err != nil {
			return nil, err
		}
		tags[i] = encoded
		for n, f := range batch[i].Facts {
			if err := told.add(batch[i].Certificate.ID, f, int64(n+1)); err != nil {
				return nil, err
			}
		}
	}
	columns := outbox.ColumnsOf(told.messages)
	args := []any{
		text(func(r *row) string { return r.Certificate.ID }),
		text(func(r *row) string { return r.Certificate.Name }),
		text(func(r *row) string { return r.Certificate.CommonName }),
		text(func(r *row) string { return strings.Join(r.Certificate.SANs, lineBreak) }),
		text(func(r *row) string { return r.Certificate.Environment }),
		text(func(r *row) string { return r.Certificate.OwnerID }),
		text(func(r *row) string { return r.Certificate.TeamID }),
		text(func(r *row) string { return r.Certificate.IssuerID }),
		text(func(r *row) string { return r.Certificate.RenewalPolicyID }),
		tags,
		text(func(r *row) string { return string(r.Certificate.Status) }),
		text(func(r *row) string { return r.Certificate.StatusReason }),
		column(batch, func(r *row) int64 { return r.Certificate.Revision }),
		column(batch, func(r *row) time.Time { return r.Certificate.CreatedAt }),
		text(func(r *row) string { return strings.Join(r.Certificate.TargetIDs, lineBreak) }),
		text(func(r *row) string { return r.Job.ID }),
		text(func(r *row) string { return string(r.Job.Status) }),
		column(batch, func(r *row) int { return r.Job.Attempts }),
		column(batch, func(r *row) int { return r.Job.MaxAttempts }),
		text(func(r *row) string { return r.Job.CSRPEM }),
		text(func(r *row) string { return r.Job.LastError }),
		column(batch, func(r *row) *time.Time { return orNull(r.Job.NextActionAt) }),
		text(func(r *row) string { return r.Job.Origin.Actor }),
		text(func(r *row) string { return r.Job.Origin.CorrelationID }),
		text(func(r *row) string { return r.Job.Origin.TraceParent }),
	}
	versions := column(batch, func(r *row) *issuance.Version { return r.Version })
	args = append(args, versionArgs(versions)...)
	args = append(append(args, told.keys), columns.Args()...)
	return append(args, text(func(r *row) string { return r.Certificate.ProfileID }), text(func(r *row) string { return r.Job.PolicyID }), authorityKeyIDs(versions),
		text(func(r *row) string { return r.Job.AgentID })), nil
}

func encodeTags(tags map[string]string) (string, error) {
	if len(tags) == 0 {
		return "{}", nil
	}
	b, err := json.Marshal(tags)
	if err != nil {
		return "", fmt.Errorf("encode tags: %w", err)
	}
	return string(b), nil
}

const refusalSQL = `SELECT EXISTS (SELECT FROM certificates WHERE id = $1),
	EXISTS (SELECT FROM owners WHERE id = $2), EXISTS (SELECT FROM teams WHERE id = $3),
	EXISTS (SELECT FROM renewal_policies WHERE id = $4), EXISTS (SELECT FROM issuers WHERE id = $5 AND enabled),
	$6 = '' OR EXISTS (SELECT FROM certificate_profiles WHERE id = $6 AND enabled)`

// unknown says which references of a certificate lead nowhere, and whether its id is taken.
func (s *Store) unknown(ctx context.Context, c *issuance.Certificate) (bad []fault.Field, taken bool, err error) {
	var owner, team, policy, issuer, profile bool
	err = s.pool.QueryRow(ctx, refusalSQL, c.ID, c.OwnerID, c.TeamID, c.RenewalPolicyID, c.IssuerID, c.ProfileID).
		Scan(&taken, &owner, &team, &policy, &issuer, &profile)
	if err != nil {
		return nil, false, pg.Fault(fmt.Errorf("look up what certificate %s refers to: %w", c.ID, err))
	}
	for _, ref := range [...]struct {
		there           bool
		field, what, id string
	}{
		{owner, "owner_id", "owner", c.OwnerID},
		{team, "team_id", "team", c.TeamID},
		{policy, "renewal_policy_id", "renewal policy", c.RenewalPolicyID},
		{issuer, "issuer_id", "issuer", c.IssuerID},
		{profile, "certificate_profile_id", "or disabled profile", c.ProfileID},
	} {
		if !ref.there {
			bad = append(bad, fault.Field{Name: ref.field, Reason: "unknown " + ref.what + " " + ref.id})
		}
	}
	return bad, taken, nil
}

// refusal says why a certificate was not stored.
func (s *Store) refusal(ctx context.Context, c *issuance.Certificate) error {
	bad, taken, err := s.unknown(ctx, c)
	switch {
	case err != nil:
		return err
	case len(bad) > 0:
		return fault.InvalidFields(bad...)
	case taken:
		return fault.New(fault.Conflict, "a certificate with the id %s exists already", c.ID)
	default:
		return fault.New(fault.Unavailable, "what certificate %s refers to changed meanwhile; try again", c.ID)
	}
}
