// Package host says what machine this is.
package host

import (
	"cmp"
	"net"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/certctl/certctl/contracts/command"
)

// version is set by the build (-X); see Version.
var version string

// Version is the version of this program: what the build says, else the commit that
// the Go tool recorded, else "unknown".
func Version() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return s.Value[:12]
		}
	}
	return "unknown"
}

// Describe is what a heartbeat tells. Name is how people call the agent; empty is the
// host's name. Local is the address that the agent uses to reach its leaf, which may
// be empty or a loopback address.
func Describe(name, local string) command.Heartbeat {
	hostname, err := os.Hostname()
	if err != nil {
		hostname = "unknown"
	}
	return command.Heartbeat{
		Name:         cmp.Or(name, hostname),
		Hostname:     hostname,
		OS:           runtime.GOOS,
		Architecture: runtime.GOARCH,
		IPAddress:    address(local),
		Version:      Version(),
	}
}

// address is the one that others know this host by: where its own connection starts,
// or with a leaf on this host the first address that is not for the host alone.
func address(local string) string {
	if host, _, err := net.SplitHostPort(local); err == nil {
		local = host
	}
	if ip := net.ParseIP(local); ip != nil && !ip.IsLoopback() && !ip.IsUnspecified() {
		return ip.String()
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return local
	}
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			return n.IP.String()
		}
	}
	return local
}
