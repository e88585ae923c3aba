package deployment

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/natsauth"
	"github.com/certctl/certctl/libs/service"
)

// openEdge makes the service's side of EDGE from the files that the configuration
// names. Whoever calls it closes the connection.
func (c *Config) openEdge(deps service.Deps) (Edge, error) {
	for name, value := range map[string]string{
		"CERTCTL_DEPLOYMENT_EDGE_CREDS_FILE":        c.DeploymentEdgeCredsFile,
		"CERTCTL_DEPLOYMENT_EDGE_SIGNING_KEYS_FILE": c.DeploymentEdgeSigningKeysFile,
		"CERTCTL_DEPLOYMENT_EDGE_ACCOUNT_JWT_FILE":  c.DeploymentEdgeAccountJWTFile,
	} {
		if value == "" {
			return Edge{}, fault.New(fault.Precondition, "%s is not set", name)
		}
	}
	signer, err := readSigner(c.DeploymentEdgeSigningKeysFile)
	if err != nil {
		return Edge{}, err
	}
	account, err := os.ReadFile(c.DeploymentEdgeAccountJWTFile)
	if err != nil {
		return Edge{}, fmt.Errorf("JWT of account EDGE: %w", err)
	}
	url := c.DeploymentEdgeURL
	if url == "" {
		url = strings.Join(deps.Bus.NC.Servers(), ",")
	}
	conn, err := bus.Connect(bus.Options{
		URL: url, CredsFile: c.DeploymentEdgeCredsFile, Name: "deployment", InboxPrefix: subject.Inbox("deployment"),
		Log: deps.Log, Metrics: deps.Metrics,
	})
	if err != nil {
		return Edge{}, fmt.Errorf("account EDGE: %w", err)
	}
	deps.Health.Add("nats-edge", conn.Health)
	return Edge{
		Bus: conn, Signer: signer, AccountJWT: strings.TrimSpace(string(account)), HubURLs: c.DeploymentHubAddresses,
		LocalLeafKey: c.DeploymentLocalLeafKey,
	}, nil
}

// readSigner refuses a file that others may read: whoever has these keys can make
// agents.
func readSigner(path string) (*natsauth.EdgeSigner, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("signing keys of account EDGE: %w", err)
	}
	if info.Mode().Perm()&0o007 != 0 {
		return nil, fmt.Errorf("signing keys of account EDGE: %s may be read by others (mode %04o); chmod it to 0600", path, info.Mode().Perm())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("signing keys of account EDGE: %w", err)
	}
	var keys natsauth.EdgeKeys
	if err := json.Unmarshal(text, &keys); err != nil {
		// The error could quote what is in the file.
		return nil, errors.New("signing keys of account EDGE: the file is not the JSON that is expected")
	}
	return natsauth.NewEdgeSigner(keys)
}
