package postgres_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/issuer/internal/blockedkey"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
	"github.com/certctl/certctl/services/issuer/internal/postgres"
	"github.com/certctl/certctl/services/issuer/internal/regulation"
)

// Whoever revokes a certificate for keyCompromise blocks its key in the same transaction.
func TestBlockKey_IsDoneOrUndoneWithTheTransactionItIsPartOf(t *testing.T) {
	e := newEngine(t)
	keys := regulation.NewKeys(e.store, e.service.Blocked(), e.clock)
	hash, _ := blockedkey.ParseHash(strings.Repeat("ab", 32))
	k, f := keys.Blocking(hash, blockedkey.Compromised, "certificate mc-1 was revoked", issuance.Origin{Actor: "key-1"})
	away := errors.New("the rest of it failed")
	for _, want := range []struct {
		err   error
		added bool
		told  int
	}{{away, true, 0}, {nil, true, 1}, {nil, false, 1}} {
		var added bool
		err := pg.InTx(t.Context(), e.pool, func(tx pgx.Tx) (err error) {
			if added, err = postgres.In(tx).BlockKey(t.Context(), k, f); err != nil {
				return err
			}
			return want.err
		})
		if !errors.Is(err, want.err) || added != want.added || e.told(event.Type(event.BlockedKeyChanged{})) != want.told {
			t.Fatalf("added %v, %v, told %d times", added, err, e.told(event.Type(event.BlockedKeyChanged{})))
		}
	}
	keys.Blocked()
	got, err := e.store.BlockedKey(t.Context(), hash)
	if err != nil || got.Reason != blockedkey.Compromised || got.By != "key-1" {
		t.Errorf("blocked %+v, %v", got, err)
	}
	set, _, err := e.store.BlockedKeys(t.Context())
	if err != nil || len(set) != 1 || set[hash] != blockedkey.Compromised {
		t.Errorf("the set is %v, %v", set, err)
	}
}
