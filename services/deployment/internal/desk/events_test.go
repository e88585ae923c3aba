package desk_test

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/libs/fault"
)

func keyRequested(job string, attempt int, agent string) event.CertificateKeyRequested {
	return event.CertificateKeyRequested{
		CertificateID: "mc-1", JobID: job, CommonName: "www.example.org", SANs: []string{"www.example.org"}, KeyRequest: event.KeyRequest{
			Attempt: attempt, AgentID: agent, KeyAlgorithm: "ECDSA", KeySize: 256, ReuseSPKISHA256: "abc", ExpiresAt: start.Add(time.Hour),
		},
	}
}

func TestKeyRequest_BecomesASignedOrderToItsAgent(t *testing.T) {
	w := newWorld(t)
	w.host("agent-a")
	w.hear(message(keyRequested("job-i-1", 1, "agent-a"), 1))

	orders := w.orders()
	if len(orders) != 1 {
		t.Fatalf("got %d orders, want 1", len(orders))
	}
	o := orders[0]
	if want := "certctl.agent.cmd.site-local.agent-a.keyrequest.job-i-1"; o.subject != want || o.ttl != "3600s" {
		t.Errorf("sent on %s for %s, want %s for 3600s", o.subject, o.ttl, want)
	}
	var body command.KeyRequest
	if err := json.Unmarshal(o.command.Body, &body); err != nil {
		t.Fatal(err)
	}
	want := command.KeyRequest{CertificateID: "mc-1", CommonName: "www.example.org", SANs: []string{"www.example.org"}, KeyAlgorithm: "ECDSA", KeySize: 256, ReuseSPKISHA256: "abc"}
	if diff := cmp.Diff(want, body); diff != "" {
		t.Error(diff)
	}
	if !o.command.ExpiresAt.Equal(start.Add(time.Hour)) || o.command.AgentID != "agent-a" || o.command.Attempt != 1 {
		t.Errorf("order: %+v", o.command)
	}
}

func TestKeyRequest_ThatComesWithTheRequestForACertificateIsPassedOn(t *testing.T) {
	w := newWorld(t)
	w.target("tgt-1", w.host("agent-a"))
	asked := keyRequested("job-i-1", 1, "agent-a")
	w.hear(message(event.CertificateRequested{
		CertificateID: asked.CertificateID, JobID: asked.JobID, CommonName: asked.CommonName, SANs: asked.SANs,
		TargetIDs: []string{"tgt-1"}, KeyRequest: asked.KeyRequest,
	}, 1))
	orders := w.orders()
	if len(orders) != 1 {
		t.Fatalf("got %d orders, want 1", len(orders))
	}
	var body command.KeyRequest
	if err := json.Unmarshal(orders[0].command.Body, &body); err != nil {
		t.Fatal(err)
	}
	want := command.KeyRequest{CertificateID: "mc-1", CommonName: "www.example.org", SANs: []string{"www.example.org"}, KeyAlgorithm: "ECDSA", KeySize: 256, ReuseSPKISHA256: "abc"}
	if diff := cmp.Diff(want, body); diff != "" {
		t.Error(diff)
	}
	if o := orders[0].command; o.JobID != "job-i-1" || o.AgentID != "agent-a" || o.Attempt != 1 || !o.ExpiresAt.Equal(start.Add(time.Hour)) {
		t.Errorf("order: %+v", o)
	}
	if got := one[[]string](w, `SELECT target_ids FROM certificates WHERE id = 'mc-1'`); !slices.Equal(got, []string{"tgt-1"}) {
		t.Errorf("the certificate is noted with targets %v", got)
	}
}

func TestKeyRequest_ThatNoAgentCanAnswerFailsAtOnce(t *testing.T) {
	w := newWorld(t)
	w.host("agent-retired")
	w.exec(`UPDATE agents SET status = 'Retired', retired_at = now()`)
	w.host("agent-a")
	late := keyRequested("job-i-3", 1, "agent-a")
	late.ExpiresAt = start
	w.hear(
		message(keyRequested("job-i-1", 1, "agent-unknown"), 1),
		message(keyRequested("job-i-2", 1, "agent-retired"), 1),
		message(late, 1),
	)
	if got := w.orders(); len(got) != 0 {
		t.Errorf("orders were sent: %v", got)
	}
	want := []string{"csr.job-i-1.failed", "csr.job-i-2.failed", "csr.job-i-3.failed"}
	if diff := cmp.Diff(want, w.events()); diff != "" {
		t.Error(diff)
	}
}

func TestKeyRequest_OfALaterAttemptReplacesTheEarlier(t *testing.T) {
	for name, messages := range map[string][][]bus.Message{
		"in order":     {{message(keyRequested("job-i-1", 1, "agent-a"), 1)}, {message(keyRequested("job-i-1", 2, "agent-a"), 2)}},
		"out of order": {{message(keyRequested("job-i-1", 2, "agent-a"), 2)}, {message(keyRequested("job-i-1", 1, "agent-a"), 1)}},
		"together":     {{message(keyRequested("job-i-1", 2, "agent-a"), 2), message(keyRequested("job-i-1", 1, "agent-a"), 1)}},
		"twice":        {{message(keyRequested("job-i-1", 2, "agent-a"), 2)}, {message(keyRequested("job-i-1", 2, "agent-a"), 2)}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.host("agent-a")
			for _, batch := range messages {
				w.hear(batch...)
			}
			if got := one[[]int](w, `SELECT array_agg(attempt) FROM agent_work WHERE closed_at IS NULL`); !slices.Equal(got, []int{2}) {
				t.Errorf("open attempts: %v, want only the second", got)
			}
		})
	}
}

func TestIssued_MakesOneJobAndOneOrderForEachTarget(t *testing.T) {
	w := newWorld(t)
	a, b := w.host("agent-a"), w.host("agent-b")
	w.target("tgt-1", a)
	w.target("tgt-2", b)
	e := message(issued("mc-1", "cv-1", 0, "tgt-1", "tgt-2"), 3)
	w.hear(e)
	again := e
	again.ID = "ev-replayed"
	w.hear(again)

	jobs := w.jobs()
	if len(jobs) != 2 || jobs[0].Status != "Pending" || jobs[0].Agent != "agent-a" || jobs[1].Agent != "agent-b" || jobs[0].Attempts != 1 {
		t.Fatalf("jobs: %+v", jobs)
	}
	orders := w.orders()
	if len(orders) != 2 {
		t.Fatalf("got %d orders, want 2", len(orders))
	}
	var body command.Deploy
	if err := json.Unmarshal(orders[0].command.Body, &body); err != nil {
		t.Fatal(err)
	}
	if body.PEMChain != "chain of cv-1" || body.FingerprintSHA256 != "f-cv-1" || body.TargetType != "NGINX" || len(body.TargetConfig) == 0 {
		t.Errorf("order: %+v", body)
	}
	if got := one[string](w, `SELECT correlation_id FROM agent_work LIMIT 1`); got != "req-1" {
		t.Errorf("the order does not lead back to the request: %q", got)
	}
}

func TestIssued_FailsAtOnceWhereItCannotBeDeployed(t *testing.T) {
	w := newWorld(t)
	a, gone := w.host("agent-a"), w.host("agent-gone")
	w.target("tgt-off", a)
	w.exec(`UPDATE targets SET enabled = false`)
	w.target("tgt-retired", gone)
	w.exec(`UPDATE agents SET status = 'Retired', retired_at = now() WHERE id = 'agent-gone'`)
	w.target("tgt-elsewhere", a)
	e := issued("mc-1", "cv-1", 0, "tgt-unknown", "tgt-off", "tgt-retired", "tgt-elsewhere")
	e.KeyAgentID = "agent-b"
	w.hear(message(e, 1))

	reasons := map[string]string{}
	for _, j := range w.jobs() {
		if j.Status != "Failed" {
			t.Errorf("job of %s is %s", j.Target, j.Status)
		}
		reasons[j.Target] = j.Error
	}
	want := map[string]string{
		"tgt-unknown":   "there is no target tgt-unknown",
		"tgt-off":       "target tgt-off is disabled",
		"tgt-retired":   "agent agent-gone of target tgt-retired is retired",
		"tgt-elsewhere": "the key of version cv-1 is on agent agent-b, and target tgt-elsewhere belongs to agent agent-a",
	}
	if diff := cmp.Diff(want, reasons); diff != "" {
		t.Error(diff)
	}
	if got := len(w.events()); got != 4 || len(w.orders()) != 0 {
		t.Errorf("%d events and %d orders, want 4 and 0", got, len(w.orders()))
	}
	if got := last[event.DeploymentFailed](w); got.Reason == "" || got.VersionID != "cv-1" || got.FingerprintSHA256 != "f-cv-1" {
		t.Errorf("event: %+v", got)
	}
}

func TestRenewed_SupersedesWhatIsStillOnItsWay(t *testing.T) {
	w := newWorld(t)
	a := w.host("agent-a")
	w.target("tgt-1", a)
	w.hear(message(issued("mc-1", "cv-1", 0, "tgt-1"), 1))
	first := w.orders()[0].command
	w.hear(message(event.CertificateRenewed{CertificateIssued: issued("mc-1", "cv-2", 1, "tgt-1")}, 2))

	status := map[string]string{}
	for _, j := range w.jobs() {
		status[j.Version] = j.Status + " " + j.Error
	}
	want := map[string]string{"cv-1": "Cancelled superseded by version cv-2", "cv-2": "Pending "}
	if diff := cmp.Diff(want, status); diff != "" {
		t.Error(diff)
	}
	// The agent was at work on the old order; what it says of it changes nothing.
	w.told(a.answer(first, command.OutcomeStarted), a.answer(first, command.OutcomeCompleted))
	if got := one[string](w, `SELECT status FROM jobs WHERE version_id = 'cv-1'`); got != "Cancelled" {
		t.Errorf("the superseded job is %s", got)
	}
	if got := w.events(); len(got) != 0 {
		t.Errorf("events: %v", got)
	}
}

func TestRenewed_HeardBeforeAnOlderVersionStays(t *testing.T) {
	newer := message(event.CertificateRenewed{CertificateIssued: issued("mc-1", "cv-2", 1, "tgt-1")}, 2)
	older := message(issued("mc-1", "cv-1", 0, "tgt-1"), 1)
	for name, batches := range map[string][][]bus.Message{
		"one by one": {{newer}, {older}}, "together": {{newer, older}}, "together in order": {{older, newer}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.target("tgt-1", w.host("agent-a"))
			for _, b := range batches {
				w.hear(b...)
			}
			jobs := w.jobs()
			if len(jobs) != 1 || jobs[0].Version != "cv-2" || jobs[0].Status != "Pending" {
				t.Errorf("jobs: %+v", jobs)
			}
		})
	}
}

func TestVersions_OfTheSameSecondAreToldApartByTheirRevision(t *testing.T) {
	w := newWorld(t)
	w.target("tgt-1", w.host("agent-a"))
	w.hear(message(issued("mc-1", "cv-z", 0, "tgt-1"), 1))
	w.hear(message(issued("mc-1", "cv-a", 0, "tgt-1"), 2))
	if got := one[string](w, `SELECT version_id FROM certificates`); got != "cv-a" {
		t.Errorf("newest version: %s, want cv-a", got)
	}
}

func TestIssued_WithoutTargetsIsOfNoConcern(t *testing.T) {
	w := newWorld(t)
	w.hear(message(issued("mc-1", "cv-1", 0), 1))
	if n := one[int](w, `SELECT count(*) FROM certificates`); n != 0 {
		t.Errorf("%d certificates are kept", n)
	}
	w.target("tgt-1", w.host("agent-a"))
	w.hear(message(issued("mc-2", "cv-2", 0, "tgt-1"), 1))
	// Its targets were taken away before the next version.
	w.hear(message(event.CertificateRenewed{CertificateIssued: issued("mc-2", "cv-3", 1)}, 2))
	if got := w.jobs(); len(got) != 1 || got[0].Status != "Cancelled" {
		t.Errorf("jobs: %+v", got)
	}
}

func TestArchived_CallsOffItsJobsAndFreesItsTargets(t *testing.T) {
	w := newWorld(t)
	w.target("tgt-1", w.host("agent-a"))
	w.hear(message(issued("mc-1", "cv-1", 0, "tgt-1"), 1))
	w.hear(message(event.CertificateArchived{CertificateID: "mc-1"}, 2))
	// An older event that comes late deploys nothing.
	w.hear(message(issued("mc-2", "cv-2", 0), 1), message(event.CertificateArchived{CertificateID: "mc-3"}, 2))
	w.hear(message(issued("mc-3", "cv-3", 0, "tgt-1"), 1))
	if got := w.jobs(); len(got) != 1 || got[0].Status != "Cancelled" || got[0].Error != "the certificate was archived" {
		t.Errorf("jobs: %+v", got)
	}
	if n := one[int](w, `SELECT count(*) FROM certificates WHERE target_ids @> '{tgt-1}' AND NOT archived`); n != 0 {
		t.Error("the target is still in use")
	}
}

func TestEvents_ThatCannotBeReadAreRefused(t *testing.T) {
	w := newWorld(t)
	broken := message(issued("mc-1", "cv-1", 0), 1)
	broken.Body = []byte(`{"certificate_id": 7}`)
	wild := message(issued("mc-1", "cv-1", 0), 1)
	wild.Body = []byte(`{"certificate_id": "mc-1", "version_id": "cv-1", "target_ids": ["a,b"]}`)
	for _, m := range []bus.Message{broken, wild} {
		if err := w.in(w.desk.Events, m); fault.VerdictOf(err) != fault.Term {
			t.Errorf("got %v, want a refusal", err)
		}
	}
	unknown := message(issued("mc-1", "cv-1", 0), 1)
	unknown.Type = "certctl.certificate.issued.v9"
	w.hear(unknown)
}
