// Package e2e tells stories of the whole system, each file named for what a person sees
// happen. Only real processes take part, reached over HTTP, TLS, the bus and the command
// line.
package e2e

import (
	"os"
	"testing"

	"github.com/certctl/certctl/e2e/internal/rig"
)

func TestMain(m *testing.M) { os.Exit(rig.Main(m)) }
