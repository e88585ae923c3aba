package permission

// The roles. What each is for stands in the contract (schema Role).
const (
	// Admin is the role that may do everything, what is not in the matrix too.
	Admin        = "admin"
	Operator     = "operator"
	Approver     = "approver"
	AgentManager = "agent-manager"
	Auditor      = "auditor"
	Viewer       = "viewer"
	// MCP is for assistants: an operator who destroys nothing and decides nothing.
	MCP = "mcp"
)

// Roles lists every role, in the order in which tables show them.
func Roles() []string {
	return []string{Admin, Operator, Approver, AgentManager, Auditor, Viewer, MCP}
}

// matrix says who may do what, besides admins. A permission is "<resource>:<action>"; one
// that is not here is an admin's alone.
//
// An auditor is in the rows of audit and in no other, so that whoever watches over the
// others cannot have done it himself.
var matrix = map[string][]string{
	"certificates:read":    {Operator, Approver, Viewer, MCP},
	"certificates:create":  {Operator, MCP},
	"certificates:update":  {Operator, MCP},
	"certificates:renew":   {Operator, MCP},
	"certificates:deploy":  {Operator, MCP},
	"certificates:archive": {Operator},
	// Assistants neither take in private keys nor get to see any.
	"certificates:import":     {Operator},
	"certificates:export-key": {Operator},

	"jobs:read":    {Operator, Approver, Viewer, MCP},
	"jobs:cancel":  {Operator, MCP},
	"jobs:retry":   {Operator, MCP},
	"jobs:approve": {Approver},

	"issuers:read":   {Operator, Approver, Viewer, MCP},
	"issuers:test":   {Operator, MCP},
	"issuers:create": {},
	"issuers:update": {},
	"issuers:delete": {},

	"profiles:read":   {Operator, Approver, Viewer, MCP},
	"profiles:create": {},
	"profiles:update": {},
	"profiles:delete": {},

	"policies:read":   {Operator, Approver, Viewer, MCP},
	"policies:create": {},
	"policies:update": {},
	"policies:delete": {},

	"renewal-policies:read":   {Operator, Approver, Viewer, MCP},
	"renewal-policies:create": {},
	"renewal-policies:update": {},
	"renewal-policies:delete": {},

	"blocked-keys:read":   {Operator, Approver, Viewer, MCP},
	"blocked-keys:create": {Operator},
	"blocked-keys:delete": {},

	"teams:read":   {Operator, Approver, Viewer, MCP},
	"teams:create": {},
	"teams:update": {},
	"teams:delete": {},

	"owners:read":   {Operator, Approver, Viewer, MCP},
	"owners:create": {},
	"owners:update": {},
	"owners:delete": {},

	"targets:read":   {Operator, Approver, AgentManager, Viewer, MCP},
	"targets:create": {Operator, AgentManager, MCP},
	"targets:update": {Operator, AgentManager, MCP},
	"targets:delete": {Operator, AgentManager},

	"agents:read":   {Operator, Approver, AgentManager, Viewer, MCP},
	"agents:enrol":  {AgentManager},
	"agents:retire": {AgentManager},

	"agent-groups:read":   {Operator, Approver, AgentManager, Viewer, MCP},
	"agent-groups:create": {AgentManager},
	"agent-groups:update": {AgentManager},
	"agent-groups:delete": {AgentManager},

	"sites:read":   {Operator, Approver, AgentManager, Viewer, MCP},
	"sites:create": {AgentManager},

	"audit:read":   {Auditor},
	"audit:export": {Auditor},

	"stats:read":   {Operator, Approver, Viewer, MCP},
	"metrics:read": {Operator, Approver, Viewer, MCP},

	"api-keys:read":   {},
	"api-keys:create": {},
	"api-keys:update": {},
	"api-keys:revoke": {},
}
