package agent_test

import (
	"strings"
	"testing"

	"github.com/certctl/certctl/libs/config"
	"github.com/certctl/certctl/services/agent"
)

func TestConfig_SaysHowTheHostAnswersCAs(t *testing.T) {
	t.Setenv("CERTCTL_AGENT_HTTP01_ADDRESS", ":80")
	t.Setenv("CERTCTL_AGENT_HTTP01_WEBROOT", "")
	var c agent.Config
	if err := config.Load("CERTCTL", &c); err != nil || c.AgentHttp01Address != ":80" {
		t.Errorf("read %+v, %v", c, err)
	}
	for name, wrong := range map[string]func(*agent.Config){
		"both":              func(c *agent.Config) { c.AgentHttp01Webroot = "/var/www" },
		"no port":           func(c *agent.Config) { c.AgentHttp01Address = "80" },
		"a relative folder": func(c *agent.Config) { c.AgentHttp01Address, c.AgentHttp01Webroot = "", "www" },
	} {
		bad := c
		wrong(&bad)
		if err := bad.Validate(); err == nil || !strings.Contains(err.Error(), "CERTCTL_AGENT_HTTP01_") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
