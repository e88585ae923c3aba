package deployment

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/natshttp"
)

const (
	// groupsAge is how long an answer is believed.
	groupsAge = 3 * time.Second
	// silenceAge is how long deployment is not asked again after it did not answer, so that a batch of jobs does not wait
	// once for each of them.
	silenceAge = time.Second
	// groupsWithin bounds a question.
	groupsWithin = time.Second
	// maxRemembered bounds the answers that are kept.
	maxRemembered = 20_000
	maxGroups     = 1 << 20
)

// memory is what was last answered of agents' groups. Its zero value is ready.
type memory struct {
	mu          sync.Mutex
	groups      map[string]remembered // guarded by mu, by agent
	silentUntil time.Time             // guarded by mu
}

type remembered struct {
	groups []string
	until  time.Time
}

func (m *memory) recall(agentID string, now time.Time) (groups []string, known, silent bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.groups[agentID]
	return r.groups, ok && now.Before(r.until), now.Before(m.silentUntil)
}

func (m *memory) remember(agentID string, groups []string, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.groups == nil || len(m.groups) >= maxRemembered {
		m.groups = map[string]remembered{}
	}
	m.groups[agentID] = remembered{groups, now.Add(groupsAge)}
	m.silentUntil = time.Time{}
}

func (m *memory) silence(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.silentUntil = now.Add(silenceAge)
}

// InGroup implements [issuance.Targets]. An agent that deployment does not know is in no group. Answers are believed for
// a few seconds; while there are none the error is Unavailable, for a rule of a group would otherwise be passed by when
// deployment is away.
func (t *Targets) InGroup(ctx context.Context, agentID, groupID string) (bool, error) {
	now := time.Now()
	groups, known, silent := t.memory.recall(agentID, now)
	if known {
		return slices.Contains(groups, groupID), nil
	}
	if silent {
		return false, fault.New(fault.Unavailable, "the groups of agent %s cannot be looked up at the moment", agentID)
	}
	groups, err := t.groupsOf(ctx, agentID)
	if err != nil {
		t.memory.silence(time.Now())
		return false, fault.Wrap(err, fault.Unavailable, "the groups of agent %s cannot be looked up at the moment", agentID)
	}
	t.memory.remember(agentID, groups, now)
	return slices.Contains(groups, groupID), nil
}

func (t *Targets) groupsOf(ctx context.Context, agentID string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, groupsWithin)
	defer cancel()
	ctx = natshttp.WithRoute(ctx, natshttp.Route{Service: "deployment", Operation: "listGroupsOfAgent"})
	ctx = authn.NewContext(ctx, authn.System("issuer"))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://deployment/api/v1/agents/"+url.PathEscape(agentID)+"/groups", nil)
	if err != nil {
		return nil, fmt.Errorf("ask for the groups of agent %s: %w", agentID, err)
	}
	resp, err := t.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask for the groups of agent %s: %w", agentID, err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return nil, nil
	default:
		return nil, fmt.Errorf("ask for the groups of agent %s: deployment answers %s", agentID, resp.Status)
	}
	var found struct {
		Data []struct {
			ID string `json:"id"`
		} `json:"data"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxGroups)).Decode(&found); err != nil {
		return nil, fmt.Errorf("read the groups of agent %s: %w", agentID, err)
	}
	ids := make([]string, len(found.Data))
	for i, g := range found.Data {
		ids[i] = g.ID
	}
	return ids, nil
}
