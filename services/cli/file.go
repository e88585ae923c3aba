package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// writeFile makes a file that its owner alone may read. One that is there is replaced only by force, in one step.
func writeFile(path string, content []byte, force bool) error {
	if !force {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, fs.ErrExist) {
			return isThere(path)
		}
		if err != nil {
			return err
		}
		return fill(f, content)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".certctl-*")
	if err != nil {
		return err
	}
	if err := fill(f, content); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return os.Rename(f.Name(), path)
}

// canWrite tells what would keep writeFile from it, as far as that can be told without writing. No path is no file.
func canWrite(path string, force bool) error {
	if path == "" {
		return nil
	}
	if _, err := os.Stat(filepath.Dir(path)); err != nil {
		return err
	}
	if _, err := os.Lstat(path); err == nil && !force {
		return isThere(path)
	}
	return nil
}

func isThere(path string) error { return fmt.Errorf("%s is there already; --force replaces it", path) }

// fill writes a file that was just made; its mode is 0600 already.
func fill(f *os.File, content []byte) error {
	_, err := f.Write(content)
	return errors.Join(err, f.Sync(), f.Close())
}
