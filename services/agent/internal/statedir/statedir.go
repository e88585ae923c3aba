// Package statedir is the folder in which an agent keeps what must outlive it: its
// identity, the journal of its orders, and the reports it could not yet deliver.
//
// Exactly one agent works on a folder at a time. The lock is the kernel's, so it ends
// with the process, however the process ends. Everything in it is private (0700).
package statedir

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// ErrInUse says that another agent works on this folder.
var ErrInUse = errors.New("another agent is using it")

const lockFile = "lock"

// Dir is a locked state folder.
type Dir struct {
	path string
	lock *os.File
}

// Open makes the folder if there is none and locks it until Close.
func Open(path string) (*Dir, error) {
	if err := Private(path); err != nil {
		return nil, fmt.Errorf("state folder: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(path, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("state folder: %w", err)
	}
	err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = ErrInUse
	}
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("state folder %s: %w", path, err)
	}
	return &Dir{path: path, lock: lock}, nil
}

// Close gives the folder free.
func (d *Dir) Close() error { return d.lock.Close() }

// InUse reports whether an agent works on the folder at the moment.
func InUse(path string) bool {
	lock, err := os.Open(filepath.Join(path, lockFile))
	if err != nil {
		return false
	}
	defer lock.Close()
	return errors.Is(syscall.Flock(int(lock.Fd()), syscall.LOCK_SH|syscall.LOCK_NB), syscall.EWOULDBLOCK)
}

// Private makes a folder, and those above it, that only their owner can enter. One
// that is there already is closed to others.
func Private(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	return os.Chmod(path, info.Mode().Perm()&0o700)
}
