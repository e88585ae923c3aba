package admin

import (
	"context"
	"text/template"

	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/natsauth"
	"github.com/certctl/certctl/services/certctl/internal/platform"
)

// natsConfig is what a server of one's own needs to be the hub: the same trust,
// accounts and durability as the server inside certctl. TLS and routes are the
// operator's to add.
var natsConfig = template.Must(template.New("nats.conf").Parse(`# A NATS server (2.15 or newer) as certctl's hub. Add tls {} blocks wherever it is reached over a network,
# and for a cluster a cluster {} block; then start certctl with CERTCTL_NATS_URL.
operator: {{.Operator}}
system_account: {{.System}}
resolver: { type: full, dir: "./accounts", allow_delete: false }
resolver_preload: {
{{- range .Accounts}}
  {{.Key}}: {{.JWT}}
{{- end}}
}
jetstream: { store_dir: "./streams", domain: {{.Domain}}, sync_interval: 1s }
# A service's credential lists what it may say and hear, for which the default of 4 KiB is tight.
max_control_line: 64KB
leafnodes: { host: 127.0.0.1, port: 7422, isolate_leafnode_interest: true }
`))

type natsAccount struct{ Key, JWT string }

// printNATSConfig makes the identities of the bus if there are none yet.
func printNATSConfig(_ context.Context, t *toolbox, _ []string) error {
	authority, err := platform.Identities(t.cfg.Platform)
	if err != nil {
		return err
	}
	data := struct {
		Operator, System, Domain string
		Accounts                 []natsAccount
	}{Operator: authority.OperatorJWT(), Domain: subject.DomainHub}
	if data.System, err = authority.AccountKey(natsauth.SYS); err != nil {
		return err
	}
	for _, name := range natsauth.Accounts() {
		key, err := authority.AccountKey(name)
		if err != nil {
			return err
		}
		jwt, err := authority.AccountJWT(name)
		if err != nil {
			return err
		}
		data.Accounts = append(data.Accounts, natsAccount{key, jwt})
	}
	return natsConfig.Execute(t.out, data)
}
