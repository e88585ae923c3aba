//go:build unix

package secret

import (
	"io/fs"
	"syscall"
)

// private applies Postgres's rule for key files, which is strict and still admits what Kubernetes mounts.
func private(info fs.FileInfo) bool {
	mode := info.Mode().Perm()
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid == 0 {
		return mode&0o037 == 0
	}
	return mode&0o077 == 0
}
