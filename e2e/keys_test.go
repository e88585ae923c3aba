package e2e

import (
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certctl/certctl/contracts/httpapi/client"
	"github.com/certctl/certctl/e2e/internal/rig"
)

// TestKeys_OpenWhatTheirRoleIsForAndEndOnEveryGateway has two gateways, one of them a
// process of its own with nothing but the rights of a gateway on the bus.
func TestKeys_OpenWhatTheirRoleIsForAndEndOnEveryGateway(t *testing.T) {
	t.Parallel()
	in := rig.Up(t, rig.Dir(t), "CERTCTL_LOG_LEVEL=warn")
	address := rig.FreeAddress(t)
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	gateway := in.Apart("gateway", "CERTCTL_SERVER_PORT="+port, "CERTCTL_ADMIN_KEY_FILE="+filepath.Join(in.Dir, "none.key"), "CERTCTL_LOG_LEVEL=warn")
	gateway.Start()
	other := rig.As(t, "http://"+address, in.Key)
	rig.Within(t, rig.Patience, "the other gateway is ready", func() error {
		_, err := rig.Read[client.Readiness](other.GetReady(t.Context()))
		return err
	})

	made := rig.Must[client.APIKey](t)(in.CreateAPIKey(t.Context(), client.APIKeyCreate{Name: "auditor", Roles: []client.Role{"auditor"}}))
	for _, url := range []string{in.URL, other.URL} {
		auditor := rig.As(t, url, *made.Key)
		rig.Must[client.AuditEventList](t)(auditor.ListAuditEvents(t.Context(), nil))
		_, err := rig.Raw(auditor.ListCertificates(t.Context(), nil))
		if rig.StatusOf(err) != http.StatusForbidden {
			t.Errorf("an auditor lists certificates at %s: %v", url, err)
		}
		_, err = rig.Raw(auditor.CreateAPIKey(t.Context(), client.APIKeyCreate{Name: "x", Roles: []client.Role{"admin"}}))
		if rig.StatusOf(err) != http.StatusForbidden {
			t.Errorf("an auditor makes himself an admin at %s: %v", url, err)
		}
	}
	if _, err := rig.Raw(other.RevokeAPIKey(t.Context(), made.ID)); err != nil {
		t.Fatal(err)
	}
	for _, url := range []string{other.URL, in.URL} {
		rig.Within(t, rig.Patience, "it is refused at "+url, func() error {
			_, err := rig.Raw(rig.As(t, url, *made.Key).ListAuditEvents(t.Context(), nil))
			if rig.StatusOf(err) != http.StatusUnauthorized {
				return fmt.Errorf("the answer is %d, not 401", rig.StatusOf(err))
			}
			return nil
		})
	}

	// The way in when every key is lost, and what the audit trail says of all this.
	out, err := in.Admin("create-key", "rescue", "admin,auditor")
	key, _, _ := strings.Cut(out, "\n")
	if err != nil {
		t.Fatal(err, out)
	}
	rescue := rig.As(t, other.URL, key)
	rig.Within(t, rig.Patience, "the audit trail tells of the keys", func() error {
		var told []client.AuditEvent
		for _, action := range []string{"create_api_key", "update_api_key", "delete_api_key"} {
			events, err := rescue.Audit(t.Context(), action)
			if err != nil {
				return err
			}
			told = append(told, events...)
		}
		actors := map[string]int{}
		for _, e := range told {
			if strings.Contains(fmt.Sprint(e.Details), key) || strings.Contains(fmt.Sprint(e.Details), *made.Key) {
				t.Error("the audit trail holds a key")
			}
			actors[e.Actor]++
		}
		if actors["key-first-admin"] != 2 || actors["certctl-admin"] != 1 || actors["gateway"] != 1 {
			return fmt.Errorf("it tells of changes by %v", actors)
		}
		return nil
	})
}
