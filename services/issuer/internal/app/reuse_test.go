package app_test

import (
	"testing"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/services/issuer/internal/app"
	"github.com/certctl/certctl/services/issuer/internal/ca/catest"
)

func TestRenewal_AsksTheAgentForItsKeyIfTheProfileSaysSo(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.target("tgt-1", "agent-1")
	w.target("tgt-2", "agent-2")
	id := w.profile(object{"name": "Pinned", "enabled": true, "reuse_key": true}).ID
	c := w.create(object{"common_name": "www.example.com", "certificate_profile_id": id, "target_ids": []string{"tgt-1"}})
	asked := w.keyRequest(c.ID, 1)
	if asked.ReuseSPKISHA256 != "" {
		t.Errorf("the first version is asked for with the key %s", asked.ReuseSPKISHA256)
	}
	key := catest.NewKey(t, ecdsa)
	w.answer(asked, key)
	issued, _ := hear(w, func(e event.CertificateIssued) bool { return e.CertificateID == c.ID })
	// served has it served, renewed, and returns what the agent is asked for.
	served := func(e event.CertificateIssued, target string) event.CertificateKeyRequested {
		t.Helper()
		w.publish(event.DeploymentCompleted{Deployment: deploymentOf(&e, target)}, 1)
		hear(w, func(a event.CertificateActivated) bool { return a.VersionID == e.VersionID })
		job := w.renew(c.ID, nil).JobID
		asked := w.asked(func(e event.CertificateKeyRequested) bool { return e.JobID == job })
		return asked
	}
	answered := func(asked event.CertificateKeyRequested) event.CertificateIssued {
		t.Helper()
		w.answer(asked, key)
		renewed, _ := hear(w, func(e event.CertificateRenewed) bool { return e.JobID == asked.JobID })
		return renewed.CertificateIssued
	}

	again := served(issued, "tgt-1")
	if again.ReuseSPKISHA256 != issued.SPKISHA256 || issued.SPKISHA256 == "" {
		t.Errorf("asked for the key %q, want %s", again.ReuseSPKISHA256, issued.SPKISHA256)
	}
	second := answered(again)
	if second.SPKISHA256 != issued.SPKISHA256 || second.VersionID == issued.VersionID {
		t.Errorf("renewed %+v", second)
	}

	// A key that is no longer allowed is given up, and so is that of another agent.
	w.changeProfile(id, object{"allowed_key_algorithms": []object{{"algorithm": "ECDSA", "min_size": 384}, {"algorithm": "RSA", "min_size": 2048}}})
	stronger := served(second, "tgt-1")
	if stronger.ReuseSPKISHA256 != "" || stronger.KeySize != 384 {
		t.Errorf("asked for %+v", stronger)
	}
	key = catest.NewKey(t, "ECDSA P-384")
	third := answered(stronger)
	w.exec(`UPDATE issuer.certificate_targets SET target_id = 'tgt-2' WHERE certificate_id = $1`, c.ID)
	if moved := served(third, "tgt-2"); moved.AgentID != "agent-2" || moved.ReuseSPKISHA256 != "" {
		t.Errorf("asked for %+v", moved)
	}
}

func TestRenewal_AsksForANewKeyByDefault(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.target("tgt-1", "agent-1")
	c, asked := w.withTarget("tgt-1")
	w.answer(asked, catest.NewKey(t, ecdsa))
	issued, _ := hear(w, func(e event.CertificateIssued) bool { return e.CertificateID == c.ID })
	w.publish(event.DeploymentCompleted{Deployment: deploymentOf(&issued, "tgt-1")}, 1)
	hear(w, func(a event.CertificateActivated) bool { return a.VersionID == issued.VersionID })
	job := w.renew(c.ID, nil).JobID
	if again := w.asked(func(e event.CertificateKeyRequested) bool { return e.JobID == job }); again.ReuseSPKISHA256 != "" {
		t.Errorf("asked for the key %s", again.ReuseSPKISHA256)
	}
}
