//go:build unix && !linux

package local

import "syscall"

// attributes make a child that runs as the identity, in a process group of its own so that an interrupt typed at the
// terminal reaches only us. These systems have no signal on the death of a parent: a server that outlives us is
// stopped by the next Start.
func attributes(as *identity, _ syscall.Signal) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true}
	if as != nil {
		attr.Credential = &syscall.Credential{Uid: as.uid, Gid: as.gid}
	}
	return attr
}

// serversIn returns the postmaster if it is alive. Where processes cannot be told apart by their folder, its id is
// trusted.
func serversIn(_ string, postmaster int) []int {
	if postmaster <= 0 || syscall.Kill(postmaster, 0) != nil {
		return nil
	}
	return []int{postmaster}
}
