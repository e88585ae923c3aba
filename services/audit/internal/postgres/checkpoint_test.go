package postgres

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/certctl/certctl/services/audit/internal/chain"
	"github.com/certctl/certctl/services/audit/internal/proof"
)

// chainAnew makes every hash anew, in SQL, as a superuser can who read the documentation.
const chainAnew = `
CREATE OR REPLACE FUNCTION field(b bytea) RETURNS bytea LANGUAGE sql AS $$ SELECT int8send(octet_length(b)) || b $$;
CREATE OR REPLACE FUNCTION field(t text) RETURNS bytea LANGUAGE sql AS $$ SELECT field(convert_to(t, 'UTF8')) $$;
DO $$
DECLARE e record; previous bytea := decode(repeat('00', 32), 'hex');
BEGIN
	FOR e IN SELECT * FROM audit_events ORDER BY sequence LOOP
		previous := sha256(field(previous) || field(e.sequence::text) || field(e.id) || field(e.actor) || field(e.actor_type) ||
			field(e.action) || field(e.resource_type) || field(e.resource_id) || field(e.details::text) ||
			field(to_char(e.happened_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')));
		UPDATE audit_events SET hash = previous WHERE sequence = e.sequence;
	END LOOP;
END $$`

// tamper does what only a superuser who switches the triggers off can.
func tamper(t *testing.T, pool *pgxpool.Pool, statements ...string) {
	t.Helper()
	conn := superuser(t, pool)
	for _, sql := range append([]string{
		`ALTER TABLE audit_events DISABLE TRIGGER USER`, `ALTER TABLE audit_checkpoints DISABLE TRIGGER USER`,
	}, statements...) {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

// The SQL that makes hashes anew is right: on a chain that was not altered it changes
// nothing. Whoever reads the documentation can do it.
func TestVerify_AgreesWithHashesThatAreMadeInSQL(t *testing.T) {
	pool := newPool(t)
	store(t, pool, happened("a", 20))
	checkpointed(t, pool)
	before, err := Head(t.Context(), pool)
	if err != nil {
		t.Fatal(err)
	}
	tamper(t, pool, chainAnew)
	if after, err := Head(t.Context(), pool); err != nil || after != before {
		t.Errorf("the end of the chain is %v, %v", after, err)
	}
	untouched(t, pool, 20)
}

func TestVerify_FindsByACheckpointWhatWasChainedAnew(t *testing.T) {
	for name, c := range map[string]struct {
		sql         string
		kind        proof.Kind
		contradicts int64
	}{
		"changed": {`UPDATE audit_events SET actor = 'mallory' WHERE sequence = 3`, proof.Rewritten, 10},
		"removed": {`DELETE FROM audit_events WHERE sequence = 12;
			UPDATE audit_events SET sequence = sequence - 1 WHERE sequence IN (SELECT sequence FROM audit_events WHERE sequence > 12 ORDER BY sequence)`, proof.Truncated, 20},
		"put in": {`UPDATE audit_events SET sequence = -sequence WHERE sequence > 4; UPDATE audit_events SET sequence = 1 - sequence WHERE sequence < 0;
			INSERT INTO audit_events SELECT 5, 'ae-forged', actor, actor_type, action, resource_type, resource_id, details, happened_at, hash
			FROM audit_events WHERE sequence = 4`, proof.Rewritten, 10},
		"cut off behind the last checkpoint but one": {`DELETE FROM audit_events WHERE sequence > 15`, proof.Truncated, 20},
		"cut off":          {`DELETE FROM audit_events WHERE sequence > 5`, proof.Truncated, 10},
		"cut off entirely": {`DELETE FROM audit_events`, proof.Truncated, 10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := newPool(t)
			for i := range 2 {
				store(t, pool, happened(fmt.Sprint(i), 10))
				checkpointed(t, pool)
			}
			tamper(t, pool, `ALTER TABLE audit_events DROP CONSTRAINT audit_events_sequence_check`)
			tamper(t, pool, append(strings.Split(c.sql, ";"), chainAnew)...)
			_, err := Verify(t.Context(), pool, new(proof.Verifier))
			f, ok := errors.AsType[*proof.Finding](err)
			if !ok || f.Kind != c.kind || f.Contradicts == nil || f.Contradicts.Sequence != c.contradicts {
				t.Errorf("found is %v", err)
			}
		})
	}
}

func TestVerify_FindsACheckpointThatWasForged(t *testing.T) {
	pool := newPool(t)
	store(t, pool, happened("a", 5))
	checkpointed(t, pool)
	tamper(t, pool, `UPDATE audit_events SET actor = 'mallory'`, chainAnew, `UPDATE audit_checkpoints SET hash = (SELECT hash FROM audit_events WHERE sequence = 5)`)
	// Without the key the forged checkpoint fits.
	if _, err := Verify(t.Context(), pool, new(proof.Verifier)); err != nil {
		t.Fatal(err)
	}
	public, _, err := Key(t.Context(), pool)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Verify(t.Context(), pool, &proof.Verifier{Key: public})
	if f, ok := errors.AsType[*proof.Finding](err); !ok || f.Kind != proof.Forged {
		t.Errorf("found is %v", err)
	}
}

func TestCheckpoints_AreListedNewestFirstAndReadOldestFirst(t *testing.T) {
	pool := newPool(t)
	for i := range 5 {
		store(t, pool, happened(fmt.Sprint(i), 2))
		checkpointed(t, pool)
	}
	places := func(some []chain.Checkpoint) (out []int64) {
		for i := range some {
			out = append(out, some[i].Sequence)
		}
		return out
	}
	some, err := ListCheckpoints(t.Context(), pool, 0, 2, 1)
	if got := places(some); err != nil || fmt.Sprint(got) != "[8 6]" {
		t.Errorf("listed are %v, %v", got, err)
	}
	some, err = ListCheckpoints(t.Context(), pool, 6, 9, 0)
	if got := places(some); err != nil || fmt.Sprint(got) != "[4 2]" {
		t.Errorf("listed are %v, %v", got, err)
	}
	var all []chain.Checkpoint
	for c, err := range Checkpoints(t.Context(), pool, 8) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	if got := places(all); fmt.Sprint(got) != "[2 4 6 8]" {
		t.Errorf("read are %v", got)
	}
	if n, err := CountCheckpoints(t.Context(), pool); n != 5 || err != nil {
		t.Errorf("counted are %d, %v", n, err)
	}
}
