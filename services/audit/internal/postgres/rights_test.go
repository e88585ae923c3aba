package postgres

import (
	"crypto/ed25519"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/libs/testkit/pgtest"
	"github.com/certctl/certctl/services/audit/internal/chain"
	"github.com/certctl/certctl/services/audit/internal/proof"
)

// changes are all the ways to take back what was said.
var changes = []string{
	`UPDATE audit_events SET actor = 'nobody'`,
	`UPDATE audit_events SET actor = actor WHERE sequence = 1`,
	`DELETE FROM audit_events WHERE sequence = 1`,
	`TRUNCATE audit_events`,
	`INSERT INTO audit_events SELECT * FROM audit_events WHERE sequence = 1 ON CONFLICT (sequence) DO UPDATE SET actor = 'nobody'`,
	`MERGE INTO audit_events a USING (SELECT 1) x ON a.sequence = 1 WHEN MATCHED THEN DELETE`,
	`UPDATE audit_checkpoints SET hash = sha256('x')`,
	`DELETE FROM audit_checkpoints`,
	`TRUNCATE audit_checkpoints`,
	`UPDATE checkpoint_keys SET sealed_seed = ''`,
	`DELETE FROM checkpoint_keys`,
	`TRUNCATE checkpoint_keys`,
}

// undoings are what would make a change possible.
var undoings = []string{
	`DROP TRIGGER audit_events_no_change ON audit_events`,
	`ALTER TABLE audit_events DISABLE TRIGGER audit_events_no_change`,
	`ALTER TABLE audit_events DISABLE TRIGGER ALL`,
	`CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'`,
	`DROP FUNCTION refuse_change CASCADE`,
	`DROP TABLE audit_events`,
	`ALTER TABLE audit_events RENAME TO old`,
	`CREATE RULE forget AS ON INSERT TO audit_events DO INSTEAD NOTHING`,
	`CREATE TRIGGER forge BEFORE INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION refuse_change()`,
	`GRANT UPDATE ON audit_events TO current_user`,
	`DROP TRIGGER audit_checkpoints_no_change ON audit_checkpoints`,
	`ALTER TABLE checkpoint_keys DISABLE TRIGGER ALL`,
	`SET ROLE certctl_audit_owner`,
	`SET session_replication_role = replica`,
}

// Trap 74: events and checkpoints are append-only, by rights for the service and by
// triggers for its betters.
func TestAuditEvents_RefuseEveryChangeByTheService(t *testing.T) {
	pool := newPool(t)
	signed(t, pool)
	for _, sql := range append(append([]string{}, changes...), undoings...) {
		// A grant of what one has not is a warning and changes nothing; the change is then
		// tried in the same session.
		refused(t, pool, sql, changes[0])
	}
	untouched(t, pool, 3)
}

func TestAuditEvents_RefuseEveryChangeByTheOwner(t *testing.T) {
	pool := newPool(t)
	signed(t, pool)
	owner := pgtest.Admin(t, pool)
	for _, sql := range changes {
		refused(t, owner, sql)
	}
	untouched(t, pool, 3)
}

func TestAuditEvents_RefuseEveryChangeByASuperuserWhoOnlyAsks(t *testing.T) {
	pool := newPool(t)
	signed(t, pool)
	conn := superuser(t, pool)
	for _, role := range []string{"origin", "replica"} {
		if _, err := conn.Exec(t.Context(), `SET session_replication_role = `+role); err != nil {
			t.Fatal(err)
		}
		for _, sql := range changes {
			if _, err := conn.Exec(t.Context(), sql); err == nil {
				t.Errorf("as %s: %s was done", role, sql)
			}
		}
	}
	untouched(t, pool, 3)
}

// signed stores three events, a key and a checkpoint.
func signed(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	store(t, pool, happened("a", 3))
	checkpointed(t, pool)
}

// checkpointed signs the end of the chain, with a key that is stored.
func checkpointed(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	public, err := chain.PublicKeyOf(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := StoreKey(t.Context(), pool, public, []byte("sealed")); err != nil {
		t.Fatal(err)
	}
	head, err := Head(t.Context(), pool)
	if err != nil {
		t.Fatal(err)
	}
	c, err := chain.Sign(key, head, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := StoreCheckpoint(t.Context(), pool, &c); err != nil {
		t.Fatal(err)
	}
}

// refused tries statements in one transaction and wants one of them to fail.
func refused(t *testing.T, pool *pgxpool.Pool, statements ...string) {
	t.Helper()
	err := pg.InTx(t.Context(), pool, func(tx pgx.Tx) error {
		for _, sql := range statements {
			if _, err := tx.Exec(t.Context(), sql); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		t.Errorf("%s was done", statements)
	}
}

func untouched(t *testing.T, pool *pgxpool.Pool, want int64) {
	t.Helper()
	if r, err := Verify(t.Context(), pool, new(proof.Verifier)); err != nil || r.Last != want {
		t.Errorf("the chain ends at %d, %v", r.Last, err)
	}
}
