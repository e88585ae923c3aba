package obs

// version is set by the build.
var version = "dev"

// Version is the version of this build.
func Version() string { return version }
