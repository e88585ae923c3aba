package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// ErrUnreachable means that the unprivileged user that runs the server cannot get to a folder.
var ErrUnreachable = errors.New("folder is out of reach")

// identity is who the server runs as. A nil identity is this process's own.
type identity struct {
	name     string
	uid, gid uint32
}

// chooseIdentity returns whom to become: nobody in particular, unless this process is root, which Postgres refuses to
// run as. Data that are there already stay with their owner, whatever users the machine has got since.
func chooseIdentity(want, data string) (*identity, error) {
	owner, exists := ownerOf(data)
	me := os.Geteuid()
	if me != 0 {
		if exists && owner != me {
			return nil, fmt.Errorf("the data in %s belong to user id %d, and this process is %d", data, owner, me)
		}
		return nil, nil
	}
	if want == "" && exists && owner != 0 {
		if u, err := user.LookupId(strconv.Itoa(owner)); err == nil {
			return identityOf(u)
		}
	}
	names := []string{"postgres", "nobody"}
	if want != "" {
		names = []string{want}
	}
	for _, name := range names {
		if u, err := user.Lookup(name); err == nil {
			return identityOf(u)
		}
	}
	return nil, fmt.Errorf("no unprivileged user to run Postgres as: none of %v exists", names)
}

func identityOf(u *user.User) (*identity, error) {
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	if uid == 0 {
		return nil, fmt.Errorf("postgres cannot run as %s", u.Username)
	}
	return &identity{name: u.Username, uid: uint32(uid), gid: uint32(gid)}, nil
}

func ownerOf(path string) (uid int, exists bool) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(stat.Uid), true
}

// mustReach returns ErrUnreachable if a folder on the way to path does not let the identity through.
func (id *identity) mustReach(path string) error {
	if id == nil {
		return nil
	}
	for at := path; ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		if err != nil {
			return err
		}
		if info.IsDir() && !id.passes(info) {
			return fmt.Errorf("%w: user %s, who runs Postgres for root, cannot enter %s (%s): use a folder elsewhere",
				ErrUnreachable, id.name, at, info.Mode().Perm())
		}
		if at == filepath.Dir(at) {
			return nil
		}
	}
}

func (id *identity) passes(info fs.FileInfo) bool {
	mode, stat := info.Mode().Perm(), info.Sys().(*syscall.Stat_t)
	switch {
	case stat.Uid == id.uid:
		return mode&0o100 != 0
	case stat.Gid == id.gid:
		return mode&0o010 != 0
	default:
		return mode&0o001 != 0
	}
}

// bringNear returns binaries that the identity can run: the ones given, or a copy of them in root.
func (id *identity) bringNear(bin Binaries, root string) (Binaries, error) {
	real, err := filepath.EvalSymlinks(bin.Dir)
	if err != nil {
		return bin, err
	}
	if !errors.Is(id.mustReach(real), ErrUnreachable) {
		return bin, nil
	}
	near := filepath.Join(root, fmt.Sprintf("postgres-%d", bin.Major))
	moved := Binaries{Dir: filepath.Join(near, "bin"), Major: bin.Major}
	if _, err := os.Stat(near); err == nil {
		return moved, nil
	}
	// Complete or absent: a copy that was interrupted must not be taken for one.
	partial := near + ".partial"
	if err := os.RemoveAll(partial); err != nil {
		return bin, err
	}
	if err := os.CopyFS(partial, os.DirFS(filepath.Dir(real))); err != nil {
		return bin, fmt.Errorf("copy Postgres to where user %s can run it: %w", id.name, err)
	}
	return moved, os.Rename(partial, near)
}

// makeFolder makes a folder for the server alone.
func (id *identity) makeFolder(path string) error {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	owner := int(info.Sys().(*syscall.Stat_t).Uid)
	if !info.IsDir() || owner != os.Geteuid() && (id == nil || owner != int(id.uid)) {
		return fmt.Errorf("%s is not ours", path)
	}
	return id.own(path)
}

func (id *identity) own(path string) error {
	if id == nil {
		return nil
	}
	return os.Lchown(path, int(id.uid), int(id.gid))
}

// ownAll hands over a tree that came back from elsewhere, a backup for example, as root's.
func (id *identity) ownAll(path string) error {
	if owner, exists := ownerOf(path); id == nil || !exists || owner == int(id.uid) {
		return nil
	}
	return filepath.WalkDir(path, func(at string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return id.own(at)
	})
}
