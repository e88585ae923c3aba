package apikey

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/testkit/natstest"
	"github.com/certctl/certctl/libs/testkit/pgtest"
	"github.com/certctl/certctl/migrations"
)

func TestMain(m *testing.M) { os.Exit(pgtest.M{M: m}.Run()) }

func newStore(t *testing.T) (*Store, *pgxpool.Pool, *clock.Manual) {
	pool := pgtest.New(t, migrations.FS("gateway"), "gateway")
	c := clock.At(time.Now())
	return NewStore(pool, c), pool, c
}

// root may do everything; it stands for the first admin.
func root() authn.Principal {
	return authn.Principal{ID: "key-root", Name: "root", Kind: authn.KindUser, Roles: []string{"admin"}}
}

func (s *Store) mustCreate(t *testing.T, k Key) (Key, string) {
	t.Helper()
	made, secret, err := s.Create(t.Context(), root(), k)
	if err != nil {
		t.Fatal(err)
	}
	return made, secret
}

func (s *Store) mustKnow(t *testing.T, secret string) authn.Principal {
	t.Helper()
	p, err := s.Recognise(t.Context(), secret)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (s *Store) mustRefuse(t *testing.T, secret string) {
	t.Helper()
	if p, err := s.Recognise(t.Context(), secret); fault.CodeOf(err) != fault.Unauthenticated {
		t.Errorf("got %+v, %v", p, err)
	}
}

func TestRecognise_KnowsAKeyByItsHashAlone(t *testing.T) {
	s, pool, _ := newStore(t)
	scope := authn.Scope{Teams: []string{"t-a"}, Issuers: []string{}}
	k, secret := s.mustCreate(t, Key{Name: "ci", Roles: []string{"operator"}, Scope: scope})
	p := s.mustKnow(t, secret)
	if p.ID != k.ID || p.Name != "ci" || !p.HasRole("operator") || p.Kind != authn.KindUser {
		t.Errorf("got %+v", p)
	}
	if p.Scope.Teams[0] != "t-a" || p.Scope.Issuers == nil || p.Scope.Profiles != nil {
		t.Errorf("its scope is %+v", p.Scope)
	}
	s.mustRefuse(t, secret+"x")
	s.mustRefuse(t, secret[len(authn.KeyPrefix):])
	s.mustRefuse(t, "")
	if !s.Mine(secret) || s.Mine("eyJhbGciOiJub25lIn0.e30.") {
		t.Error("it does not know its own")
	}
	var leaked bool
	if err := pool.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM api_keys k WHERE k::text LIKE '%' || $1 || '%')
OR EXISTS (SELECT FROM outbox o WHERE convert_from(o.body, 'UTF8') || o.headers::text LIKE '%' || $1 || '%')`, secret).Scan(&leaked); err != nil || leaked {
		t.Errorf("the key itself is stored: %v, %v", leaked, err)
	}
	if k.Prefix != secret[:12] {
		t.Errorf("it is shown as %q", k.Prefix)
	}
}

func TestRecognise_ForgetsWithinASecondWhatItIsNotToldOf(t *testing.T) {
	for name, end := range map[string]string{
		"revoked": `UPDATE api_keys SET revoked_at = now()`,
		"expired": `UPDATE api_keys SET expires_at = now() - interval '1 second'`,
	} {
		t.Run(name, func(t *testing.T) {
			s, pool, c := newStore(t)
			_, secret := s.mustCreate(t, Key{Name: "x", Roles: []string{"viewer"}})
			s.mustKnow(t, secret)
			if _, err := pool.Exec(t.Context(), end); err != nil {
				t.Fatal(err)
			}
			c.Advance(remembered)
			s.mustRefuse(t, secret)
		})
	}
}

// TestRevoke_IsFeltByEveryReplica has a clock that stands still, so that nothing is
// forgotten by itself.
func TestRevoke_IsFeltByEveryReplica(t *testing.T) {
	s, pool, c := newStore(t)
	server := natstest.Start(t)
	here, there := server.Connect(bus.Options{Name: "here"}), server.Connect(bus.Options{Name: "there"})
	other := NewStore(pool, c)
	log := slog.New(slog.DiscardHandler)
	if err := s.Share(here.NC, log); err != nil {
		t.Fatal(err)
	}
	if err := other.Share(there.NC, log); err != nil {
		t.Fatal(err)
	}
	if err := there.NC.Flush(); err != nil {
		t.Fatal(err)
	}
	k, secret := s.mustCreate(t, Key{Name: "x", Roles: []string{"viewer"}})
	s.mustKnow(t, secret)
	other.mustKnow(t, secret)
	if err := s.Revoke(t.Context(), root(), k.ID); err != nil {
		t.Fatal(err)
	}
	s.mustRefuse(t, secret)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		if _, err := other.Recognise(ctx, secret); fault.CodeOf(err) == fault.Unauthenticated {
			return
		}
		if ctx.Err() != nil {
			t.Fatal("the other replica still knows it")
		}
	}
}

// TestRecognise_DoesNotRememberWhatChangedWhileItLooked: what was read before a revocation
// must not be kept after it.
func TestRecognise_DoesNotRememberWhatChangedWhileItLooked(t *testing.T) {
	s, pool, _ := newStore(t)
	_, secret := s.mustCreate(t, Key{Name: "x", Roles: []string{"viewer"}})
	holding, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// The look-up waits for the table, and so is under way when the change is told.
	if _, err := holding.Exec(t.Context(), `LOCK TABLE api_keys IN ACCESS EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	found := make(chan error, 1)
	go func() {
		_, err := s.Recognise(t.Context(), secret)
		found <- err
	}()
	waiting := func() (n int) {
		if err := holding.QueryRow(t.Context(), `SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
WHERE c.relname = 'api_keys' AND NOT l.granted`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	for waiting() == 0 {
		select {
		case err := <-found:
			t.Fatalf("it did not wait: %v", err)
		default:
		}
	}
	s.forget("any")
	if err := holding.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-found; err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.cache) != 0 {
		t.Error("it is remembered")
	}
}

func TestWriteUses_NotesEachKeyAtMostOnceAMinuteAndLosesNone(t *testing.T) {
	s, _, c := newStore(t)
	k, secret := s.mustCreate(t, Key{Name: "x", Roles: []string{"viewer"}})
	idle, _ := s.mustCreate(t, Key{Name: "idle", Roles: []string{"viewer"}})
	last := func(id string) *time.Time {
		t.Helper()
		if err := s.WriteUses(t.Context()); err != nil {
			t.Fatal(err)
		}
		k, err := s.Get(t.Context(), root(), id)
		if err != nil {
			t.Fatal(err)
		}
		return k.LastUsedAt
	}
	first := c.Now()
	s.mustKnow(t, secret)
	if at := last(k.ID); at == nil || !at.Equal(first) {
		t.Errorf("used at %v, want %v", at, first)
	}
	c.Advance(59 * time.Second)
	s.mustKnow(t, secret)
	if at := last(k.ID); !at.Equal(first) {
		t.Errorf("written again after 59 s: %v", at)
	}
	c.Advance(time.Second)
	s.mustKnow(t, secret)
	if at := last(k.ID); !at.Equal(c.Now()) {
		t.Errorf("not written after a minute: %v", at)
	}
	// What cannot be written is kept for the next time.
	second := c.Advance(time.Hour)
	s.mustKnow(t, secret)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.WriteUses(gone); err == nil {
		t.Error("written without a database")
	}
	if at := last(k.ID); !at.Equal(second) {
		t.Errorf("lost: %v", at)
	}
	if at := last(idle.ID); at != nil {
		t.Errorf("a key that nobody used was used at %v", at)
	}
	after, err := s.Get(t.Context(), root(), k.ID)
	if err != nil || after.Revision != k.Revision {
		t.Errorf("a use changes the revision: %d, %v", after.Revision, err)
	}
}

func TestFirst_MakesOneKeyForItsOwnerOnly(t *testing.T) {
	s, _, _ := newStore(t)
	file := filepath.Join(t.TempDir(), "admin.key")
	if made, err := s.First(t.Context(), file); err != nil || !made {
		t.Fatal(made, err)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info.Mode(), err)
	}
	if p := s.mustKnow(t, keyIn(t, file)); p.ID != FirstID || !p.HasRole("admin") {
		t.Errorf("it is %+v", p)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if made, err := s.First(t.Context(), file); err != nil || made {
		t.Errorf("a second start made another key: %v, %v", made, err)
	}
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Error("a second start wrote a file")
	}
}

func keyIn(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
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
	if made, err := s.First(t.Context(), file); err != nil || !made {
		t.Fatal(made, err)
	}
	s.mustKnow(t, key)
}

func TestFirst_OpensTheDoorAgainWhenEveryAdminKeyHasExpired(t *testing.T) {
	s, pool, c := newStore(t)
	file := filepath.Join(t.TempDir(), "admin.key")
	if _, err := s.First(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	old := keyIn(t, file)
	if _, err := pool.Exec(t.Context(), `UPDATE api_keys SET expires_at = $1`, c.Now()); err != nil {
		t.Fatal(err)
	}
	if made, err := s.First(t.Context(), file); err != nil || !made {
		t.Fatal(made, err)
	}
	fresh := keyIn(t, file)
	if p := s.mustKnow(t, fresh); fresh == old || p.ID == FirstID {
		t.Errorf("the expired key came back to life: %+v", p)
	}
	s.mustRefuse(t, old)
}

func TestFirst_LetsOneOfTheGatewaysThatStartAtOnceMakeTheKey(t *testing.T) {
	s, pool, c := newStore(t)
	dir := t.TempDir()
	made := make(chan bool)
	const replicas = 4
	for i := range replicas {
		go func() {
			ok, err := NewStore(pool, c).First(t.Context(), filepath.Join(dir, string(rune('a'+i))))
			if err != nil {
				t.Error(err)
			}
			made <- ok
		}()
	}
	n := 0
	for range replicas {
		if <-made {
			n++
		}
	}
	if _, total, err := s.List(t.Context(), root(), Asked{Size: 10}); n != 1 || err != nil || total != 1 {
		t.Errorf("%d made a key, %d are there, %v", n, total, err)
	}
}
