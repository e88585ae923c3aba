package local

import (
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// attributes make a child that runs as the identity, in a process group of its own so that an interrupt typed at the
// terminal reaches only us, and that gets a signal when we die.
func attributes(as *identity, onParentDeath syscall.Signal) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: onParentDeath}
	if as != nil {
		attr.Credential = &syscall.Credential{Uid: as.uid, Gid: as.gid}
	}
	return attr
}

// serversIn returns the ids of all server processes that work in the data folder; they keep it as their current one.
func serversIn(data string, _ int) []int {
	links, _ := filepath.Glob("/proc/[0-9]*/cwd")
	var pids []int
	for _, link := range links {
		if cwd, err := os.Readlink(link); err != nil || cwd != data {
			continue
		}
		process := filepath.Dir(link)
		comm, err := os.ReadFile(filepath.Join(process, "comm"))
		if err != nil || string(comm) != "postgres\n" {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(process)); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}
