package desk_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/id"
	"github.com/certctl/certctl/libs/natsauth"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/libs/retry"
	"github.com/certctl/certctl/libs/secret"
	"github.com/certctl/certctl/libs/testkit/pgtest"
	"github.com/certctl/certctl/migrations"
	"github.com/certctl/certctl/services/deployment/internal/desk"
	"github.com/certctl/certctl/services/deployment/internal/platform"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.M{M: m}) }

var start = time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)

// world is a desk over a schema of its own, and the agents it deals with.
type world struct {
	testing.TB
	db    *pgxpool.Pool
	key   *platform.Key
	clock *clock.Manual
	desk  *desk.Desk
}

func newWorld(t testing.TB) *world {
	t.Helper()
	if test, ok := t.(*testing.T); ok {
		test.Parallel()
	}
	db := pgtest.New(t, migrations.FS("deployment"), "deployment")
	key, err := platform.Open(t.Context(), db, secret.New(secret.NewKey()))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{TB: t, db: db, key: key, clock: clock.At(start)}
	w.desk = &desk.Desk{
		DB: db, Key: key, Clock: w.clock, Log: slog.New(slog.DiscardHandler),
		Policy: desk.Policy{
			MaxAttempts: 3, OrderLife: 7 * 24 * time.Hour,
			Retry:  retry.Policy{Base: time.Minute, Cap: time.Hour},
			Resend: retry.Policy{Base: time.Minute, Cap: 6 * time.Hour},
		},
	}
	return w
}

// host is an agent of site-local.
type host struct {
	id, seed string
}

func (w *world) host(agentID string) host {
	w.Helper()
	seed, public, err := natsauth.NewUserKey()
	if err != nil {
		w.Fatal(err)
	}
	w.exec(`INSERT INTO agents (id, site_id, public_key, status, last_heartbeat_at, registered_at)
		VALUES ($1, 'site-local', $2, 'Online', $3, $3)`, agentID, public, w.clock.Now())
	return host{id: agentID, seed: seed}
}

func (w *world) target(targetID string, h host) {
	w.Helper()
	w.exec(`INSERT INTO targets (id, name, type, agent_id, config, created_at, updated_at)
		VALUES ($1, $1, 'NGINX', $2, '{"cert_path": "/c", "key_path": "/k"}', $3, $3)`, targetID, h.id, w.clock.Now())
}

func (w *world) exec(sql string, args ...any) {
	w.Helper()
	if _, err := w.db.Exec(w.Context(), sql, args...); err != nil {
		w.Fatal(err)
	}
}

func one[T any](w *world, sql string, args ...any) T {
	w.Helper()
	var v T
	if err := w.db.QueryRow(w.Context(), sql, args...).Scan(&v); err != nil {
		w.Fatalf("%s: %v", sql, err)
	}
	return v
}

func message(e event.Event, revision int64) bus.Message {
	body, err := json.Marshal(e)
	if err != nil {
		panic(err)
	}
	return bus.Message{ID: id.New("ev-"), Type: event.Type(e), Subject: event.Subject(e), AggVersion: revision, CorrelationID: "req-1", Body: body}
}

// issued is a version that is valid from a number of hours after the start.
func issued(certificateID, versionID string, hours int, targets ...string) event.CertificateIssued {
	from := start.Add(time.Duration(hours) * time.Hour)
	return event.CertificateIssued{
		CertificateID: certificateID, IssuerID: "iss-local", CommonName: "www.example.org", TargetIDs: targets,
		Version: event.Version{
			VersionID: versionID, FingerprintSHA256: "f-" + versionID, NotBefore: from, NotAfter: from.Add(90 * 24 * time.Hour),
			PEMChain: "chain of " + versionID,
		},
	}
}

// hear delivers events as the bus would: in one transaction.
func (w *world) hear(msgs ...bus.Message) {
	w.Helper()
	if err := w.in(w.desk.Events, msgs...); err != nil {
		w.Fatalf("events: %v", err)
	}
}

func (w *world) in(handle bus.Handler, msgs ...bus.Message) error {
	return pg.InTx(w.Context(), w.db, func(tx pgx.Tx) error { return handle(w.Context(), tx, msgs) })
}

// order is what an agent would get.
type order struct {
	messageID string
	subject   string
	ttl       string
	command   command.AgentCommand
}

// orders reads the orders to agents in the outbox, and checks each as an agent would.
func (w *world) orders() []order {
	w.Helper()
	rows, err := w.db.Query(w.Context(), `SELECT msg_id, subject, coalesce(headers->'Nats-TTL'->>0, ''), body FROM outbox
		WHERE stream = 'AGENT_CMD' ORDER BY id`)
	if err != nil {
		w.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (order, error) {
		var o order
		var body []byte
		if err := row.Scan(&o.messageID, &o.subject, &o.ttl, &body); err != nil {
			return o, err
		}
		var signed command.Signed
		if err := json.Unmarshal(body, &signed); err != nil {
			return o, err
		}
		if err := natsauth.VerifyCommand(w.key.Public(), signed.Payload, signed.Signature); err != nil {
			return o, err
		}
		return o, json.Unmarshal(signed.Payload, &o.command)
	})
	if err != nil {
		w.Fatal(err)
	}
	return all
}

// events lists the events in the outbox: aggregate, id and name.
func (w *world) events() []string {
	w.Helper()
	rows, err := w.db.Query(w.Context(), `SELECT replace(headers->'ce-subject'->>0, '/', '.') || substring(subject FROM '\.[^.]*$')
		FROM outbox WHERE stream = 'EVT' ORDER BY id`)
	if err != nil {
		w.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		w.Fatal(err)
	}
	return all
}

// last decodes the newest event of its type.
func last[E event.Event](w *world) E {
	w.Helper()
	var e E
	body := one[[]byte](w, `SELECT body FROM outbox WHERE stream = 'EVT' AND subject = $1 ORDER BY id DESC LIMIT 1`, event.Subject(e))
	if err := json.Unmarshal(body, &e); err != nil {
		w.Fatal(err)
	}
	return e
}

// answer is a report of a host, as the hub gets it.
func (h host) answer(c command.AgentCommand, outcome string, change ...func(*command.AgentReport)) bus.Message {
	r := command.AgentReport{JobID: c.JobID, Attempt: c.Attempt, AgentID: h.id, Verb: c.Verb, Outcome: outcome, At: start}
	for _, f := range change {
		f(&r)
	}
	return h.signed(subject.AgentReport("site-local", h.id, subject.KindDeploy, r.JobID), r)
}

func (h host) signed(on string, r command.AgentReport) bus.Message {
	payload, err := json.Marshal(r)
	if err != nil {
		panic(err)
	}
	signature, err := natsauth.SignReport(h.seed, payload)
	if err != nil {
		panic(err)
	}
	body, err := json.Marshal(command.Signed{Payload: payload, Signature: signature})
	if err != nil {
		panic(err)
	}
	return bus.Message{ID: id.New("rep-"), Type: "certctl.agent.report.v1", Subject: on, Body: body}
}

// told delivers reports as the bus would.
func (w *world) told(msgs ...bus.Message) {
	w.Helper()
	if err := w.in(w.desk.Reports, msgs...); err != nil {
		w.Fatalf("reports: %v", err)
	}
}

// sweep does what is due.
func (w *world) sweep() {
	w.Helper()
	for _, do := range []func(context.Context) (int, error){w.desk.Chase, w.desk.Dispatch} {
		for {
			n, err := do(w.Context())
			if err != nil {
				w.Fatalf("sweep: %v", err)
			}
			if n == 0 {
				break
			}
		}
	}
}

type jobRow struct {
	ID, Version, Target, Agent, Status string
	Attempts                           int
	Error                              string
}

func (w *world) jobs() []jobRow {
	w.Helper()
	rows, err := w.db.Query(w.Context(), `SELECT id, version_id, target_id, agent_id, status, attempts, last_error FROM jobs ORDER BY created_at, target_id`)
	if err != nil {
		w.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[jobRow])
	if err != nil {
		w.Fatal(err)
	}
	return all
}
