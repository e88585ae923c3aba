package collector

import (
	"bufio"
	"io/fs"
	"strconv"
	"strings"
)

// Memory is how many bytes this process may use as its system says, zero if that is not known: what the machine has, or
// the limit of its control group, where that is less. The root is that of the file system.
func Memory(root fs.FS) uint64 {
	var has uint64
	if f, err := root.Open("proc/meminfo"); err == nil {
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan() && has == 0; {
			if rest, ok := strings.CutPrefix(lines.Text(), "MemTotal:"); ok {
				kib, _ := strconv.ParseUint(strings.Fields(rest + " 0")[0], 10, 64)
				has = kib << 10
			}
		}
	}
	text, err := fs.ReadFile(root, "sys/fs/cgroup/memory.max")
	if err != nil {
		return has
	}
	// The word max says that there is none.
	if limit, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64); err == nil && (has == 0 || limit < has) {
		return limit
	}
	return has
}
