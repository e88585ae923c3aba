package install

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// entry is one file of an installation under way. The names of what is staged and of
// what is kept lie beside the file itself, since only within one folder is a rename
// atomic.
type entry struct {
	*place
	file File
	was  record
}

// record is what the manifest remembers of a file.
type record struct {
	// Path is resolved.
	Path string `json:"path"`
	// Existed tells whether there is something to put back.
	Existed bool `json:"existed"`
	// Sum and Old are the SHA-256 of the new content and of what was there.
	Sum string `json:"sum"`
	Old string `json:"old,omitempty"`
}

func (e *entry) staged(tag string) string { return "." + e.base + ".certctl-" + tag + ".new" }
func (e *entry) kept(tag string) string   { return "." + e.base + ".certctl-" + tag + ".old" }

// stage writes the new content beside the old, with the owner and the mode that the
// old one has, and syncs it. All that can fail for want of space fails here.
func (e *entry) stage(tag string) error {
	mode := fs.FileMode(0o644)
	if e.file.Secret {
		mode = 0o600
	}
	old, err := e.dir.Lstat(e.base)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		old = nil
	case err != nil:
		return fmt.Errorf("look at %s: %w", e.path, err)
	default:
		if mode = old.Mode().Perm(); e.file.Secret {
			mode &^= 0o007
		}
	}
	if err := e.put(e.staged(tag), e.file.Data, mode, old); err != nil {
		return fmt.Errorf("write beside %s: %w", e.path, err)
	}
	return nil
}

// keep gives what is there a second name, by which it can be put back without any
// space on the disk. Where a file cannot have two names, a copy is made.
func (e *entry) keep(tag string) error {
	if !e.was.Existed {
		return nil
	}
	if e.dir.Link(e.base, e.kept(tag)) == nil {
		return nil
	}
	old, err := e.dir.Lstat(e.base)
	if err != nil {
		return fmt.Errorf("keep %s: %w", e.path, err)
	}
	text, err := e.dir.ReadFile(e.base)
	if err == nil {
		err = e.put(e.kept(tag), text, old.Mode().Perm(), old)
	}
	if err != nil {
		return fmt.Errorf("keep %s: %w", e.path, err)
	}
	return nil
}

// put writes a new file, whole and synced. It belongs to the owner of another file,
// if one is given.
func (e *entry) put(name string, data []byte, mode fs.FileMode, like fs.FileInfo) error {
	f, err := e.dir.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil && like != nil {
		err = keepOwner(f, like)
	}
	if err == nil {
		// After the owner, since a change of owner may clear bits of the mode.
		err = errors.Join(f.Chmod(mode), f.Sync())
	}
	return errors.Join(err, f.Close())
}

func keepOwner(f *os.File, like fs.FileInfo) error {
	made, err := f.Stat()
	if err != nil {
		return err
	}
	want, ok := like.Sys().(*syscall.Stat_t)
	have, okToo := made.Sys().(*syscall.Stat_t)
	if !ok || !okToo || want.Uid == have.Uid && want.Gid == have.Gid {
		return nil
	}
	return f.Chown(int(want.Uid), int(want.Gid))
}

// foreign reports whether somebody else has replaced the file since: an installation
// that is taken up late must not undo a newer one.
func (e *entry) foreign() bool {
	text, ok := e.read()
	if !ok {
		return false
	}
	now := sum(text)
	return now != e.was.Sum && now != e.was.Old
}

// commit puts the new content in place; once that is done it does nothing.
func (e *entry) commit(tag string) error {
	if e.foreign() {
		return fmt.Errorf("%s was replaced by somebody else meanwhile", e.path)
	}
	err := e.dir.Rename(e.staged(tag), e.base)
	if errors.Is(err, fs.ErrNotExist) {
		if text, ok := e.read(); ok && sum(text) == e.was.Sum {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("put %s in place: %w", e.path, err)
	}
	return nil
}

// restore puts back what was there; once that is done it does nothing.
func (e *entry) restore(tag string) error {
	switch text, ok := e.read(); {
	case e.foreign():
	case e.was.Existed:
		if err := e.dir.Rename(e.kept(tag), e.base); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("put back %s: %w", e.path, err)
		}
	case ok && sum(text) == e.was.Sum:
		if err := e.remove(e.base); err != nil {
			return fmt.Errorf("remove %s again: %w", e.path, err)
		}
	}
	return e.clear(tag)
}

// clear deletes the names beside the file. The old one may still be there after
// restore: renaming one name of a file to another of the same file does nothing.
func (e *entry) clear(tag string) error {
	return errors.Join(e.remove(e.staged(tag)), e.remove(e.kept(tag)), e.sync())
}

func sum(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}
