package install

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/certctl/certctl/services/agent/internal/target"
)

// maxExisting is more than any certificate or key; a larger file is something else.
const maxExisting = 1 << 20

// kernel holds files that are no files.
var kernel = []string{"/proc", "/sys", "/dev"}

// Places says where files may be installed.
type Places struct {
	// Roots are the folders that files may be under, at any depth. None means anywhere.
	Roots []string
	// Private are the agent's own folders; nothing is installed under them.
	Private []string
}

// place is one resolved place of a file. Its folder is held open, so that a folder
// that is swapped for a link meanwhile does not lead anywhere else.
type place struct {
	dir  *os.Root
	path string // resolved, for people and for the manifest
	base string
}

// Read returns what is installed at a path, or nothing.
func (p Places) Read(path string) []byte {
	at, err := p.locate(path)
	if err != nil {
		return nil
	}
	defer at.dir.Close()
	text, _ := at.read()
	return text
}

// locate follows the links in a path and checks where they end. What is there must be
// absent, empty or PEM: a target's configuration can then never destroy another file,
// whatever it names.
func (p Places) locate(path string) (*place, error) {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path {
		return nil, target.Refuse("the path %q is not absolute and clean", path)
	}
	resolved, err := resolve(path)
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(append(kernel, p.Private...), func(dir string) bool { return under(dir, resolved) }) {
		return nil, target.Refuse("nothing is installed under %s", filepath.Dir(resolved))
	}
	if len(p.Roots) > 0 && !slices.ContainsFunc(p.Roots, func(root string) bool { return under(root, resolved) }) {
		return nil, target.Refuse("%s is outside the folders of CERTCTL_AGENT_ALLOWED_PATHS (%s)", resolved, strings.Join(p.Roots, ", "))
	}
	dir, err := os.OpenRoot(filepath.Dir(resolved))
	if err != nil {
		return nil, fmt.Errorf("open folder: %w", err)
	}
	at := &place{dir: dir, path: resolved, base: filepath.Base(resolved)}
	if err := at.checkExisting(); err != nil {
		dir.Close()
		return nil, err
	}
	return at, nil
}

// resolve follows links in the folder, and the file itself if it is a link.
func resolve(path string) (string, error) {
	resolved, err := filepath.EvalSymlinks(path)
	if err == nil {
		return resolved, nil
	}
	if info, statErr := os.Lstat(path); statErr == nil && info.Mode()&fs.ModeSymlink != 0 {
		return "", target.Refuse("%s is a link to nothing", path)
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err != nil {
		return "", target.Refuse("the folder of %s: %w", path, err)
	}
	return filepath.Join(dir, filepath.Base(path)), nil
}

// under reports whether path lies below dir, both resolved as far as they exist.
func under(dir, path string) bool {
	if resolved, err := filepath.EvalSymlinks(dir); err == nil {
		dir = resolved
	}
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != "." && rel != ".." && !strings.HasPrefix(rel, "../")
}

func (p *place) checkExisting() error {
	info, err := p.dir.Lstat(p.base)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at %s: %w", p.path, err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxExisting {
		return target.Refuse("%s is not a file of a certificate or a key", p.path)
	}
	text, err := p.dir.ReadFile(p.base)
	if err != nil {
		return fmt.Errorf("look at %s: %w", p.path, err)
	}
	if block, _ := pem.Decode(text); block == nil && len(bytes.TrimSpace(text)) > 0 {
		return target.Refuse("%s holds something else than a certificate or a key, and is not replaced", p.path)
	}
	return nil
}

func (p *place) exists() (bool, error) {
	_, err := p.dir.Lstat(p.base)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// read returns the content that is there, and whether there is any.
func (p *place) read() ([]byte, bool) {
	text, err := p.dir.ReadFile(p.base)
	return text, err == nil
}

// remove deletes a name in the folder, if it is there.
func (p *place) remove(name string) error {
	err := p.dir.Remove(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// sync makes the names in the folder durable.
func (p *place) sync() error {
	d, err := p.dir.Open(".")
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
