package app_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/httpapi/issuerapi"
	"github.com/certctl/certctl/services/issuer/internal/app"
	"github.com/certctl/certctl/services/issuer/internal/ca/catest"
)

func TestRestart_KeepsTheCAAndTellsOfItOnce(t *testing.T) {
	w := newWorld(t)
	first := w.start(app.Settings{})
	configured, _ := hear(w, func(event.IssuerConfigured) bool { return true })
	if configured.IssuerID != "iss-local" || configured.Type != "GenericCA" || !configured.SignsCRL || configured.CAChainPEM == "" {
		t.Errorf("configured %+v", configured)
	}
	first.end()
	second := w.start(app.Settings{})
	c := w.create(map[string]any{"common_name": "www.example.com", "csr_pem": csrFor(t, "www.example.com")})
	hear(w, func(e event.CertificateIssued) bool { return e.CertificateID == c.ID })
	if told := all(w.heard, func(event.IssuerConfigured) bool { return true }); len(told) != 1 {
		t.Errorf("told %d times of the same CA", len(told))
	}
	var i issuerapi.Issuer
	w.must(200, "GET", "getIssuer", "/api/v1/issuers/iss-local", nil, &i)
	if i.CaChainPem == nil || *i.CaChainPem != configured.CAChainPEM || i.Config["mode"] != "self-signed" {
		t.Errorf("issuer %+v", i)
	}
	second.end()
}

// A worker that died had claimed the job and done nothing, or had signed and not stored it: the same to see from here.
func TestRestart_TakesUpWhatADeadWorkerHeld(t *testing.T) {
	w := newWorld(t)
	first := w.start(app.Settings{})
	w.target("tgt-1", "agent-1")
	first.end()
	w.exec(`INSERT INTO issuer.certificates (id, name, common_name, sans, owner_id, team_id, issuer_id, renewal_policy_id, status, created_at, updated_at)
		VALUES ('mc-1', 'a', 'www.example.com', '{www.example.com}', 'o-default', 't-default', 'iss-local', 'rp-default', 'Pending', now(), now())`)
	w.exec(`INSERT INTO issuer.certificate_targets (certificate_id, target_id, position) VALUES ('mc-1', 'tgt-1', 1)`)
	w.exec(`INSERT INTO issuer.jobs (id, type, certificate_id, status, lease_until, next_action_at, lease_token, requested_by, created_at, started_at)
		VALUES ('job-i-1', 'Issuance', 'mc-1', 'Running', now() + interval '300 ms', now() + interval '300 ms', 2, 'key-1', now(), now())`)
	w.start(app.Settings{})
	asked := w.keyRequest("mc-1", 1)
	w.answer(asked, catest.NewKey(t, ecdsa))
	issued, message := hear(w, func(e event.CertificateIssued) bool { return e.CertificateID == "mc-1" })
	if issued.JobID != "job-i-1" || message.Actor != "key-1" {
		t.Errorf("issued %+v", issued)
	}
}

func TestRestart_LosesNothingWhileTheBusIsAway(t *testing.T) {
	w := newWorld(t)
	i := w.start(app.Settings{})
	w.target("tgt-1", "agent-1")
	c, asked := w.withTarget("tgt-1")
	i.end()
	w.answer(asked, catest.NewKey(t, ecdsa))
	w.nats.Restart()
	w.await("the bus", func() bool { return w.conn.NC.IsConnected() })
	w.start(app.Settings{})
	w.await("the certificate to be issued", func() bool { return w.certificate(c.ID).SerialNumber != nil })
	w.drained()
}

// Two issuers on one database, stopped and started in turn while agents answer: every certificate is issued once.
func TestReplicas_IssueEachCertificateOnceWhileTheyComeAndGo(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	replica := w.start(app.Settings{})
	w.target("tgt-1", "agent-1")
	const n = 60
	ids := make([]string, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			ids[i] = w.create(map[string]any{"common_name": fmt.Sprintf("host-%d.example.com", i), "target_ids": []string{"tgt-1"}}).ID
		})
	}
	wg.Wait()
	for i, certificateID := range ids {
		if i%20 == 10 {
			replica.end()
			replica = w.start(app.Settings{})
		}
		asked := w.keyRequest(certificateID, 1)
		e := w.answer(asked, catest.NewKey(t, ecdsa))
		w.publish(e, 2)
	}
	w.await("all to be issued", func() bool { return w.count(`SELECT count(*) FROM certificate_versions`) == n })
	w.await("all to be told", func() bool {
		return len(all(w.heard, func(event.CertificateIssued) bool { return true })) == n
	})
	w.settled()
	if asked := asks(w.heard, func(event.CertificateKeyRequested) bool { return true }); len(asked) != n {
		t.Errorf("asked %d times for %d keys", len(asked), n)
	}
	if odd := w.count(`SELECT count(*) FROM certificates c JOIN jobs j ON j.certificate_id = c.id
		WHERE c.version <> 2 OR j.status <> 'Completed' OR j.version_id <> c.version_id`); odd != 0 {
		t.Errorf("%d certificates are not whole", odd)
	}
}

// The events of one certificate are numbered without gaps or doubles, whoever wrote them.
func TestEvents_OfACertificateAreNumbered(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.target("tgt-1", "agent-1")
	c, asked := w.withTarget("tgt-1")
	w.answer(asked, catest.NewKey(t, ecdsa))
	issued, _ := hear(w, func(e event.CertificateIssued) bool { return e.CertificateID == c.ID })
	w.publish(event.DeploymentCompleted{Deployment: deploymentOf(&issued, "tgt-1")}, 1)
	hear(w, func(e event.CertificateActivated) bool { return e.CertificateID == c.ID })
	w.must(204, "DELETE", "archiveCertificate", certificates+"/"+c.ID, nil, nil)
	hear(w, func(e event.CertificateArchived) bool { return e.CertificateID == c.ID })
	seen := map[int64]string{}
	w.heard.mu.Lock()
	for _, h := range w.heard.events {
		if aggregate, of, name := h.About(); aggregate == "certificate" && of == c.ID {
			seen[h.AggVersion] = name
		}
	}
	w.heard.mu.Unlock()
	want := map[int64]string{1: "requested", 2: "issued", 3: "activated", 4: "archived"}
	if fmt.Sprint(seen) != fmt.Sprint(want) {
		t.Errorf("events %v, want %v", seen, want)
	}
}

func TestJob_ThatNobodyWokeAWorkerForIsFoundBySweeping(t *testing.T) {
	w := newWorld(t)
	i := w.start(app.Settings{Sweep: 100 * time.Millisecond})
	w.target("tgt-1", "agent-1")
	w.exec(`INSERT INTO issuer.certificates (id, name, common_name, sans, owner_id, team_id, issuer_id, renewal_policy_id, status, created_at, updated_at)
		VALUES ('mc-1', 'a', 'www.example.com', '{www.example.com}', 'o-default', 't-default', 'iss-local', 'rp-default', 'Pending', now(), now())`)
	w.exec(`INSERT INTO issuer.certificate_targets (certificate_id, target_id, position) VALUES ('mc-1', 'tgt-1', 1)`)
	w.exec(`INSERT INTO issuer.jobs (id, type, certificate_id, status, next_action_at, requested_by, created_at)
		VALUES ('job-i-1', 'Issuance', 'mc-1', 'Pending', now(), 'key-1', now())`)
	w.keyRequest("mc-1", 1)
	i.end()
}
