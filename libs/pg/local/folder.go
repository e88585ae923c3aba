package local

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// folderLock keeps other launchers out. The kernel frees it with the process that holds it.
type folderLock struct {
	once sync.Once
	file *os.File
}

func lockFolder(path string) (*folderLock, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock folder for Postgres: %w", err)
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		holder, _ := os.ReadFile(path)
		_ = file.Close()
		return nil, fmt.Errorf("%w: %s is held by process %s", ErrInUse, filepath.Dir(path), strings.TrimSpace(string(holder)))
	}
	if err == nil {
		err = writePID(file)
	}
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("lock folder for Postgres: %w", err)
	}
	return &folderLock{file: file}, nil
}

func writePID(file *os.File) error {
	if err := file.Truncate(0); err != nil {
		return err
	}
	_, err := file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

func (l *folderLock) release() {
	l.once.Do(func() { _ = l.file.Close() })
}

// The kernel's limit for a socket's path is 108 bytes on Linux and 104 elsewhere, with the file's name and a NUL.
const maxSocketDir = 104 - len("/.s.PGSQL.65535") - 1

// socketDir returns the folder for the socket: within root, or when that is too long a path, a short one of the same
// meaning among the temporary files.
func socketDir(root string) string {
	dir := filepath.Join(root, "run")
	if len(dir) <= maxSocketDir {
		return dir
	}
	sum := sha256.Sum256([]byte(root))
	return filepath.Join("/tmp", "certctl-pg-"+hex.EncodeToString(sum[:6]))
}
