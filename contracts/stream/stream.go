// Package stream is the manifest of the hub's streams and durable consumers, and of
// a leaf's. Services only check at their start that the servers hold what stands
// here; one job applies it (certctl up, or certctl admin streams apply).
//
// Sizes are reserved on disk, so they are those of a large installation and are
// scaled down to the disk by whoever applies them.
package stream

import (
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/certctl/certctl/contracts/subject"
)

// Revision grows with every change below, so that an older build cannot quietly
// reset what a newer one has set.
const Revision = 6

const (
	mib = 1 << 20
	gib = 1 << 30
	day = 24 * time.Hour

	// repeats is for how long a server knows the ids of messages: long enough for whoever
	// publishes to be restarted in the middle and to publish once more. It holds them all in
	// memory, some 150 bytes each, so it is not longer: what is repeated later is dropped by
	// the inbox of whoever reads it, as an agent answers a repeated order from its journal.
	repeats = 2 * time.Minute
	// busyRepeats is that of streams that take thousands of messages a second.
	busyRepeats = 30 * time.Second

	// maxMessage is far above any command or event: requests, chains and
	// configurations are a few KiB. What is larger travels by reference.
	maxMessage = 256 << 10
)

// Consumer is a durable and the stream it reads.
type Consumer struct {
	Stream string
	Config jetstream.ConsumerConfig
}

// Core is the account of the services.
func Core() ([]jetstream.StreamConfig, []Consumer) {
	streams := []jetstream.StreamConfig{
		logStream(subject.StreamEvents, 10*gib, 30*day, busyRepeats, subject.AllEvents),
		logStream(subject.StreamAudit, 5*gib, 90*day, busyRepeats, subject.AllAudit),
		logStream(subject.StreamDeadLetters, gib, 90*day, repeats, subject.AllDeadLetters),
		advisories(),
	}
	consumers := []Consumer{
		durable(subject.StreamEvents, subject.ConsumerIssuerEvents, 512,
			subject.Events("csr", ""), subject.Events("deployment", ""), subject.Events("target", "")),
		durable(subject.StreamEvents, subject.ConsumerDeploymentEvents, 512,
			subject.Events("certificate", "requested"), subject.Events("certificate", "keyrequested"),
			subject.Events("certificate", "issued"), subject.Events("certificate", "renewed"),
			subject.Events("certificate", "updated"), subject.Events("certificate", "archived"),
			subject.Events("certificate", "deploymentrequested")),
		durable(subject.StreamEvents, subject.ConsumerRevocationEvents, 512,
			subject.Events("certificate", "issued"), subject.Events("certificate", "renewed"),
			subject.Events("issuer", "configured")),
		durable(subject.StreamEvents, subject.ConsumerAuditEvents, 1024, subject.AllEvents),
		durable(subject.StreamAudit, subject.ConsumerAuditRecords, 1024, subject.AllAudit),
	}
	return streams, consumers
}

// Edge is the account of leaves and agents, on the hub. A site's durable is made by
// the deployment service when the site is; see [Site]. What is on its way is not
// compressed: nobody reads it again.
func Edge() ([]jetstream.StreamConfig, []Consumer) {
	commands := logStream(subject.StreamAgentCommands, 2*gib, 7*day, repeats, subject.AllAgentCommands)
	// The subject ends in the job, so a repeat of an order replaces the one before.
	commands.MaxMsgsPerSubject = 1
	commands.AllowMsgTTL = true
	commands.MaxConsumers = 5000
	commands.Compression = jetstream.NoCompression
	commands.DenyDelete, commands.DenyPurge = false, false
	reports := logStream(subject.StreamAgentReports, 5*gib, 14*day, repeats, subject.AllAgentReports)
	reports.Compression = jetstream.NoCompression
	streams := []jetstream.StreamConfig{commands, reports, advisories()}
	consumers := []Consumer{
		durable(subject.StreamAgentReports, subject.ConsumerDeploymentReports, 1024, subject.AgentReportsOf(subject.KindDeploy)),
	}
	return streams, consumers
}

// Site is the durable by which a site's leaf draws its agents' orders from the hub.
func Site(siteID string) Consumer {
	c := durable(subject.StreamAgentCommands, siteID, 1024, subject.AgentCommands(siteID))
	c.Config.MaxDeliver = -1
	// The relay acknowledges within milliseconds, or says that it goes on. When orders
	// were lost on the link it keeps newer ones back until these are sent again, so the
	// wait is short.
	c.Config.AckWait = 10 * time.Second
	c.Config.InactiveThreshold = 30 * day
	return c
}

// Leaf is what a leaf keeps for its own agents, so that a site works on while the
// hub is away. Both streams forget what is acknowledged. So a consumer that is made anew
// begins with the oldest message that is not, and none needs to keep its state on disk.
func Leaf() ([]jetstream.StreamConfig, []Consumer) {
	commands := logStream(subject.StreamSiteCommands, 256*mib, 7*day, repeats, subject.AllSiteCommands)
	commands.Retention = jetstream.WorkQueuePolicy
	commands.AllowAtomicPublish = true
	commands.Compression = jetstream.NoCompression
	commands.MaxMsgsPerSubject = 1
	commands.AllowMsgTTL = true
	commands.MaxConsumers = 600
	commands.DenyDelete, commands.DenyPurge = false, false
	reports := logStream(subject.StreamSiteReports, gib, 7*day, repeats, subject.AllSiteReports)
	// A full stream must refuse, never drop: the agent then keeps its report on disk.
	reports.Retention = jetstream.WorkQueuePolicy
	reports.Compression = jetstream.NoCompression
	reports.Discard = jetstream.DiscardNew
	reports.DenyDelete, reports.DenyPurge = false, false
	relay := durable(subject.StreamSiteReports, subject.ConsumerSiteRelay, 1024, subject.AllSiteReports)
	relay.Config.MaxDeliver = -1
	relay.Config.MemoryStorage = true
	return []jetstream.StreamConfig{commands, reports}, []Consumer{relay}
}

// Agent is the durable by which one agent draws its orders from its leaf. It is in the
// leaf's memory: the agent has it made anew when it comes back to a leaf that restarted.
func Agent(agentID string) Consumer {
	c := durable(subject.StreamSiteCommands, agentID, 4, subject.SiteCommands(agentID))
	c.Config.AckWait = time.Minute
	c.Config.MaxDeliver = -1
	c.Config.InactiveThreshold = 30 * day
	c.Config.MemoryStorage = true
	return c
}

// logStream keeps messages by age and size, never by who has read them: a service
// that is new can read what happened before it.
func logStream(name string, bytes int64, age, duplicates time.Duration, subjects ...string) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:         name,
		Subjects:     subjects,
		Retention:    jetstream.LimitsPolicy,
		Discard:      jetstream.DiscardOld,
		Storage:      jetstream.FileStorage,
		Compression:  jetstream.S2Compression,
		MaxBytes:     bytes,
		MaxAge:       age,
		MaxMsgSize:   maxMessage,
		MaxConsumers: 64,
		Replicas:     1,
		Duplicates:   duplicates,
		AllowDirect:  true,
		DenyDelete:   true,
		DenyPurge:    true,
	}
}

// advisories catches what the server says of messages that nobody could handle.
func advisories() jetstream.StreamConfig {
	s := logStream(subject.StreamAdvisories, 256*mib, 30*day, 2*time.Minute,
		"$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.>", "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.>")
	return s
}

// durable is a pull consumer with explicit acks. It has no BackOff list, since the
// first of it would silently replace AckWait; consumers ask for a delay themselves.
func durable(stream, name string, pending int, filters ...string) Consumer {
	return Consumer{Stream: stream, Config: jetstream.ConsumerConfig{
		Durable:        name,
		FilterSubjects: filters,
		DeliverPolicy:  jetstream.DeliverAllPolicy,
		AckPolicy:      jetstream.AckExplicitPolicy,
		AckWait:        30 * time.Second,
		MaxDeliver:     12,
		MaxAckPending:  pending,
	}}
}
