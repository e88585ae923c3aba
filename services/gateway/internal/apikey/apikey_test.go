package apikey

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/testkit/pgtest"
	"github.com/certctl/certctl/migrations"
)

func TestMain(m *testing.M) { os.Exit(pgtest.M{M: m}.Run()) }

func newStore(t *testing.T) (*Store, *pgxpool.Pool, *clock.Manual) {
	pool := pgtest.New(t, migrations.FS("gateway"), "gateway")
	c := clock.At(time.Now())
	return NewStore(pool, c), pool, c
}

func TestRecognise_KnowsAKeyByItsHashAlone(t *testing.T) {
	s, pool, _ := newStore(t)
	key := authn.NewKey()
	if made, err := s.CreateFirst(t.Context(), "key-1", key, "admin"); err != nil || !made {
		t.Fatal(made, err)
	}
	p, err := s.Recognise(t.Context(), key)
	if err != nil || p.ID != "key-1" || !p.HasRole("admin") {
		t.Errorf("got %+v, %v", p, err)
	}
	if _, err := s.Recognise(t.Context(), key+"x"); fault.CodeOf(err) != fault.Unauthenticated {
		t.Errorf("another key gives %v", err)
	}
	var leaked bool
	if err := pool.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM api_keys k WHERE k::text LIKE '%' || $1 || '%')`, key).Scan(&leaked); err != nil || leaked {
		t.Errorf("the key itself is stored: %v, %v", leaked, err)
	}
}

func TestRecognise_ForgetsARevokedOrExpiredKeyWithinASecond(t *testing.T) {
	for name, end := range map[string]string{
		"revoked": `UPDATE api_keys SET revoked_at = now()`,
		"expired": `UPDATE api_keys SET expires_at = now() - interval '1 second'`,
	} {
		t.Run(name, func(t *testing.T) {
			s, pool, c := newStore(t)
			key := authn.NewKey()
			if _, err := s.CreateFirst(t.Context(), "key-1", key, "admin"); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Recognise(t.Context(), key); err != nil {
				t.Fatal(err)
			}
			if _, err := pool.Exec(t.Context(), end); err != nil {
				t.Fatal(err)
			}
			c.Advance(remembered)
			if _, err := s.Recognise(t.Context(), key); fault.CodeOf(err) != fault.Unauthenticated {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestFirst_MakesOneKeyForItsOwnerOnly(t *testing.T) {
	s, _, _ := newStore(t)
	file := filepath.Join(t.TempDir(), "admin.key")
	if made, err := s.First(t.Context(), file, "admin"); err != nil || !made {
		t.Fatal(made, err)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info.Mode(), err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recognise(t.Context(), strings.TrimSpace(string(text))); err != nil {
		t.Error(err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if made, err := s.First(t.Context(), file, "admin"); err != nil || made {
		t.Errorf("a second start made another key: %v, %v", made, err)
	}
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Error("a second start wrote a file")
	}
}

// TestFirst_MakesGoodAKeyThatWasWrittenBeforeACrash covers the moment between the file
// and the row.
func TestFirst_MakesGoodAKeyThatWasWrittenBeforeACrash(t *testing.T) {
	s, _, _ := newStore(t)
	file := filepath.Join(t.TempDir(), "admin.key")
	key := authn.NewKey()
	if err := os.WriteFile(file, []byte(key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if made, err := s.First(t.Context(), file, "admin"); err != nil || !made {
		t.Fatal(made, err)
	}
	if _, err := s.Recognise(t.Context(), key); err != nil {
		t.Error(err)
	}
}
