package e2e

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/certctl/certctl/e2e/internal/rig"
)

// TestDemo_TellsTheWholeStoryAndExitsWith0 runs the command that newcomers run first.
func TestDemo_TellsTheWholeStoryAndExitsWith0(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), rig.Binary("certctl"), "demo", "--once")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, line := range []string{
		"an agent enrols with a one-time token, through its leaf",
		"a second host with the same token was told",
		"the agent makes the key, the CA signs, NGINX reloads",
		"NGINX serves serial",
		"openssl verify -purpose sslserver",
		"were searched for it in vain",
		"OCSP says good",
		"none failed",
		"certificate_issued",
		"Done in",
	} {
		if !strings.Contains(string(out), line) {
			t.Errorf("the story does not say %q", line)
		}
	}
	if t.Failed() {
		t.Logf("%s", out)
	}
}

func TestDemo_SaysWhatItNeeds(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), rig.Binary("certctl"), "demo", "--once", "--agent", "/nowhere/certctl-agent").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "make build") {
		t.Errorf("%v: %s", err, out)
	}
}
