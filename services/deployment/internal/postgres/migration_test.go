package postgres_test

import (
	"encoding/json"
	"io/fs"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/libs/testkit/pgtest"
	"github.com/certctl/certctl/migrations"
	"github.com/certctl/certctl/services/deployment/internal/postgres"
)

const bodies = "0009_less_to_write.sql"

// An order that is open when the service is brought up to date can still be sent again.
func TestMigration_KeepsWhatOpenOrdersSay(t *testing.T) {
	all, before := migrations.FS("deployment"), fstest.MapFS{}
	names, err := fs.Glob(all, "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if name < bodies {
			text, err := fs.ReadFile(all, name)
			if err != nil {
				t.Fatal(err)
			}
			before[name] = &fstest.MapFile{Data: text}
		}
	}
	db := pgtest.New(t, before, "deployment")
	body := json.RawMessage(`{"common_name":"größe \"x\" \u003c","n":1}`)
	payload, err := json.Marshal(command.AgentCommand{JobID: "job-i-1", Attempt: 1, Body: body})
	if err != nil {
		t.Fatal(err)
	}
	signed, err := json.Marshal(command.Signed{Payload: payload})
	if err != nil {
		t.Fatal(err)
	}
	owner := pgtest.Admin(t, db)
	for _, sql := range []string{
		`INSERT INTO deployment.agents (id, site_id, public_key, status, last_heartbeat_at, registered_at) VALUES ('agent-1', 'site-local', 'U', 'Online', now(), now())`,
		`INSERT INTO deployment.agent_work (job_id, attempt, verb, agent_id, site_id, certificate_id, state, signed, deadline, expires_at, created_at, closed_at)
			VALUES ('job-i-1', 1, 'keyrequest', 'agent-1', 'site-local', 'mc-1', 'Sent', convert_to('` + string(signed) + `', 'UTF8'), now(), now(), now(), NULL),
				('job-i-2', 1, 'keyrequest', 'agent-1', 'site-local', 'mc-1', 'Done', NULL, NULL, now(), now(), now())`,
	} {
		if _, err := owner.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	text, err := fs.ReadFile(all, bodies)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := owner.Exec(t.Context(), "SET search_path = deployment; "+string(text)); err != nil {
		t.Fatal(err)
	}
	key := postgres.OrderKey{JobID: "job-i-1", Attempt: 1}
	err = pg.InTx(t.Context(), db, func(tx pgx.Tx) error {
		found, err := postgres.Contents(t.Context(), tx, []postgres.OrderKey{key})
		if diff := cmp.Diff(string(body), string(found[key].Body)); diff != "" {
			t.Error(diff)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
