package postgres

import (
	"fmt"

	"github.com/certctl/certctl/libs/search"
)

var jobStates = []string{"Pending", "AwaitingCSR", "AwaitingApproval", "Running", "Completed", "Failed", "Cancelled"}

// JobSearch is what search expressions can ask of jobs. The issuer has the same fields for its own.
var JobSearch = search.New(
	search.Field{Name: "id", Column: "j.id", Type: search.Text},
	search.Field{Name: "type", Column: "j.type", Type: search.Text, Values: []string{"Issuance", "Renewal", "Deployment", "Validation"}},
	search.Field{Name: "status", Column: "j.status", Type: search.Text, Values: jobStates},
	search.Field{Name: "certificate_id", Column: "j.certificate_id", Type: search.Text},
	search.Field{Name: "target_id", Column: "j.target_id", Type: search.Text},
	search.Field{Name: "agent_id", Column: "j.agent_id", Type: search.Text},
	search.Field{Name: "version_id", Column: "j.version_id", Type: search.Text},
	search.Field{Name: "attempts", Column: "j.attempts", Type: search.Int},
	search.Field{Name: "last_error", Column: "j.last_error", Type: search.Text},
	search.Field{Name: "created_at", Column: "j.created_at", Type: search.Time},
	search.Field{Name: "started_at", Column: "j.started_at", Type: search.Time},
	search.Field{Name: "completed_at", Column: "j.completed_at", Type: search.Time},
)

// AgentSearch is what search expressions can ask of agents.
var AgentSearch = search.New(
	search.Field{Name: "id", Column: "id", Type: search.Text},
	search.Field{Name: "name", Column: "name", Type: search.Text},
	search.Field{Name: "hostname", Column: "hostname", Type: search.Text},
	search.Field{Name: "status", Column: "status", Type: search.Text, Values: []string{"Online", "Offline", "Degraded", "Retired"}},
	search.Field{Name: "os", Column: "os", Type: search.Text},
	search.Field{Name: "architecture", Column: "architecture", Type: search.Text},
	search.Field{Name: "ip_address", Column: "ip_address", Type: search.Text},
	search.Field{Name: "version", Column: "version", Type: search.Text},
	search.Field{Name: "site_id", Column: "site_id", Type: search.Text},
	search.Field{Name: "last_heartbeat_at", Column: "last_heartbeat_at", Type: search.Time},
	search.Field{Name: "registered_at", Column: "registered_at", Type: search.Time},
)

// search asks for what a search expression says.
func (c *condition) search(q search.Query) {
	sql, asked := q.Condition(func(v any) string {
		c.args = append(c.args, v)
		return fmt.Sprintf("$%d", len(c.args))
	})
	if asked {
		c.parts = append(c.parts, sql)
	}
}
