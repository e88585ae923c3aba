package platform

import (
	"slices"

	"github.com/certctl/certctl/contracts/httpapi"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/natsauth"
)

// user is a principal of the bus: which account it is in, and exactly what it may do.
// Nothing else on the bus is open to whoever steals its credentials.
type user struct {
	account     natsauth.Account
	name        string
	permissions natsauth.Permissions
}

// Names of the users that are no service.
const (
	UserManifest  = "manifest"
	UserAuthority = "authority"
	UserSystem    = "system"
)

// users lists every user of an account. A service has one in each account that it
// speaks in.
func users() []user {
	return []user{
		{natsauth.CORE, "gateway", gateway()},
		{natsauth.CORE, "issuer", serving("issuer", natsauth.Permissions{
			Publish: concat(
				events("certificate", "job", "issuer", "issuersettings", "team", "owner", "profile", "policy", "renewalpolicy", "blockedkey", "campaign"),
				consuming("issuer", subject.StreamEvents, subject.ConsumerIssuerEvents),
				[]string{
					subject.Operation("deployment", "getTarget"), subject.Operation("deployment", "listGroupsOfAgent"),
					subject.Operation("deployment", "answerHTTP01"),
				},
			),
		})},
		{natsauth.CORE, "deployment", serving("deployment", natsauth.Permissions{
			Publish: concat(
				events("csr", "deployment", "agent", "site", "target", "agentgroup"),
				consuming("deployment", subject.StreamEvents, subject.ConsumerDeploymentEvents),
				[]string{
					subject.Operation("authority", "revokeUsers"),
					subject.Operation("issuer", "getCertificate"), subject.Operation("issuer", "listPolicies"), subject.Operation("issuer", "listRenewalPolicies"),
					subject.DeadLetter("deployment", subject.ConsumerDeploymentReports),
				},
			),
		})},
		{natsauth.EDGE, "deployment", natsauth.Permissions{
			Publish: concat(
				[]string{subject.AllAgentCommands},
				durable(subject.StreamAgentReports, subject.ConsumerDeploymentReports),
				consumersOf(subject.StreamAgentCommands),
			),
			Subscribe: concat(inbox("deployment"), []string{subject.AllAgentRequests}),
			Responses: unlimited,
		}},
		{natsauth.CORE, "revocation", serving("revocation", natsauth.Permissions{
			Publish: concat(
				consuming("revocation", subject.StreamEvents, subject.ConsumerRevocationEvents),
				signatures(),
			),
		})},
		{natsauth.CORE, "audit", serving("audit", natsauth.Permissions{
			Publish: concat(
				events("checkpoint"),
				consuming("audit", subject.StreamEvents, subject.ConsumerAuditEvents),
				consuming("audit", subject.StreamAudit, subject.ConsumerAuditRecords),
				// It shows dead letters, and can remove none.
				[]string{"$JS.API.STREAM.INFO." + subject.StreamDeadLetters, "$JS.API.DIRECT.GET." + subject.StreamDeadLetters},
			),
		})},
		{natsauth.CORE, UserAuthority, serving(UserAuthority, natsauth.Permissions{})},
		{natsauth.SYS, UserSystem, natsauth.Permissions{
			Publish:   []string{"$SYS.REQ.CLAIMS.UPDATE"},
			Subscribe: inbox(UserSystem),
		}},
		{natsauth.CORE, UserManifest, manifest()},
		{natsauth.EDGE, UserManifest, manifest()},
	}
}

// gateway may send calls on, and tell of them.
func gateway() natsauth.Permissions {
	return natsauth.Permissions{
		Publish: concat(
			operations(),
			[]string{subject.AuditRecord("api", "gateway"), "$SRV.PING.>"},
			events("apikey"),
			[]string{subject.Replicas("gateway", "apikeys"), subject.Replicas("gateway", "consumption")},
		),
		// What services ask of each other is none of its business.
		DenyPublish: between(),
		Subscribe:   concat(inbox("gateway"), []string{subject.Replicas("gateway", "apikeys"), subject.Replicas("gateway", "consumption")}),
		Responses:   unlimited,
	}
}

// unlimited lets a principal answer each request with as many messages as it takes.
const unlimited = -1

// serving adds what every service needs that answers on the bus.
func serving(name string, p natsauth.Permissions) natsauth.Permissions {
	p.Subscribe = concat(inbox(name), []string{subject.Operations(name), "$SRV.>"})
	p.Responses = unlimited
	return p
}

// manifest may shape streams and consumers, and read or write no message.
func manifest() natsauth.Permissions {
	return natsauth.Permissions{
		Publish:     []string{"$JS.API.INFO", "$JS.API.STREAM.*", "$JS.API.STREAM.*.*", "$JS.API.CONSUMER.>"},
		DenyPublish: []string{"$JS.API.CONSUMER.MSG.NEXT.>", "$JS.API.STREAM.PURGE.*", "$JS.API.STREAM.DELETE.*"},
		Subscribe:   inbox(UserManifest),
	}
}

func inbox(name string) []string { return []string{subject.Inbox(name) + ".>"} }

// operations are those of the services that the gateway sends calls on to, and the parts
// of long answers. They are not listed one by one: with all of its rights a user has to
// fit into one control line of NATS, which is 4 KiB.
func operations() []string {
	var subjects []string
	for _, o := range httpapi.Operations {
		for _, service := range o.Services {
			if all := subject.Operations(service); service != "gateway" && service != "revocation" && !slices.Contains(subjects, all) {
				subjects = append(subjects, all)
			}
		}
	}
	return subjects
}

// between is what services ask of each other under subjects of the same form, and that is
// no operation of the contract.
func between() []string { return append(signatures(), subject.Operation("deployment", "answerHTTP01")) }

// signatures are what the revocation service has the issuer sign.
func signatures() []string {
	return []string{subject.Operation("issuer", "signCRL"), subject.Operation("issuer", "issueOCSPResponder")}
}

func events(aggregates ...string) []string {
	var subjects []string
	for _, a := range aggregates {
		subjects = append(subjects, subject.Events(a, ""))
	}
	return subjects
}

// consuming lets a service read one durable and leave its dead letters.
func consuming(service, stream, consumer string) []string {
	return append(durable(stream, consumer), subject.DeadLetter(service, consumer))
}

// durable lets a principal read one durable consumer. Both forms of acknowledgement are
// granted, since a coming server uses the second.
func durable(stream, consumer string) []string {
	return []string{
		"$JS.API.STREAM.INFO." + stream,
		"$JS.API.CONSUMER.INFO." + stream + "." + consumer,
		"$JS.API.CONSUMER.MSG.NEXT." + stream + "." + consumer,
		"$JS.ACK." + stream + "." + consumer + ".>",
		"$JS.ACK.*.*." + stream + "." + consumer + ".>",
	}
}

// consumersOf lets a principal make and remove durables of one stream.
func consumersOf(stream string) []string {
	return []string{
		"$JS.API.STREAM.INFO." + stream,
		"$JS.API.CONSUMER.CREATE." + stream + ".>",
		"$JS.API.CONSUMER.INFO." + stream + ".*",
		"$JS.API.CONSUMER.DELETE." + stream + ".*",
	}
}

func concat(lists ...[]string) []string {
	var all []string
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}
