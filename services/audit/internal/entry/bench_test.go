package entry

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/bus"
)

// renewal is what is told of one: messages as large as they are in practice.
func renewal(b *testing.B) []bus.Message {
	b.Helper()
	const cert, job, fingerprint = "mc-01k9xv6c3rjqkq5d8d6c0zq3ab", "job-01k9xv6c3rjqkq5d8d6c0zq3ab", "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
	sans, targets := []string{"host-0001.example.com", "www.host-0001.example.com"}, []string{"t-01k9xv6c3rjqkq5d8d6c0zq3ab"}
	about := event.Deployment{
		JobID: job, CertificateID: cert, VersionID: "cv-01k9xv6c3rjqkq5d8d6c0zq3ab", TargetID: targets[0], AgentID: "agent-07", Attempt: 1, FingerprintSHA256: fingerprint,
	}
	var out []bus.Message
	for _, e := range []event.Event{
		event.CertificateRequested{
			CertificateID: cert, JobID: job, CommonName: sans[0], SANs: sans, IssuerID: "iss-local", OwnerID: "o-1", TeamID: "t-1", Environment: "production",
			TargetIDs: targets, Renewal: true,
		},
		event.CSRSubmitted{CertificateID: cert, JobID: job, AgentID: "agent-07", CSRPEM: strings.Repeat("MIIBHDCBwwIBADAVMRMwEQYDVQQDDApleGFtcGxl\\n", 12)},
		event.CertificateRenewed{CertificateIssued: event.CertificateIssued{
			CertificateID: cert, JobID: job, IssuerID: "iss-local", CommonName: sans[0], SANs: sans, TargetIDs: targets, KeyAgentID: "agent-07",
			Version: event.Version{
				VersionID: about.VersionID, SerialNumber: fingerprint[:32], FingerprintSHA256: fingerprint, NotBefore: now, NotAfter: now.Add(90 * 24 * time.Hour),
				PEMChain: strings.Repeat("MIIBHDCBwwIBADAVMRMwEQYDVQQDDApleGFtcGxl\\n", 40), SPKISHA256: fingerprint,
			},
		}, PreviousVersionID: about.VersionID},
		event.DeploymentStarted{Deployment: about},
		event.DeploymentCompleted{Deployment: about, ServedFingerprintSHA256: fingerprint, DurationMillis: 12},
		event.CertificateActivated{CertificateID: cert, VersionID: about.VersionID},
	} {
		aggregate, of, _ := e.About()
		body, err := json.Marshal(e)
		if err != nil {
			b.Fatal(err)
		}
		out = append(out, bus.Message{
			ID: "ev-01k9xv6c3rjqkq5d8d6c0zq3ab", Type: event.Type(e), Source: "/certctl/issuer", Entity: aggregate + "/" + of, Time: now,
			CorrelationID: "01k9xv6c3rjqkq5d8d6c0zq3ab", Actor: "key-ada", Body: body,
		})
	}
	return out
}

// BenchmarkFromMessage is what the events of one renewal cost.
func BenchmarkFromMessage(b *testing.B) {
	messages := renewal(b)
	b.ReportAllocs()
	for b.Loop() {
		for _, m := range messages {
			if _, err := FromMessage(m); err != nil {
				b.Fatal(err)
			}
		}
	}
}
