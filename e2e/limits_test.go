package e2e

import (
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certctl/certctl/e2e/internal/rig"
)

// TestLimits_HoldForAllGatewaysTogether has a key use up at one gateway what it may ask
// of all of them.
func TestLimits_HoldForAllGatewaysTogether(t *testing.T) {
	t.Parallel()
	// So slow that no call comes back while the story lasts.
	limits := []string{"CERTCTL_RATE_LIMIT_ENABLED=true", "CERTCTL_RATE_LIMIT_RPS=0.001", "CERTCTL_RATE_LIMIT_BURST=400", "CERTCTL_LOG_LEVEL=warn"}
	in := rig.Up(t, rig.Dir(t), limits...)
	address := rig.FreeAddress(t)
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	second := in.Apart("gateway", append(limits, "CERTCTL_SERVER_PORT="+port, "CERTCTL_ADMIN_KEY_FILE="+filepath.Join(in.Dir, "none.key"))...)
	second.Start()
	asked := 0 // of the second gateway
	ask := func(url string) (*http.Response, error) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/api/v1/auth/check", nil)
		if err != nil {
			return nil, err
		}
		r.Header.Set("Authorization", "Bearer "+in.Key)
		res, err := http.DefaultTransport.RoundTrip(r)
		if err == nil {
			res.Body.Close()
		}
		return res, err
	}
	rig.Within(t, rig.Patience, "the second gateway answers", func() error {
		res, err := ask("http://" + address)
		if err == nil && res.StatusCode != http.StatusOK {
			err = fmt.Errorf("it says %s", res.Status)
		}
		return err
	})
	for range 400 {
		if _, err := ask(in.URL); err != nil {
			t.Fatal(err)
		}
	}
	rig.Within(t, rig.Patience, "the second gateway refuses the key", func() error {
		asked++
		res, err := ask("http://" + address)
		switch {
		case err != nil:
			return err
		case res.StatusCode != http.StatusTooManyRequests:
			return fmt.Errorf("it says %s, %s", res.Status, res.Header.Get("RateLimit"))
		case asked >= 300:
			t.Error("it refuses the key for what it was asked itself")
		case res.Header.Get("Retry-After") == "" || !strings.HasPrefix(res.Header.Get("RateLimit"), `"key";r=0;`):
			t.Errorf("it does not say when to come again: %v", res.Header)
		}
		return nil
	})
	// Its other key may still ask.
	out, err := in.Admin("create-key", "onlooker", "admin")
	if err != nil {
		t.Fatal(out)
	}
	key, _, _ := strings.Cut(out, "\n")
	in.API = rig.As(t, in.URL, key)
	for _, p := range []*rig.Program{in.Program, second} {
		if strings.Contains(p.Output(), "Permissions Violation") {
			t.Errorf("%s may not say what it wants to: %s", p.Name, p.Tail(2000))
		}
	}
}
