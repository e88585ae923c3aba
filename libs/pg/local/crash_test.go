package local_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/libs/pg/local"
)

func connectError(url string) (*pgx.Conn, error) { return pgx.Connect(context.Background(), url) }

// users are the ways to run a launcher that this process can try: as itself, and if that is root also as nobody.
func users() map[string]bool {
	if os.Geteuid() != 0 {
		return map[string]bool{"ordinary user": false}
	}
	return map[string]bool{"root": false, "ordinary user": true}
}

func TestServer_DiesWithItsLauncher(t *testing.T) {
	for name, asNobody := range users() {
		t.Run(name, func(t *testing.T) {
			dir := launcherFolder(t, asNobody)
			l := startLauncher(t, dir, asNobody)
			began := time.Now()
			l.kill()
			eventually(t, "the server ends", func() bool { return !alive(l.pid) })
			t.Logf("server gone %v after kill -9 of its launcher", time.Since(began))
		})
	}
}

func TestServer_KeepsWhatItAcknowledgedUnderRandomKills(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for name, asNobody := range users() {
		t.Run(name, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 0))
			dir := launcherFolder(t, asNobody)
			acknowledged := 0
			for round := range 6 {
				l := startLauncher(t, dir, asNobody)
				conn := connect(t, l.url)
				run(t, conn, "CREATE TABLE IF NOT EXISTS n (n int PRIMARY KEY)")
				if n := count(t, conn, "n"); n != acknowledged && n != acknowledged+1 {
					t.Fatalf("round %d: %d rows, acknowledged %d", round, n, acknowledged)
				}
				run(t, conn, fmt.Sprintf("DELETE FROM n WHERE n >= %d", acknowledged))
				victim := l.kill
				if random.IntN(2) == 0 {
					victim = func() { _ = syscall.Kill(l.pid, syscall.SIGKILL); l.kill() }
				}
				time.AfterFunc(time.Duration(random.IntN(150))*time.Millisecond, victim)
				for {
					if _, err := conn.Exec(t.Context(), "INSERT INTO n VALUES ($1)", acknowledged); err != nil {
						break
					}
					acknowledged++
				}
				l.kill()
			}
			t.Logf("%d acknowledged inserts over six kills", acknowledged)
			// The last of the servers may have been killed; another clears away its shared memory.
			start(t, local.Options{Dir: dir})
		})
	}
}

func TestCluster_ComesBackAfterItsServerIsKilled(t *testing.T) {
	c := start(t, local.Options{Dir: clusterFolder(t)})
	pool, err := pg.Open(t.Context(), c.AdminURL(), pg.Options{AppName: "test"})
	must(t, err)
	defer pool.Close()
	for range 2 {
		killed := c.PID()
		must(t, syscall.Kill(killed, syscall.SIGKILL))
		began := time.Now()
		var failures int
		eventually(t, "the same pool works again", func() bool {
			_, err := pool.Exec(t.Context(), "SELECT 1")
			if err != nil && fault.CodeOf(pg.Fault(err)) != fault.Unavailable {
				t.Fatalf("while away: %v, want it to be unavailable", err)
			}
			if err != nil {
				failures++
			}
			return err == nil && c.PID() != 0 && c.PID() != killed
		})
		t.Logf("back %v after kill -9, %d queries failed", time.Since(began), failures)
	}
}

func TestCluster_LeavesNoSharedMemory(t *testing.T) {
	c := start(t, local.Options{Dir: clusterFolder(t)})
	killed := c.PID()
	must(t, syscall.Kill(killed, syscall.SIGKILL))
	eventually(t, "another server answers", func() bool {
		if c.PID() == 0 || c.PID() == killed {
			return false
		}
		conn, err := connectError(c.AdminURL())
		if err == nil {
			_ = conn.Close(t.Context())
		}
		return err == nil
	})
	second := c.PID()
	must(t, c.Stop(t.Context()))
	for _, pid := range []int{killed, second} {
		if ids := sharedMemoryOf(t, pid); len(ids) > 0 {
			t.Errorf("server %d left the segments %v", pid, ids)
		}
	}
}

func TestStart_IgnoresThePidFileOfAnotherProcess(t *testing.T) {
	dir := clusterFolder(t)
	must(t, start(t, local.Options{Dir: dir}).Stop(t.Context()))
	data := filepath.Join(dir, "data")
	other := exec.CommandContext(t.Context(), "sleep", "60")
	other.SysProcAttr = &syscall.SysProcAttr{Credential: credentialOf(t, data)}
	must(t, other.Start())
	defer func() { _ = other.Process.Kill(); _ = other.Wait() }()
	writePIDFile(t, data, other.Process.Pid)

	start(t, local.Options{Dir: dir})
	if !alive(other.Process.Pid) {
		t.Error("the other process was ended")
	}
}

func TestStart_StopsAServerThatOutlivedItsLauncher(t *testing.T) {
	dir := clusterFolder(t)
	must(t, start(t, local.Options{Dir: dir}).Stop(t.Context()))
	data := filepath.Join(dir, "data")
	bin, err := local.Find(t.Context(), local.FindOptions{DataDir: data})
	must(t, err)
	orphan := exec.CommandContext(t.Context(), filepath.Join(bin.Dir, "postgres"), "-D", data, "-k", data, "-h", "")
	orphan.Dir = data
	orphan.SysProcAttr = &syscall.SysProcAttr{Credential: credentialOf(t, data), Setsid: true}
	must(t, orphan.Start())
	ended := make(chan error, 1)
	go func() { ended <- orphan.Wait() }()
	eventually(t, "the orphan is ready", func() bool {
		raw, _ := os.ReadFile(filepath.Join(data, "postmaster.pid"))
		return strings.Contains(string(raw), "ready")
	})

	began := time.Now()
	c := start(t, local.Options{Dir: dir})
	t.Logf("orphan replaced within %v", time.Since(began))
	<-ended
	connect(t, c.AdminURL())
}

// launcherFolder returns a folder with a cluster of the launcher's user.
func launcherFolder(t *testing.T, asNobody bool) string {
	t.Helper()
	dir := clusterFolder(t)
	if asNobody {
		must(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			return errors.Join(err, os.Lchown(path, nobody, nobody))
		}))
	}
	return dir
}

func credentialOf(t *testing.T, path string) *syscall.Credential {
	t.Helper()
	info, err := os.Stat(path)
	must(t, err)
	stat := info.Sys().(*syscall.Stat_t)
	return &syscall.Credential{Uid: stat.Uid, Gid: stat.Gid, NoSetGroups: os.Geteuid() != 0}
}

func writePIDFile(t *testing.T, data string, pid int) {
	t.Helper()
	path := filepath.Join(data, "postmaster.pid")
	must(t, os.WriteFile(path, fmt.Appendf(nil, "%d\n%s\n1\n5432\n\n\n", pid, data), 0o600))
	owner := credentialOf(t, data)
	must(t, os.Chown(path, int(owner.Uid), int(owner.Gid)))
}

// sharedMemoryOf returns the System V segments that a process created.
func sharedMemoryOf(t *testing.T, pid int) (ids []string) {
	t.Helper()
	raw, err := os.ReadFile("/proc/sysvipc/shm")
	must(t, err)
	for line := range strings.Lines(string(raw)) {
		const id, creator = 1, 4
		if f := strings.Fields(line); len(f) > creator && f[creator] == strconv.Itoa(pid) {
			ids = append(ids, f[id])
		}
	}
	return ids
}
