package pg_test

import (
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/pg"
)

func TestOpen_SetsWhatABusySharedServerNeeds(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	for setting, want := range map[string]string{
		"search_path": "shop", "statement_timeout": "30s", "idle_in_transaction_session_timeout": "1min",
		"lock_timeout": "10s", "application_name": "test", "TimeZone": "UTC",
	} {
		if got := query[string](t, pool, "SELECT current_setting('"+setting+"')"); got != want {
			t.Errorf("%s = %s, want %s", setting, got, want)
		}
	}
}

func TestOpen_KeepsItsConnections(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	var wait sync.WaitGroup
	for range 200 {
		wait.Go(func() {
			if _, err := pool.Exec(t.Context(), "SELECT pg_sleep(0.001)"); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if s := pool.Stat(); s.NewConnsCount() > int64(s.MaxConns()) {
		t.Errorf("%d connections were made for a pool of %d", s.NewConnsCount(), s.MaxConns())
	}
}

func TestOpen_ReturnsARefusalAtOnceAndWithoutThePassword(t *testing.T) {
	t.Parallel()
	wrong := pg.Schema{RuntimeRole: "postgres", RuntimePassword: "wrong-secret"}
	url, err := wrong.RuntimeURL(server(t).AdminURL, "postgres")
	must(t, err)
	began := time.Now()
	_, err = pg.Open(t.Context(), url, pg.Options{})
	if err == nil || time.Since(began) > 5*time.Second || strings.Contains(err.Error(), "wrong-secret") {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
	if _, err := pg.Open(t.Context(), "postgres://u:top-secret@[bad", pg.Options{}); err == nil || strings.Contains(err.Error(), "top-secret") {
		t.Errorf("got %v, want an error without the password", err)
	}
}

func TestOpen_WaitsOnlySoLongForAServerThatIsAway(t *testing.T) {
	t.Parallel()
	_, err := pg.Open(t.Context(), "postgres://u:p@127.0.0.1:1/x", pg.Options{ConnectTimeout: 100 * time.Millisecond})
	if fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("got %v, want unavailable", err)
	}
}

func TestPool_SurvivesTheDeathOfTheServerUnderLoad(t *testing.T) {
	c := ownCluster(t)
	pool, err := pg.Open(t.Context(), c.AdminURL(), pg.Options{AppName: "load"})
	must(t, err)
	defer pool.Close()
	stop := make(chan bool)
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				_, err := pool.Exec(t.Context(), "SELECT 1")
				if err := pg.Fault(err); err != nil && fault.CodeOf(err) != fault.Unavailable {
					t.Errorf("got %v, want unavailable", err)
					return
				}
			}
		})
	}
	for range 3 {
		killed := c.PID()
		must(t, syscall.Kill(killed, syscall.SIGKILL))
		eventually(t, "another server answers", func() bool {
			var restarted bool
			err := pool.QueryRow(t.Context(), "SELECT pg_postmaster_start_time() > now() - interval '1 minute'").Scan(&restarted)
			return err == nil && c.PID() != 0 && c.PID() != killed
		})
	}
	close(stop)
	wait.Wait()
}
