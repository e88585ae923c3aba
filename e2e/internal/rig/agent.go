package rig

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/certctl/certctl/contracts/httpapi/client"
)

// Agent is certctl-agent on a host of its own.
type Agent struct {
	*Program
	// ID is what the platform calls it.
	ID string
	// StateDir holds its identity.
	StateDir string
}

// NewAgent prepares an agent with a one-time token, without starting it.
func NewAgent(t testing.TB, dir, name, leafURL, token string, env ...string) *Agent {
	t.Helper()
	host := filepath.Join(dir, name)
	a := &Agent{StateDir: filepath.Join(host, "state")}
	keys := filepath.Join(host, "keys")
	if err := errors.Join(os.MkdirAll(keys, 0o700), os.MkdirAll(a.StateDir, 0o700)); err != nil {
		t.Fatal(err)
	}
	a.Program = NewProgram(t, dir, name, "certctl-agent", append([]string{
		"CERTCTL_AGENT_NAME=" + name, "CERTCTL_KEY_DIR=" + keys, "CERTCTL_AGENT_STATE_DIR=" + a.StateDir,
		"CERTCTL_LEAF_URL=" + leafURL, "CERTCTL_ENROLMENT_TOKEN=" + token,
		"CERTCTL_AGENT_ALLOWED_COMMANDS=" + NGINXBinary(t),
	}, env...)...)
	return a
}

// Enrol makes a token for a site, starts an agent with it and waits until it is Online.
func (in *Installation) Enrol(name, site, leafURL string, env ...string) *Agent {
	in.t.Helper()
	token := Must[client.EnrolmentToken](in.t)(in.CreateEnrolmentToken(in.t.Context(), client.EnrolmentTokenCreate{SiteID: &site}))
	a := NewAgent(in.t, in.Dir, name, leafURL, token.Token, env...)
	a.Start()
	Within(in.t, Patience, name+" is Online", func() error {
		list, err := Read[client.AgentList](in.ListAgents(in.t.Context(), nil))
		if err != nil {
			return err
		}
		for _, other := range list.Data {
			if other.Name == name && other.Status == client.Online {
				a.ID = other.ID
				// The platform knows the agent a moment before its own host does.
				_, err := a.Identity()
				return err
			}
		}
		return errors.New("it is not")
	})
	return a
}

// Identity is who the agent is, as it lies on its host.
type Identity struct {
	AgentID string `json:"agent_id"`
	SiteID  string `json:"site_id"`
	UserJWT string `json:"user_jwt"`
	Seed    string `json:"-"`
}

// Identity steals the agent's credentials.
func (a *Agent) Identity() (Identity, error) {
	var id Identity
	text, err := os.ReadFile(filepath.Join(a.StateDir, "identity.json"))
	if err != nil {
		return id, err
	}
	if err := json.Unmarshal(text, &id); err != nil {
		return id, fmt.Errorf("read the identity of %s: %w", a.Name, err)
	}
	seed, err := os.ReadFile(filepath.Join(a.StateDir, "agent.nk"))
	id.Seed = string(seed)
	return id, err
}

// Leaf is certctl-leaf, at a site of its own.
type Leaf struct {
	*Program
	SiteID, URL, DataDir string
}

// NewSite makes a site, starts its leaf and waits until it takes agents.
func (in *Installation) NewSite(id string, env ...string) *Leaf {
	in.t.Helper()
	site := Must[client.Site](in.t)(in.CreateSite(in.t.Context(), client.SiteCreate{ID: &id, Name: id}))
	address := FreeAddress(in.t)
	l := &Leaf{SiteID: site.ID, URL: "nats://" + address, DataDir: filepath.Join(in.Dir, id)}
	l.Program = NewProgram(in.t, in.Dir, id+"-leaf", "certctl-leaf", append([]string{
		"CERTCTL_LEAF_TOKEN=" + Value(site.Token), "CERTCTL_LEAF_GATEWAY_URL=" + in.URL,
		"CERTCTL_LEAF_DATA_DIR=" + l.DataDir, "CERTCTL_LEAF_LISTEN=" + address, "CERTCTL_LEAF_RECONNECT_DELAY=200ms",
	}, env...)...)
	l.Start()
	Within(in.t, Patience, id+" is Connected", func() error {
		list, err := Read[client.SiteList](in.ListSites(in.t.Context(), nil))
		if err != nil {
			return err
		}
		for _, s := range list.Data {
			if s.ID == id && s.Status == client.Connected {
				return nil
			}
		}
		return errors.New("it is not")
	})
	return l
}
