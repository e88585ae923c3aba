package sample

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/id"
	"github.com/certctl/certctl/libs/outbox"
	"github.com/certctl/certctl/libs/pg"
)

const (
	issuerID  = "iss-sample"
	policyID  = "rp-sample"
	profileID = "prof-sample-web"
)

// rules are switched off: those that hold would hold for what is alive too.
var rules = []string{
	`INSERT INTO certificate_profiles (id, name, description, allowed_key_algorithms, max_ttl_seconds, allowed_ekus, enabled)
	VALUES ('` + profileID + `', 'Web servers (sample)', 'ECDSA, 90 days at most, for TLS servers',
		'[{"algorithm": "ECDSA", "min_size": 256}]', 7776000, '{serverAuth}', true)`,
	`INSERT INTO policy_rules (id, name, type, severity, config) VALUES
	('pr-sample-domains', 'Our domains only (sample)', 'AllowedDomains', 'Error', '{"allow": ["*.shop.example", "*.payments.example", "*.platform.example"], "deny": ["*.test.platform.example"]}'),
	('pr-sample-owner', 'Everything has an owner (sample)', 'RequiredMetadata', 'Warning', '{"fields": ["owner_id", "team_id", "environment"]}'),
	('pr-sample-window', 'Renew three weeks ahead (sample)', 'RenewalLeadTime', 'Warning', '{"min_days": 21}')`,
}

// Add writes the inventory as the services that own its parts, with the events that tell of it. It is Conflict if there
// is one already.
func Add(ctx context.Context, issuer, deployment *pgxpool.Pool, now time.Time) (*Inventory, error) {
	inv, err := New(now)
	if err != nil {
		return nil, err
	}
	err = pg.InTx(ctx, deployment, func(tx pgx.Tx) error { return inv.addFleet(ctx, tx, now) })
	if pg.IsUnique(err) {
		return nil, fault.New(fault.Conflict, "the sample inventory is there already; remove it first")
	}
	if err != nil {
		return nil, err
	}
	return inv, pg.InTx(ctx, issuer, func(tx pgx.Tx) error { return inv.addCertificates(ctx, tx, now) })
}

// Remove takes all of it away again. What the audit trail says of it stays.
func Remove(ctx context.Context, issuer, deployment *pgxpool.Pool) error {
	for _, part := range []struct {
		pool       *pgxpool.Pool
		statements []string
	}{
		{issuer, []string{
			`DELETE FROM policy_rules WHERE id LIKE 'pr-sample-%'`,
			`DELETE FROM certificate_versions WHERE certificate_id LIKE 'mc-sample-%'`,
			`DELETE FROM jobs WHERE certificate_id LIKE 'mc-sample-%'`,
			`DELETE FROM certificate_targets WHERE certificate_id LIKE 'mc-sample-%'`,
			`DELETE FROM certificates WHERE id LIKE 'mc-sample-%'`,
			`DELETE FROM target_agents WHERE target_id LIKE 'tgt-sample-%'`,
			`DELETE FROM owners WHERE id LIKE 'o-sample-%'`,
			`DELETE FROM teams WHERE id LIKE 't-sample-%'`,
			`DELETE FROM issuers WHERE id = '` + issuerID + `'`,
			`DELETE FROM renewal_policies WHERE id = '` + policyID + `'`,
			`DELETE FROM certificate_profiles WHERE id = '` + profileID + `'`,
		}},
		{deployment, []string{
			`DELETE FROM certificates WHERE id LIKE 'mc-sample-%'`,
			`DELETE FROM targets WHERE id LIKE 'tgt-sample-%'`,
			`DELETE FROM agent_groups WHERE id LIKE 'ag-sample-%'`,
			`DELETE FROM agents WHERE id LIKE 'agent-sample-%'`,
		}},
	} {
		err := pg.InTx(ctx, part.pool, func(tx pgx.Tx) error {
			for _, statement := range part.statements {
				if _, err := tx.Exec(ctx, statement); err != nil {
					return fmt.Errorf("%s: %w", statement, err)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (inv *Inventory) addFleet(ctx context.Context, tx pgx.Tx, now time.Time) error {
	b := &pgx.Batch{}
	var told []outbox.Message
	for n := range agents {
		host, status, seen := fmt.Sprintf("web-%d.example", n), "Online", now
		if n == agents-1 {
			status, seen = "Offline", now.Add(-26*time.Hour)
		}
		architecture := []string{"amd64", "arm64"}[n%2]
		b.Queue(`INSERT INTO agents (id, site_id, public_key, name, hostname, os, architecture, ip_address, version, status, last_heartbeat_at, registered_at)
			VALUES ($1, 'site-local', $1, $2, $2, 'linux', $3, $4, 'v1.0.0', $5, $6, $7)`,
			agentID(n), host, architecture, fmt.Sprintf("10.20.%d.%d", n%3, 10+n), status, seen, now.Add(-200*day))
		m, err := message("deployment", event.AgentRegistered{AgentID: agentID(n), SiteID: "site-local", Name: host, Hostname: host, OS: "linux", Architecture: architecture, Version: "v1.0.0"}, now.Add(-200*day))
		if err != nil {
			return err
		}
		told = append(told, m)
	}
	b.Queue(`INSERT INTO agent_groups (id, name, description, match_os, match_architecture, match_ip_cidr, created_at, updated_at) VALUES
		('ag-sample-arm', 'ARM hosts (sample)', 'By what their agents say', 'linux', 'arm64', '', $1, $1),
		('ag-sample-edge', 'Edge network (sample)', 'By address', '', '', '10.20.0.0/24', $1, $1)`, now.Add(-190*day))
	for _, t := range inv.Targets {
		config := map[string]any{"cert_path": "/etc/nginx/tls/" + t.Host + ".crt", "key_path": "/etc/nginx/tls/" + t.Host + ".key", "server_name": t.Host}
		b.Queue(`INSERT INTO targets (id, name, type, agent_id, config, created_at, updated_at) VALUES ($1, $2, 'NGINX', $3, $4, $5, $5)`,
			t.ID, t.Name, t.AgentID, config, now.Add(-199*day))
		m, err := message("deployment", event.TargetCreated{Target: event.Target{TargetID: t.ID, Name: t.Name, Type: "NGINX", AgentID: t.AgentID, Enabled: true}}, now.Add(-199*day))
		if err != nil {
			return err
		}
		told = append(told, m)
	}
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return fmt.Errorf("add agents and targets: %w", err)
	}
	return outbox.Insert(ctx, tx, told...)
}

func (inv *Inventory) addCertificates(ctx context.Context, tx pgx.Tx, now time.Time) error {
	b := &pgx.Batch{}
	for _, t := range teams {
		b.Queue(`INSERT INTO teams (id, name, description) VALUES ($1, $2, 'Sample')`, t.id, t.name+" (sample)")
		b.Queue(`INSERT INTO owners (id, name, email, team_id) VALUES ($1, $2, $3, $4)`, "o-"+t.id[2:], t.owner, t.email, t.id)
	}
	b.Queue(`INSERT INTO renewal_policies (id, name, auto_renew) VALUES ($1, 'Sample: by hand', false)`, policyID)
	b.Queue(`INSERT INTO issuers (id, name, type, enabled, ca_chain_pem) VALUES ($1, 'Sample CA', 'GenericCA', false, $2)`, issuerID, inv.CAChain)
	for _, rule := range rules {
		b.Queue(rule)
	}
	var told []outbox.Message
	for i := range inv.Certificates {
		c := &inv.Certificates[i]
		c.queue(b, now)
		facts, err := c.told(now)
		if err != nil {
			return err
		}
		told = append(told, facts...)
	}
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return fmt.Errorf("add certificates: %w", err)
	}
	return outbox.Insert(ctx, tx, told...)
}

// queue adds the statements that write a certificate, its versions and the jobs that made them.
func (c *Certificate) queue(b *pgx.Batch, now time.Time) {
	b.Queue(`INSERT INTO certificates (id, name, common_name, sans, environment, owner_id, team_id, issuer_id, renewal_policy_id,
			certificate_profile_id, tags, status, status_reason, created_at, updated_at)
		VALUES ($1, $2, $2, ARRAY[$2], $3, $4, $5, $6, $7, $8, '{"sample":"true"}', $9, $10, $11, $12)`,
		c.ID, c.CommonName, c.Environment, c.OwnerID, c.TeamID, issuerID, policyID, profileID, c.Status, c.Reason, c.CreatedAt, now)
	for i, v := range c.Versions {
		job := fmt.Sprintf("job-i-%s-%d", c.ID[3:], i)
		b.Queue(`INSERT INTO jobs (id, type, certificate_id, status, attempts, version_id, csr_pem, requested_by, created_at, started_at, completed_at)
			VALUES ($1, $2, $3, 'Completed', 1, $4, $5, 'issuer', $6, $6, $6)`,
			job, kind(i), c.ID, v.ID, v.CSR, v.NotBefore)
		b.Queue(`INSERT INTO certificate_versions (id, certificate_id, job_id, issuer_id, serial_number, fingerprint_sha256, spki_sha256,
				not_before, not_after, pem_chain, csr_pem, key_algorithm, key_size, created_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 'ECDSA', 256, $8)`,
			v.ID, c.ID, job, issuerID, v.Serial, v.Fingerprint, v.SPKI, v.NotBefore, v.NotAfter, v.PEMChain, v.CSR)
		b.Queue(`UPDATE certificates SET version_id = $2, serial_number = $3, fingerprint_sha256 = $4, expires_at = $5,
				last_renewal_at = CASE WHEN $6 THEN $7::timestamptz END, last_deployment_at = $7 WHERE id = $1`,
			c.ID, v.ID, v.Serial, v.Fingerprint, v.NotAfter, i > 0, v.NotBefore)
	}
	deployed := ""
	if len(c.Versions) > 0 {
		deployed = c.Versions[len(c.Versions)-1].ID
	}
	b.Queue(`INSERT INTO certificate_targets (certificate_id, target_id, position, version_id) VALUES ($1, $2, 1, $3)`, c.ID, c.TargetID, deployed)
	if strings.HasSuffix(c.CommonName, ".test.platform.example") {
		b.Queue(`INSERT INTO policy_violations (id, rule_id, certificate_id, common_name, owner_id, team_id, environment, issuer_id,
				certificate_profile_id, stage, severity, blocked, message, count, told_by, told_at, created_at, last_seen_at)
			VALUES ($1, 'pr-sample-domains', $2, $3, $4, $5, $6, $7, $8, 'issue', 'Error', false, $9, 1, $1, $10, $10, $10)`,
			"pv-"+c.ID[3:], c.ID, c.CommonName, c.OwnerID, c.TeamID, c.Environment, issuerID, profileID,
			"policy \"Our domains only (sample)\" (pr-sample-domains, AllowedDomains) denies *.test.platform.example; "+c.CommonName+" is one", c.CreatedAt)
	}
	open := map[string]string{"Pending": "AwaitingCSR", "RenewalInProgress": "AwaitingCSR", "Failed": "Failed"}[c.Status]
	if open != "" {
		b.Queue(`INSERT INTO jobs (id, type, certificate_id, status, attempts, last_error, requested_by, created_at, started_at, completed_at)
			VALUES ($1, $2, $3, $4, CASE WHEN $4 = 'Failed' THEN 3 ELSE 1 END, $5, 'issuer', $6, $6, CASE WHEN $4 = 'Failed' THEN $6::timestamptz END)`,
			"job-i-"+c.ID[3:]+"-open", kind(len(c.Versions)), c.ID, open, c.Reason, now.Add(-time.Hour))
	}
}

func kind(version int) string {
	if version == 0 {
		return "Issuance"
	}
	return "Renewal"
}

// told are the events that nobody acts upon, for the audit trail to show a history.
func (c *Certificate) told(now time.Time) ([]outbox.Message, error) {
	type fact struct {
		event event.Event
		at    time.Time
	}
	facts := []fact{{event.CertificateRequested{
		CertificateID: c.ID, JobID: "job-i-" + c.ID[3:] + "-0", CommonName: c.CommonName, SANs: []string{c.CommonName}, IssuerID: issuerID,
		OwnerID: c.OwnerID, TeamID: c.TeamID, Environment: c.Environment, TargetIDs: []string{c.TargetID},
	}, c.CreatedAt}}
	if c.Status == "Archived" {
		facts = append(facts, fact{event.CertificateArchived{CertificateID: c.ID}, now.Add(-day)})
	}
	var messages []outbox.Message
	for _, f := range facts {
		m, err := message("issuer", f.event, f.at)
		if err != nil {
			return nil, err
		}
		messages = append(messages, m)
	}
	return messages, nil
}

func message(service string, e event.Event, at time.Time) (outbox.Message, error) {
	body, err := json.Marshal(e)
	if err != nil {
		return outbox.Message{}, err
	}
	aggregate, of, _ := e.About()
	m := bus.Message{
		Subject: event.Subject(e), ID: id.New("ev-"), Type: event.Type(e), Source: "/certctl/" + service,
		Entity: aggregate + "/" + of, Time: at, AggVersion: 1, Actor: "certctl", Body: body,
	}
	return m.Outbox(subject.StreamEvents)
}
