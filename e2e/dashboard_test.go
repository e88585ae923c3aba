package e2e

import (
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/certctl/certctl/e2e/internal/rig"
)

// TestDashboard_IsUsedInABrowser has the dashboard's own stories told, of which each asserts what a person sees.
func TestDashboard_IsUsedInABrowser(t *testing.T) {
	t.Parallel()
	in := rig.Up(t, rig.Dir(t), "CERTCTL_LOG_LEVEL=warn")
	stories := exec.CommandContext(t.Context(), "npm", "run", "--prefix", "../web", "--silent", "stories")
	stories.Env = append(os.Environ(), "CERTCTL_SERVER_URL="+in.URL, "CERTCTL_API_KEY="+in.Key)
	if out, err := stories.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestDashboard_HoldsNoKeyAndIsServedToAnybody: what the pages show is asked of the API.
func TestDashboard_HoldsNoKeyAndIsServedToAnybody(t *testing.T) {
	t.Parallel()
	in := rig.Up(t, rig.Dir(t), "CERTCTL_LOG_LEVEL=warn")
	browser := &http.Client{Timeout: rig.Patience}
	for path, want := range map[string]int{"/": http.StatusOK, "/issuers": http.StatusOK, "/nothing.php": http.StatusNotFound} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, in.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept", "text/html")
		answer, err := browser.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if err != nil || answer.StatusCode != want || strings.Contains(string(body), in.Key) {
			t.Errorf("%s: %d, error %v", path, answer.StatusCode, err)
		}
		if want == http.StatusOK && !strings.Contains(answer.Header.Get("Content-Security-Policy"), "default-src 'self'") {
			t.Errorf("%s: policy %q", path, answer.Header.Get("Content-Security-Policy"))
		}
	}
}
