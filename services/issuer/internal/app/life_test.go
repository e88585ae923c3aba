package app_test

import (
	"crypto"
	"encoding/hex"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/httpapi/issuerapi"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/app"
	"github.com/certctl/certctl/services/issuer/internal/ca/catest"
)

const ecdsa = "ECDSA P-256"

func csrFor(t testing.TB, names ...string) string {
	t.Helper()
	return catest.NewCSR(t, catest.NewKey(t, ecdsa), names[0], names...)
}

// target makes a target known and waits until it is.
func (w *world) target(targetID, agentID string) {
	w.t.Helper()
	w.publish(event.TargetCreated{Target: event.Target{TargetID: targetID, Name: targetID, Type: "NGINX", AgentID: agentID, Enabled: true}}, 1)
	w.await("target "+targetID+" to be known", func() bool {
		var n int
		if err := w.pool.QueryRow(w.t.Context(), `SELECT count(*) FROM target_agents WHERE target_id = $1`, targetID).Scan(&n); err != nil {
			w.t.Fatal(err)
		}
		return n == 1
	})
}

func (w *world) keyRequest(certificateID string, attempt int) event.CertificateKeyRequested {
	w.t.Helper()
	asked := w.asked(func(e event.CertificateKeyRequested) bool {
		return e.CertificateID == certificateID && e.Attempt == attempt
	})
	return asked
}

// answer hands in a signing request as the agent that was asked.
func (w *world) answer(asked event.CertificateKeyRequested, key crypto.Signer) event.CSRSubmitted {
	w.t.Helper()
	e := event.CSRSubmitted{
		CertificateID: asked.CertificateID, JobID: asked.JobID, Attempt: asked.Attempt, AgentID: asked.AgentID,
		CSRPEM: catest.NewCSR(w.t, key, asked.CommonName, asked.SANs...),
	}
	w.publish(e, 1)
	return e
}

func deploymentOf(e *event.CertificateIssued, targetID string) event.Deployment {
	return event.Deployment{
		JobID: "job-d-" + targetID, CertificateID: e.CertificateID, VersionID: e.VersionID, TargetID: targetID,
		AgentID: e.KeyAgentID, Attempt: 1, FingerprintSHA256: e.FingerprintSHA256,
	}
}

func TestIssuer_SignsARequestAtOnce(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{PublicURL: "http://127.0.0.1:8080"})
	key := catest.NewKey(t, ecdsa)
	c := w.create(map[string]any{
		"common_name": "www.example.com", "sans": []string{"example.com"},
		"csr_pem": catest.NewCSR(t, key, "www.example.com", "www.example.com", "example.com"),
	})
	if c.Status != issuerapi.CertificateStatusActive || c.Version == nil || c.JobID == nil {
		t.Fatalf("answer %+v", c)
	}
	certs, err := x509x.ParseCertificates([]byte(c.Version.PemChain))
	if err != nil || !x509x.SameKey(certs[0].PublicKey, key.Public()) {
		t.Fatalf("version %s: %v", c.Version.PemChain, err)
	}
	again := w.certificate(c.ID)
	c.JobID, c.Version = nil, nil
	if diff := cmp.Diff(c, again); diff != "" {
		t.Errorf("the answer and the record differ (-answer +record):\n%s", diff)
	}

	requested, first := hear(w, func(e event.CertificateRequested) bool { return e.CertificateID == c.ID })
	issued, second := hear(w, func(e event.CertificateIssued) bool { return e.CertificateID == c.ID })
	if first.AggVersion != 1 || second.AggVersion != 2 || first.Actor != admin.ID || first.CorrelationID == "" || first.CorrelationID != second.CorrelationID {
		t.Errorf("events %+v\n%+v", first.Message, second.Message)
	}
	if requested.OwnerID != "o-default" || requested.TeamID != "t-default" || issued.SerialNumber != *again.SerialNumber || issued.PEMChain == "" {
		t.Errorf("events %+v\n%+v", requested, issued)
	}
	if want := hex.EncodeToString(certs[0].AuthorityKeyId); want == "" || issued.AuthorityKeyID != want {
		t.Errorf("signed by the key %q, want %q", issued.AuthorityKeyID, want)
	}
	j := w.job(issued.JobID)
	if j.Status != issuerapi.JobStatusCompleted || j.CompletedAt == nil || *j.VersionID != issued.VersionID {
		t.Errorf("job %+v", j)
	}
	var versions issuerapi.CertificateVersionList
	w.must(http.StatusOK, http.MethodGet, "listCertificateVersions", "/api/v1/certificates/"+c.ID+"/versions", nil, &versions)
	if versions.Total != 1 || len(versions.Data) != 1 || versions.Data[0].ID != issued.VersionID {
		t.Errorf("versions %+v", versions)
	}
}

func TestIssuer_TakesACertificateFromRequestToItsTargetsAndRenewsIt(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.target("tgt-1", "agent-1")
	w.target("tgt-2", "agent-1")
	c := w.create(map[string]any{"common_name": "www.example.com", "target_ids": []string{"tgt-1", "tgt-2"}})
	if c.Status != issuerapi.CertificateStatusPending {
		t.Fatalf("status %s", c.Status)
	}
	asked := w.keyRequest(c.ID, 1)
	if asked.AgentID != "agent-1" || asked.KeyAlgorithm != "ECDSA" || asked.KeySize != 256 || asked.JobID != *c.JobID {
		t.Errorf("asked %+v", asked)
	}
	if j := w.job(asked.JobID); j.Status != issuerapi.JobStatusAwaitingCSR || j.Attempts != 1 {
		t.Errorf("job %+v", j)
	}
	key := catest.NewKey(t, ecdsa)
	w.answer(asked, key)
	issued, _ := hear(w, func(e event.CertificateIssued) bool { return e.CertificateID == c.ID })
	if issued.KeyAgentID != "agent-1" || !cmp.Equal(issued.TargetIDs, []string{"tgt-1", "tgt-2"}) {
		t.Errorf("issued %+v", issued)
	}
	if now := w.certificate(c.ID); now.Status != issuerapi.CertificateStatusPending || now.SerialNumber == nil {
		t.Errorf("before it is served: %+v", now)
	}

	w.publish(event.DeploymentCompleted{Deployment: deploymentOf(&issued, "tgt-2")}, 1)
	w.publish(event.DeploymentCompleted{Deployment: deploymentOf(&issued, "tgt-1")}, 1)
	activated, _ := hear(w, func(e event.CertificateActivated) bool { return e.CertificateID == c.ID })
	if activated.VersionID != issued.VersionID {
		t.Errorf("activated %+v", activated)
	}
	if now := w.certificate(c.ID); now.Status != issuerapi.CertificateStatusActive || now.LastDeploymentAt == nil {
		t.Errorf("after it is served: %+v", now)
	}

	triggered := w.renew(c.ID, nil)
	if now := w.certificate(c.ID); now.Status != issuerapi.CertificateStatusRenewalInProgress {
		t.Errorf("status %s", now.Status)
	}
	again := w.asked(func(e event.CertificateKeyRequested) bool { return e.JobID == triggered.JobID })
	w.answer(again, catest.NewKey(t, ecdsa))
	renewed, _ := hear(w, func(e event.CertificateRenewed) bool { return e.CertificateID == c.ID })
	if renewed.PreviousVersionID != issued.VersionID || renewed.SerialNumber == issued.SerialNumber {
		t.Errorf("renewed %+v", renewed)
	}
	// What is late to tell of the version before changes nothing.
	w.publish(event.DeploymentFailed{Deployment: deploymentOf(&issued, "tgt-1"), Reason: "late"}, 2)
	for _, target := range []string{"tgt-1", "tgt-2"} {
		w.publish(event.DeploymentCompleted{Deployment: deploymentOf(&renewed.CertificateIssued, target)}, 1)
	}
	hear(w, func(e event.CertificateActivated) bool { return e.VersionID == renewed.VersionID })
	now := w.certificate(c.ID)
	if now.Status != issuerapi.CertificateStatusActive || *now.SerialNumber != renewed.SerialNumber || now.LastRenewalAt == nil {
		t.Errorf("after the renewal: %+v", now)
	}
	if failed := all(w.heard, func(e event.CertificateFailed) bool { return e.CertificateID == c.ID }); len(failed) != 0 {
		t.Errorf("failed %+v", failed)
	}
}
