// Package event holds the facts that services tell each other, one file an
// aggregate. An event is in the past tense and is published in the transaction
// that made it true, so whoever hears it may rely on it.
//
// On the bus an event is a CloudEvent in binary mode: this package's struct is the
// JSON body, everything about the message itself travels in headers (see libs/bus).
// Consumers see every event at least once and in any order; the header
// ce-aggversion orders the events of one aggregate.
//
// The types only ever grow: a field may be added, never renamed, retyped or
// removed, and a decoder ignores what it does not know. A break of meaning is a new
// event type with a new version. JSON Schemas are generated from these structs into
// contracts/schema; samples of every version that was ever released must decode for
// ever (testdata).
package event

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/certctl/certctl/contracts/subject"
)

// Event is one fact about one aggregate.
type Event interface {
	// About names the aggregate, its id and what happened to it, as they stand in
	// the event's subject.
	About() (aggregate, id, name string)
}

// ErrUnknown is returned for a type that this build does not know: a newer
// publisher is at work. Consumers skip such an event.
var ErrUnknown = errors.New("unknown event type")

// All lists a zero value of every event, the order in which schemas are written.
func All() []Event {
	return []Event{
		CertificateRequested{},
		CertificateKeyRequested{},
		CertificateIssued{},
		CertificateRenewed{},
		CertificateActivated{},
		CertificateFailed{},
		CertificateArchived{},
		CertificateUpdated{},
		CertificateDeploymentRequested{},
		CertificateExpiring{},
		CertificateExpired{},
		CertificateImported{},
		CertificateKeyReleased{},
		JobApproved{},
		JobRejected{},
		CSRSubmitted{},
		CSRFailed{},
		DeploymentStarted{},
		DeploymentCompleted{},
		DeploymentFailed{},
		DeploymentRolledBack{},
		DeploymentVerified{},
		DeploymentDiverged{},
		AgentRegistered{},
		AgentOnline{},
		AgentOffline{},
		AgentRetired{},
		SiteCreated{},
		SiteConnected{},
		TargetCreated{},
		TargetUpdated{},
		TargetDeleted{},
		IssuerConfigured{},
		IssuerExpiring{},
		IssuerCircuitChanged{},
		TeamChanged{},
		OwnerChanged{},
		IssuerChanged{},
		ProfileChanged{},
		PolicyChanged{},
		PolicyViolated{},
		RenewalPolicyChanged{},
		BlockedKeyChanged{},
		AgentGroupChanged{},
		CampaignStarted{},
		CampaignPaused{},
		CampaignResumed{},
		CampaignStopped{},
		CampaignCompleted{},
		CampaignWaveCompleted{},
		APIKeyChanged{},
		CheckpointSigned{},
		APICalled{},
	}
}

// Type is the CloudEvents type, such as certctl.certificate.issued.v1.
func Type(e Event) string {
	aggregate, _, name := e.About()
	return "certctl." + aggregate + "." + name + ".v1"
}

// Subject is where e is published, with all others of its type.
func Subject(e Event) string {
	aggregate, _, name := e.About()
	return subject.Event(aggregate, name)
}

var types = func() map[string]reflect.Type {
	m := map[string]reflect.Type{}
	for _, e := range All() {
		m[Type(e)] = reflect.TypeOf(e)
	}
	return m
}()

// Of what is said twice the last counts, and text that is no UTF-8 is mended.
var (
	lenient = jsontext.AllowDuplicateNames(true)
	unclean = jsontext.AllowInvalidUTF8(true)
)

// Decode reads the body of an event of the given CloudEvents type. The result is a
// struct of this package, not a pointer. The error wraps [ErrUnknown] if the type is
// not known.
func Decode(ceType string, body []byte) (Event, error) {
	t, ok := types[ceType]
	if !ok {
		return nil, fmt.Errorf("%w: %s", ErrUnknown, ceType)
	}
	p := reflect.New(t)
	if err := json.Unmarshal(body, p.Interface(), lenient, unclean); err != nil {
		return nil, fmt.Errorf("decode %s: %w", ceType, err)
	}
	return p.Elem().Interface().(Event), nil
}
