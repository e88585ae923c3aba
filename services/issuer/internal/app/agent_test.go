package app_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/httpapi/issuerapi"
	"github.com/certctl/certctl/libs/id"
	"github.com/certctl/certctl/libs/testkit/pgtest"
	"github.com/certctl/certctl/services/issuer/internal/app"
	"github.com/certctl/certctl/services/issuer/internal/ca/catest"
)

// withTarget asks for a certificate on a target, and waits until its agent has been asked for a key.
func (w *world) withTarget(targets ...string) (issuerapi.Certificate, event.CertificateKeyRequested) {
	w.t.Helper()
	c := w.create(map[string]any{"common_name": "www.example.com", "target_ids": targets})
	return c, w.keyRequest(c.ID, 1)
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	if _, err := pgtest.Admin(w.t, w.pool).Exec(w.t.Context(), sql, args...); err != nil {
		w.t.Fatal(err)
	}
}

// settled waits until everything that was published has been handled.
func (w *world) settled() {
	w.t.Helper()
	marker := id.New("tgt-")
	w.target(marker, "agent-marker")
}

func TestAnswer_ToNoOpenQuestionIsDropped(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.target("tgt-1", "agent-1")
	c, asked := w.withTarget("tgt-1")
	right := event.CSRSubmitted{
		CertificateID: c.ID, JobID: asked.JobID, Attempt: 1, AgentID: "agent-1",
		CSRPEM: catest.NewCSR(t, catest.NewKey(t, ecdsa), "www.example.com", "www.example.com"),
	}
	for name, change := range map[string]func(*event.CSRSubmitted){
		"another agent":       func(e *event.CSRSubmitted) { e.AgentID = "agent-2" },
		"another attempt":     func(e *event.CSRSubmitted) { e.Attempt = 2 },
		"another certificate": func(e *event.CSRSubmitted) { e.CertificateID = "mc-other" },
		"no such job":         func(e *event.CSRSubmitted) { e.JobID = "job-i-none" },
	} {
		wrong := right
		change(&wrong)
		w.publish(wrong, 1)
		w.settled()
		if j := w.job(asked.JobID); j.Status != issuerapi.JobStatusAwaitingCSR || j.Attempts != 1 {
			t.Fatalf("%s: job %+v", name, j)
		}
	}
	w.publish(right, 1)
	hear(w, func(e event.CertificateIssued) bool { return e.CertificateID == c.ID })
}

func TestAnswer_HasItsEffectOnce(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.target("tgt-1", "agent-1")
	c, asked := w.withTarget("tgt-1")
	answer := event.CSRSubmitted{
		CertificateID: c.ID, JobID: asked.JobID, Attempt: 1, AgentID: "agent-1",
		CSRPEM: catest.NewCSR(t, catest.NewKey(t, ecdsa), "www.example.com", "www.example.com"),
	}
	// The same message again, and the same answer in other messages, all at once.
	var wg sync.WaitGroup
	message := id.New("ev-")
	for range 8 {
		wg.Go(func() { w.publishAs(message, answer, 1) })
		wg.Go(func() { w.publish(answer, 1) })
	}
	wg.Wait()
	hear(w, func(e event.CertificateIssued) bool { return e.CertificateID == c.ID })
	w.settled()
	w.drained()
	issued := all(w.heard, func(e event.CertificateIssued) bool { return e.CertificateID == c.ID })
	if len(issued) != 1 {
		t.Errorf("issued %d times", len(issued))
	}
	if n := w.count(`SELECT count(*) FROM certificate_versions WHERE certificate_id = $1`, c.ID); n != 1 {
		t.Errorf("%d versions", n)
	}
}

func (w *world) count(sql string, args ...any) (n int) {
	w.t.Helper()
	if err := w.pool.QueryRow(w.t.Context(), sql, args...).Scan(&n); err != nil {
		w.t.Fatal(err)
	}
	return n
}

func TestAnswer_WithABadRequestFailsTheJobAndTheCertificateCanBeTriedAgain(t *testing.T) {
	for name, csr := range map[string]string{
		"other names": csrFor(t, "evil.example.com"),
		"a NUL":       csrFor(t, "www.example.com\x00evil", "www.example.com"),
		"garbage":     "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.start(app.Settings{})
			w.target("tgt-1", "agent-1")
			c, asked := w.withTarget("tgt-1")
			w.publish(event.CSRSubmitted{CertificateID: c.ID, JobID: asked.JobID, Attempt: 1, AgentID: "agent-1", CSRPEM: csr}, 1)
			failed, _ := hear(w, func(e event.CertificateFailed) bool { return e.CertificateID == c.ID })
			if failed.Stage != "issuance" || failed.Reason == "" {
				t.Errorf("failed %+v", failed)
			}
			now := w.certificate(c.ID)
			if now.Status != issuerapi.CertificateStatusFailed || *now.StatusReason != failed.Reason {
				t.Errorf("certificate %+v", now)
			}
			again := w.renew(c.ID, nil)
			if again.JobID == asked.JobID || w.certificate(c.ID).Status != issuerapi.CertificateStatusPending {
				t.Errorf("tried again: %+v", again)
			}
		})
	}
}

func TestAgent_ThatFailsIsAskedAgainAndThenGivenUp(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.target("tgt-1", "agent-1")
	c, asked := w.withTarget("tgt-1")
	for attempt := 1; attempt <= 3; attempt++ {
		asked = w.keyRequest(c.ID, attempt)
		w.publish(event.CSRFailed{CertificateID: c.ID, JobID: asked.JobID, Attempt: attempt, AgentID: "agent-1", Reason: "disk full\x00\n"}, 1)
		if attempt == 3 {
			break
		}
		w.await("the setback", func() bool { return w.job(asked.JobID).Status == issuerapi.JobStatusPending })
		now := w.certificate(c.ID)
		if now.StatusReason == nil || !strings.Contains(*now.StatusReason, "disk full") || !strings.Contains(*now.StatusReason, "next attempt at") {
			t.Errorf("reason %v", now.StatusReason)
		}
		// The back-off is over.
		w.exec(`UPDATE issuer.jobs SET next_action_at = now() WHERE id = $1`, asked.JobID)
		w.wakeWorker()
	}
	failed, _ := hear(w, func(e event.CertificateFailed) bool { return e.CertificateID == c.ID })
	if !strings.Contains(failed.Reason, "disk full") {
		t.Errorf("failed %+v", failed)
	}
	if j := w.job(asked.JobID); j.Status != issuerapi.JobStatusFailed || j.Attempts != 3 || j.LastError == nil {
		t.Errorf("job %+v", j)
	}
}

// wakeWorker has something committed, so that the worker looks.
func (w *world) wakeWorker() {
	w.t.Helper()
	w.create(map[string]any{"common_name": "wake.example.com", "target_ids": []string{"tgt-1"}})
}

func TestAgent_ThatDoesNotAnswerIsAskedAgainAndThenGivenUp(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{CSRDeadline: 150 * time.Millisecond})
	w.target("tgt-1", "agent-1")
	c, first := w.withTarget("tgt-1")
	failed, _ := hear(w, func(e event.CertificateFailed) bool { return e.CertificateID == c.ID })
	if !strings.Contains(failed.Reason, "agent-1 did not answer request 3 in time") {
		t.Errorf("failed %+v", failed)
	}
	asked := asks(w.heard, func(e event.CertificateKeyRequested) bool { return e.CertificateID == c.ID })
	if len(asked) != 3 {
		t.Errorf("asked %d times", len(asked))
	}
	for i, e := range asked {
		if e.Attempt != i+1 || e.JobID != first.JobID {
			t.Errorf("asked %+v", e)
		}
	}
	// Its answer, when it comes after all, changes nothing.
	w.answer(first, catest.NewKey(t, ecdsa))
	w.settled()
	if now := w.certificate(c.ID); now.Status != issuerapi.CertificateStatusFailed || now.SerialNumber != nil {
		t.Errorf("certificate %+v", now)
	}
}

func TestAgent_AnswersAfterTheCertificateWasArchived(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.target("tgt-1", "agent-1")
	c, asked := w.withTarget("tgt-1")
	w.must(http.StatusNoContent, http.MethodDelete, "archiveCertificate", certificates+"/"+c.ID, nil, nil)
	w.answer(asked, catest.NewKey(t, ecdsa))
	w.settled()
	if now := w.certificate(c.ID); now.Status != issuerapi.CertificateStatusArchived || now.SerialNumber != nil {
		t.Errorf("certificate %+v", now)
	}
	if n := w.count(`SELECT count(*) FROM certificate_versions`); n != 0 {
		t.Errorf("%d versions", n)
	}
}

func TestDeployment_ThatFailsFailsTheCertificateUntilItIsServedAfterAll(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.target("tgt-1", "agent-1")
	w.target("tgt-2", "agent-1")
	c, asked := w.withTarget("tgt-1", "tgt-2")
	w.answer(asked, catest.NewKey(t, ecdsa))
	issued, _ := hear(w, func(e event.CertificateIssued) bool { return e.CertificateID == c.ID })

	w.publish(event.DeploymentRolledBack{Deployment: deploymentOf(&issued, "tgt-1"), Reason: "nginx -t says no"}, 1)
	w.await("the reason", func() bool {
		now := w.certificate(c.ID)
		return now.Status == issuerapi.CertificateStatusPending && now.StatusReason != nil && strings.Contains(*now.StatusReason, "nginx -t says no")
	})
	w.publish(event.DeploymentFailed{Deployment: deploymentOf(&issued, "tgt-1"), Reason: "nginx -t says no"}, 2)
	failed, _ := hear(w, func(e event.CertificateFailed) bool { return e.CertificateID == c.ID })
	if failed.Stage != "deployment" || !strings.Contains(failed.Reason, "tgt-1") {
		t.Errorf("failed %+v", failed)
	}
	w.publish(event.DeploymentCompleted{Deployment: deploymentOf(&issued, "tgt-2")}, 1)
	w.settled()
	if now := w.certificate(c.ID); now.Status != issuerapi.CertificateStatusFailed {
		t.Errorf("one target of two: %s", now.Status)
	}
	w.publish(event.DeploymentCompleted{Deployment: deploymentOf(&issued, "tgt-1")}, 3)
	hear(w, func(e event.CertificateActivated) bool { return e.CertificateID == c.ID })
	if now := w.certificate(c.ID); now.Status != issuerapi.CertificateStatusActive || now.StatusReason != nil {
		t.Errorf("certificate %+v", now)
	}
}

func TestTargets_AreAsTheNewestEventSaysInWhateverOrderTheyCome(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	of := func(agent string) event.Target {
		return event.Target{TargetID: "tgt-1", Name: "web", Type: "NGINX", AgentID: agent, Enabled: true}
	}
	w.publish(event.TargetUpdated{Target: of("agent-3")}, 3)
	w.publish(event.TargetCreated{Target: of("agent-1")}, 1)
	w.publish(event.TargetUpdated{Target: of("agent-2")}, 2)
	w.settled()
	if n := w.count(`SELECT count(*) FROM target_agents WHERE target_id = 'tgt-1' AND agent_id = 'agent-3' AND version = 3`); n != 1 {
		t.Error("an older event won")
	}
	w.publish(event.TargetDeleted{TargetID: "tgt-1"}, 5)
	w.publish(event.TargetUpdated{Target: of("agent-4")}, 4)
	w.settled()
	w.deployment(nil)
	w.refused(http.StatusBadRequest, http.MethodPost, "createCertificate", certificates,
		map[string]any{"common_name": "www.example.com", "target_ids": []string{"tgt-1"}})
}
