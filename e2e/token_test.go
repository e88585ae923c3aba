package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/contracts/httpapi/client"
	"github.com/certctl/certctl/e2e/internal/rig"
)

// TestToken_IsGoodForOneHostAndForAWhile gives tokens to those who must not have them.
func TestToken_IsGoodForOneHostAndForAWhile(t *testing.T) {
	t.Parallel()
	in := rig.Up(t, rig.Dir(t), "CERTCTL_LOG_LEVEL=warn")
	const life = 60 // the shortest that the API grants
	short := rig.Must[client.EnrolmentToken](t)(in.CreateEnrolmentToken(t.Context(), client.EnrolmentTokenCreate{TTLSeconds: new(life)}))
	once := rig.Must[client.EnrolmentToken](t)(in.CreateEnrolmentToken(t.Context(), client.EnrolmentTokenCreate{}))
	leaf := in.NewSite("site-once", "CERTCTL_LEAF_LOG_LEVEL=warn")

	first := rig.NewAgent(t, in.Dir, "first", in.LeafURL, once.Token)
	first.Start()
	rig.Within(t, rig.Patience, "the first host is an agent", func() error {
		_, err := first.Identity()
		return err
	})
	refused(t, in, "second", in.LeafURL, once.Token, "used")
	refused(t, in, "elsewhere", leaf.URL, once.Token, "not known here")
	refused(t, in, "cut", in.LeafURL, short.Token[:len(short.Token)/2], "not whole")
	refused(t, in, "altered", in.LeafURL, alter(short.Token), "token")

	thief := rig.NewProgram(t, in.Dir, "thief-leaf", "certctl-leaf",
		"CERTCTL_LEAF_TOKEN="+setting(t, leaf.Env, "CERTCTL_LEAF_TOKEN"), "CERTCTL_LEAF_GATEWAY_URL="+in.URL,
		"CERTCTL_LEAF_DATA_DIR="+in.Dir+"/thief-leaf", "CERTCTL_LEAF_LISTEN="+rig.FreeAddress(t))
	thief.Start()
	if code := thief.Wait(rig.Patience); code == 0 || !strings.Contains(thief.Output(), "used") {
		t.Errorf("a second leaf with a used token exited with %d: %s", code, thief.Tail(500))
	}

	rig.Pause(t, time.Until(short.ExpiresAt)+time.Second)
	refused(t, in, "late", in.LeafURL, short.Token, "expired")
	if list := rig.Must[client.AgentList](t)(in.ListAgents(t.Context(), nil)); list.Total != 1 {
		t.Errorf("there are %d agents", list.Total)
	}
}

// refused starts an agent that has to end with an error that says something.
func refused(t *testing.T, in *rig.Installation, name, leafURL, token, says string) {
	t.Helper()
	a := rig.NewAgent(t, in.Dir, name, leafURL, token)
	a.Start()
	code := a.Wait(rig.Patience)
	if out := a.Output(); code == 0 || !strings.Contains(out, says) {
		t.Errorf("%s exited with %d and does not say %q: %s", name, code, says, out)
	}
}

// alter changes a token where its secret is likely to be.
func alter(token string) string {
	at := len(token) / 3
	other := byte('A')
	if token[at] == other {
		other = 'B'
	}
	return token[:at] + string(other) + token[at+1:]
}

func setting(t *testing.T, env []string, name string) string {
	t.Helper()
	for _, e := range env {
		if value, ok := strings.CutPrefix(e, name+"="); ok {
			return value
		}
	}
	t.Fatalf("%s is not set", name)
	return ""
}
