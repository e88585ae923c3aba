package app_test

import (
	"encoding/csv"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/httpapi/issuerapi"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/app"
	"github.com/certctl/certctl/services/issuer/internal/ca/catest"
)

const campaigns = "/api/v1/campaigns"

func (w *world) campaignPlan(body object) (p issuerapi.CampaignPlan) {
	w.t.Helper()
	body["dry_run"] = true
	w.must(http.StatusOK, http.MethodPost, "createCampaign", campaigns, body, &p)
	delete(body, "dry_run")
	return p
}

func (w *world) campaign(body object) (c issuerapi.Campaign) {
	w.t.Helper()
	w.must(http.StatusCreated, http.MethodPost, "createCampaign", campaigns, body, &c)
	return c
}

func (w *world) campaignNow(id string) (c issuerapi.Campaign) {
	w.t.Helper()
	w.must(http.StatusOK, http.MethodGet, "getCampaign", campaigns+"/"+id, nil, &c)
	return c
}

func (w *world) steer(id, verb string) (c issuerapi.Campaign) {
	w.t.Helper()
	w.must(http.StatusOK, http.MethodPost, verb+"Campaign", campaigns+"/"+id+"/"+verb, nil, &c)
	return c
}

// ends waits until a campaign is in a state, with nothing under way.
func (w *world) ends(id string, as issuerapi.CampaignStatus) (c issuerapi.Campaign) {
	w.t.Helper()
	defer func() {
		if w.t.Failed() {
			w.t.Logf("campaign %+v", c)
		}
	}()
	w.await("campaign "+id+" to be "+string(as), func() bool {
		c = w.campaignNow(id)
		return c.Status == as && c.Counts.Renewing+c.Counts.Issued == 0
	})
	return c
}

func (w *world) campaignItems(id, query string) []issuerapi.CampaignItem {
	w.t.Helper()
	var l issuerapi.CampaignItemList
	w.must(http.StatusOK, http.MethodGet, "listCampaignItems", campaigns+"/"+id+"/items?per_page=500&"+query, nil, &l)
	return l.Data
}

// keyHeld makes certificates whose keys are their requesters', mc-<prefix>-00 and so on.
func (w *world) keyHeld(prefix string, n int, more object) {
	w.t.Helper()
	key := catest.NewKey(w.t, ecdsa)
	each(8, n, func(i int) {
		name := fmt.Sprintf("%s-%02d.example.com", prefix, i)
		body := object{"id": fmt.Sprintf("mc-%s-%02d", prefix, i), "common_name": name, "csr_pem": catest.NewCSR(w.t, key, name, name)}
		maps.Copy(body, more)
		w.create(body)
	})
}

// caOf is a fingerprint of an issuer's CA certificate, and the identifier of its key.
func (w *world) caOf(issuerID string) (fingerprint, key string) {
	w.t.Helper()
	chain, err := x509x.ParseCertificates([]byte(*w.read(issuerID).CaChainPem))
	if err != nil {
		w.t.Fatal(err)
	}
	return x509x.Fingerprint(chain[0].Raw), hex.EncodeToString(chain[0].SubjectKeyId)
}

func (w *world) newCA() string {
	w.t.Helper()
	return w.issuer(object{"id": "iss-new", "name": "New CA", "type": "GenericCA", "enabled": true}).ID
}

func TestCampaign_MovesCertificatesAwayFromACAKeyInWaves(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.newCA()
	w.keyHeld("old", 26, nil)
	w.keyHeld("other", 2, object{"issuer_id": "iss-new"})
	w.must(http.StatusNoContent, http.MethodDelete, "archiveCertificate", certificates+"/mc-old-25", nil, nil)
	// As an older build left them.
	w.exec(`UPDATE issuer.certificate_versions SET authority_key_id = NULL`)
	fingerprint, oldKey := w.caOf("iss-local")
	_, newKey := w.caOf("iss-new")
	body := object{
		"name": "Away from the old key", "selection": object{"ca_fingerprint_sha256": strings.ToUpper(fingerprint)}, "to_issuer_id": "iss-new",
		"reuse_csr": true, "canary": object{"ids": []string{"mc-old-07", "mc-old-03"}}, "wave_size": 10,
	}
	plan := w.campaignPlan(body)
	if plan.Total != 26 || plan.WouldIssue != 25 || plan.WouldSkip != 1 || plan.RefusedBy["archived"] != 1 || plan.ByCaKey[oldKey] != 25 ||
		plan.ByIssuer["iss-local"] != 25 || plan.ByKey["ECDSA 256"] != 25 || plan.ByOwner["o-default"] != 25 || len(plan.Costs) != 1 ||
		plan.Costs[0].IssuerID != "iss-new" || plan.Costs[0].Requests != 25 || !slices.Equal(plan.Waves, []int{2, 10, 10, 3}) {
		t.Errorf("plan %+v", plan)
	}
	if n := w.count(`SELECT count(*) FROM campaigns`); n != 0 {
		t.Errorf("a dry run has made %d campaigns", n)
	}
	planned := w.campaign(body)
	if planned.Status != issuerapi.CampaignStatusPlanned || *planned.Selection.AuthorityKeyID != oldKey || planned.Counts.Pending != 25 || planned.LastWave != 3 {
		t.Errorf("campaign %+v", planned)
	}
	w.steer(planned.ID, "start")
	c := w.ends(planned.ID, issuerapi.CampaignStatusCompleted)
	if d := cmp.Diff(issuerapi.CampaignCounts{Total: 26, Done: 25, Skipped: 1}, c.Counts); d != "" {
		t.Error(d)
	}
	canary := w.campaignItems(c.ID, "wave=0")
	if len(canary) != 2 || canary[0].CertificateID != "mc-old-07" || canary[1].CertificateID != "mc-old-03" {
		t.Errorf("canary %+v", canary)
	}
	for _, i := range w.campaignItems(c.ID, "status=Done") {
		if i.New == nil || *i.New.AuthorityKeyID != newKey || *i.Old.AuthorityKeyID != oldKey || *i.New.FingerprintSha256 == *i.Old.FingerprintSha256 {
			t.Fatalf("item %+v", i)
		}
		if cert := w.certificate(i.CertificateID); cert.Status != issuerapi.CertificateStatusActive || cert.IssuerID != "iss-new" {
			t.Fatalf("certificate %+v", cert)
		}
	}
	// No wave begins before the one before it has ended.
	if n := w.count(`SELECT count(*) FROM campaign_items a JOIN campaign_items b ON b.wave > a.wave AND a.wave >= 0 WHERE b.begun_at < a.ended_at`); n != 0 {
		t.Errorf("%d pairs are out of order", n)
	}
	if n := w.count(`SELECT count(*) FROM certificate_versions`); n != 26+2+25 {
		t.Errorf("%d versions", n)
	}
	hear(w, func(e event.CampaignStarted) bool { return e.CampaignID == c.ID })
	done, message := hear(w, func(e event.CampaignCompleted) bool { return e.CampaignID == c.ID })
	if done.Counts.Done != 25 || message.AggVersion != 6 || message.CorrelationID == "" {
		t.Errorf("event %+v, %+v", done, message)
	}
	if waves := all(w.heard, func(e event.CampaignWaveCompleted) bool { return e.CampaignID == c.ID }); len(waves) != 4 {
		t.Errorf("%d waves were told of", len(waves))
	}
	moved, _ := hear(w, func(e event.CertificateUpdated) bool { return e.CertificateID == "mc-old-03" })
	if d := cmp.Diff(event.Changes{"issuer_id": {Before: "iss-local", After: "iss-new"}}, moved.Changes); d != "" {
		t.Error(d)
	}
	// The versions that events tell of have no gaps.
	if n := w.count(`SELECT count(*) FROM certificates c WHERE c.version <> (SELECT count(DISTINCT o.headers->'ce-aggversion'->>0)
		FROM outbox o WHERE o.headers->'ce-subject'->>0 = 'certificate/' || c.id)`); n != 0 {
		t.Errorf("the events of %d certificates have gaps", n)
	}
	w.reported(c.ID, oldKey, newKey)
	again := w.refused(http.StatusBadRequest, http.MethodPost, "createCampaign", campaigns, object{"name": "again", "selection": object{"issuer_id": "iss-none"}})
	if again.Errors[0].Name != "selection" {
		t.Errorf("again %+v", again)
	}
}

// reported checks the reports of the campaign above.
func (w *world) reported(id, oldKey, newKey string) {
	w.t.Helper()
	var r issuerapi.CampaignReport
	w.must(http.StatusOK, http.MethodGet, "getCampaignReport", campaigns+"/"+id+"/report", nil, &r)
	if len(r.Waves) != 4 || r.Waves[0].StartedAt == nil || r.Waves[3].CompletedAt == nil || r.OldVersions.StillValid != 25 || r.OldVersions.ValidUntil == nil ||
		r.OldVersions.NotReplaced != 1 || r.Durations.P99 < r.Durations.P50 || r.Durations.P50 <= 0 || len(r.Owners) != 1 || r.Owners[0].Counts.Done != 25 ||
		r.Plan.WouldIssue != 25 || len(r.Skipped) != 1 || r.Skipped[0].Count != 1 {
		w.t.Errorf("report %+v", r)
	}
	want := []issuerapi.CampaignCA{
		{Versions: "old", IssuerID: "iss-local", AuthorityKeyID: oldKey, Certificates: 26},
		{Versions: "new", IssuerID: "iss-new", AuthorityKeyID: newKey, Certificates: 25},
	}
	if d := cmp.Diff(want, r.Cas); d != "" {
		w.t.Error(d)
	}
	status, header, text := w.exchange(http.MethodGet, "getCampaignReport", campaigns+"/"+id+"/report", nil, http.Header{"Accept": {"text/csv"}})
	rows, err := csv.NewReader(strings.NewReader(string(text))).ReadAll()
	if status != http.StatusOK || err != nil || len(rows) != 27 || !strings.HasPrefix(header.Get("Content-Type"), "text/csv") {
		w.t.Errorf("%d, %v, %d lines: %s", status, err, len(rows), text)
	}
	status, text = w.try(http.MethodGet, "getCampaignReport", campaigns+"/"+id+"/report?format=markdown", nil)
	if status != http.StatusOK || !strings.Contains(string(text), "| canary | 2 | 2 | 0 | 0 |") || !strings.Contains(string(text), "25 are still valid") {
		w.t.Errorf("%d: %s", status, text)
	}
	if testing.Verbose() {
		w.t.Logf("%s", text)
	}
}

func TestCampaign_StopsItselfWhenItsCanaryFails(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.keyHeld("c", 30, nil)
	w.profile(object{"id": "prof-rsa", "name": "RSA", "enabled": true, "allowed_key_algorithms": []object{{"algorithm": "RSA", "min_size": 2048}}})
	c := w.campaign(object{
		"name": "bad", "selection": object{"issuer_id": "iss-local"}, "to_profile_id": "prof-rsa", "reuse_csr": true, "canary": object{"count": 3}, "start": true,
	})
	c = w.ends(c.ID, issuerapi.CampaignStatusStopped)
	if c.Counts.Failed == 0 || c.Counts.Pending != 27 || !strings.Contains(*c.Reason, "of the canary's 3 failed") {
		t.Errorf("campaign %+v", c)
	}
	told, _ := hear(w, func(e event.CampaignStopped) bool { return e.CampaignID == c.ID })
	if !told.Automatic || told.Reason != *c.Reason {
		t.Errorf("event %+v", told)
	}
	if n := w.count(`SELECT count(*) FROM certificates WHERE status <> 'Active' OR certificate_profile_id <> ''`); n != 0 {
		t.Errorf("%d certificates were touched although their requests were refused", n)
	}
	failed := w.campaignItems(c.ID, "status=Failed")
	if len(failed) != 3 || !strings.Contains(*failed[0].Reason, "RSA") {
		t.Errorf("failed %+v", failed)
	}
	// Once the cause is gone, what failed is done again, and then the rest.
	w.changeProfile("prof-rsa", object{"allowed_key_algorithms": []object{{"algorithm": "ECDSA", "min_size": 256}}})
	w.must(http.StatusOK, http.MethodPost, "retryCampaign", campaigns+"/"+c.ID+"/retry", object{}, nil)
	c = w.ends(c.ID, issuerapi.CampaignStatusCompleted)
	if d := cmp.Diff(issuerapi.CampaignCounts{Total: 30, Done: 30}, c.Counts); d != "" {
		t.Error(d)
	}
	if n := w.count(`SELECT count(*) FROM campaign_waves WHERE total <> done`); n != 0 {
		t.Errorf("%d waves are not done", n)
	}
}

// onTargets makes certificates on targets of an agent, and has them served.
func (w *world) onTargets(n int) (ids []string) {
	w.t.Helper()
	for i := range n {
		name := fmt.Sprintf("tgt-%d", i)
		w.target(name, "agent-1")
		c, asked := w.withTarget(name)
		w.answer(asked, catest.NewKey(w.t, ecdsa))
		issued, _ := hear(w, func(e event.CertificateIssued) bool { return e.CertificateID == c.ID })
		w.served(c.ID, issued.VersionID, name)
		ids = append(ids, c.ID)
	}
	return ids
}

// goesOn has the agent answer for the item of a certificate, and returns the new version.
func (w *world) goesOn(i issuerapi.CampaignItem) event.CertificateRenewed {
	w.t.Helper()
	asked := w.asked(func(e event.CertificateKeyRequested) bool { return e.JobID == *i.JobID })
	w.answer(asked, catest.NewKey(w.t, ecdsa))
	renewed, _ := hear(w, func(e event.CertificateRenewed) bool { return e.JobID == *i.JobID })
	return renewed
}

func TestCampaign_WaitsUntilItsCanaryIsServed(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	ids := w.onTargets(4)
	c := w.campaign(object{
		"name": "served", "selection": object{"issuer_id": "iss-local"}, "canary": object{"ids": ids[2:3]}, "wave_size": 2, "max_failures": 0, "start": true,
	})
	var canary issuerapi.CampaignItem
	w.await("the canary to begin", func() bool {
		canary = w.campaignItems(c.ID, "wave=0")[0]
		return canary.Status == issuerapi.CampaignItemStatusRenewing && canary.Reason != nil
	})
	renewed := w.goesOn(canary)
	w.await("the canary to be issued", func() bool { return w.campaignItems(c.ID, "wave=0")[0].Status == issuerapi.CampaignItemStatusIssued })
	if now := w.campaignNow(c.ID); now.Wave != 0 || now.Counts.Issued != 1 || now.Counts.Pending != 3 {
		t.Errorf("campaign %+v", now)
	}
	w.served(ids[2], renewed.VersionID, "tgt-2")
	var next []issuerapi.CampaignItem
	w.await("the next wave to begin", func() bool {
		next = w.campaignItems(c.ID, "wave=1&status=Renewing")
		return len(next) == 2
	})
	// One is installed, the other is not: the third never begins.
	good, bad := w.goesOn(next[0]), w.goesOn(next[1])
	target := w.certificate(bad.CertificateID).TargetIds[0]
	w.publish(event.DeploymentFailed{Deployment: event.Deployment{
		JobID: "job-d-bad", CertificateID: bad.CertificateID, VersionID: bad.VersionID, TargetID: target,
	}, Reason: "nginx -t said no"}, 1)
	w.served(good.CertificateID, good.VersionID, w.certificate(good.CertificateID).TargetIds[0])
	stopped := w.ends(c.ID, issuerapi.CampaignStatusStopped)
	if stopped.Counts.Done != 2 || stopped.Counts.Failed != 1 || stopped.Counts.Pending != 1 {
		t.Errorf("campaign %+v", stopped)
	}
	if failed := w.campaignItems(c.ID, "status=Failed"); len(failed) != 1 || !strings.Contains(*failed[0].Reason, "nginx -t said no") || failed[0].New == nil {
		t.Errorf("failed %+v", failed)
	}
	// It is installed after all, so a retry has nothing to do for it.
	w.served(bad.CertificateID, bad.VersionID, target)
	w.must(http.StatusOK, http.MethodPost, "retryCampaign", campaigns+"/"+c.ID+"/retry", nil, nil)
	w.await("the last to begin", func() bool {
		last := w.campaignItems(c.ID, "status=Renewing")
		return len(last) == 1 && w.campaignNow(c.ID).Counts.Done == 3
	})
	if n := w.count(`SELECT count(*) FROM jobs WHERE certificate_id = $1`, bad.CertificateID); n != 2 {
		t.Errorf("%d jobs", n)
	}
}

func TestCampaign_GoesOnWithoutAHostThatIsAway(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.onTargets(2)
	c := w.campaign(object{
		"name": "away", "selection": object{"q": "true"}, "canary": object{"count": 0}, "wave_size": 1, "max_failures": 1, "start": true,
	})
	if c.ServeWithinSeconds != 3600 {
		t.Errorf("targets have %d s", c.ServeWithinSeconds)
	}
	begun := func(wave int) (i issuerapi.CampaignItem) {
		w.await("a wave to begin", func() bool {
			i = w.campaignItems(c.ID, fmt.Sprint("wave=", wave))[0]
			return i.Status == issuerapi.CampaignItemStatusRenewing
		})
		return i
	}
	away := begun(1)
	renewed := w.goesOn(away)
	w.exec(`UPDATE issuer.jobs SET completed_at = completed_at - interval '1 hour' WHERE id = $1`, *away.JobID)
	next := begun(2)
	failed := w.campaignItems(c.ID, "status=Failed")
	if len(failed) != 1 || failed[0].CertificateID != away.CertificateID || !strings.Contains(*failed[0].Reason, "do not serve the new version after 1h0m0s") {
		t.Fatalf("failed %+v", failed)
	}
	if ended := failed[0].EndedAt; ended == nil || ended.Before(c.CreatedAt) {
		t.Errorf("ended at %v", ended)
	}
	// Its host comes back.
	w.served(away.CertificateID, renewed.VersionID, w.certificate(away.CertificateID).TargetIds[0])
	last := w.goesOn(next)
	w.served(next.CertificateID, last.VersionID, w.certificate(next.CertificateID).TargetIds[0])
	if end := w.ends(c.ID, issuerapi.CampaignStatusCompleted); end.Counts.Done != 1 || end.Counts.Failed != 1 {
		t.Errorf("campaign %+v", end)
	}
	w.must(http.StatusOK, http.MethodPost, "retryCampaign", campaigns+"/"+c.ID+"/retry", nil, nil)
	w.await("both to be done", func() bool { return w.campaignNow(c.ID).Counts.Done == 2 })
	if n := w.count(`SELECT count(*) FROM jobs WHERE certificate_id = $1`, away.CertificateID); n != 2 {
		t.Errorf("%d jobs", n)
	}
}

func TestCampaign_IsPausedResumedAndStopped(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	ids := w.onTargets(3)
	c := w.campaign(object{"name": "p", "selection": object{"q": "true"}, "canary": object{"count": 0}, "in_flight": 1, "start": true})
	underWay := func() (i []issuerapi.CampaignItem) {
		w.await("one to be under way", func() bool {
			i = w.campaignItems(c.ID, "status=Renewing")
			return len(i) == 1
		})
		return i
	}
	first := underWay()[0]
	if p := w.steer(c.ID, "pause"); p.Status != issuerapi.CampaignStatusPaused {
		t.Errorf("campaign %+v", p)
	}
	hear(w, func(e event.CampaignPaused) bool { return e.CampaignID == c.ID })
	renewed := w.goesOn(first)
	w.served(first.CertificateID, renewed.VersionID, w.certificate(first.CertificateID).TargetIds[0])
	// What is under way goes on to its end, and nothing else begins.
	paused := w.ends(c.ID, issuerapi.CampaignStatusPaused)
	if paused.Counts.Done != 1 || paused.Counts.Pending != 2 {
		t.Errorf("campaign %+v", paused)
	}
	w.refused(http.StatusConflict, http.MethodPost, "startCampaign", campaigns+"/"+c.ID+"/start", nil)
	w.steer(c.ID, "resume")
	second := underWay()[0]
	stopped := w.steer(c.ID, "stop")
	if stopped.Status != issuerapi.CampaignStatusStopped || stopped.Counts.Pending != 1 || stopped.CompletedAt == nil {
		t.Errorf("campaign %+v", stopped)
	}
	w.refused(http.StatusConflict, http.MethodPost, "stopCampaign", campaigns+"/"+c.ID+"/stop", nil)
	renewed = w.goesOn(second)
	w.served(second.CertificateID, renewed.VersionID, w.certificate(second.CertificateID).TargetIds[0])
	if end := w.ends(c.ID, issuerapi.CampaignStatusStopped); end.Counts.Done != 2 || end.Counts.Pending != 1 {
		t.Errorf("campaign %+v", end)
	}
	if n := w.count(`SELECT count(*) FROM jobs WHERE type = 'Renewal'`); n != 2 {
		t.Errorf("%d renewals of %d", n, len(ids))
	}
}

func TestCampaign_LeavesKeysOfRequestersAloneAndNamesTheirOwners(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.team("t-web", "Web")
	w.owner("o-web", "t-web")
	w.keyHeld("held", 3, object{"owner_id": "o-web"})
	c := w.campaign(object{"name": "k", "selection": object{"key_algorithm": "ECDSA", "key_size": 256}, "start": true})
	c = w.ends(c.ID, issuerapi.CampaignStatusCompleted)
	if c.Counts.Skipped != 3 || c.Counts.Done != 0 {
		t.Errorf("campaign %+v", c)
	}
	var r issuerapi.CampaignReport
	w.must(http.StatusOK, http.MethodGet, "getCampaignReport", campaigns+"/"+c.ID+"/report", nil, &r)
	if len(r.Owners) != 1 || r.Owners[0].OwnerID != "o-web" || r.Owners[0].KeysHeld != 3 || r.Plan.KeyHolders["o-web"] != 3 {
		t.Errorf("report %+v", r)
	}
	if items := w.campaignItems(c.ID, "owner_id=o-web&wave=-1"); len(items) != 3 || *items[0].Reason != "its requester holds the key; tell them" {
		t.Errorf("items %+v", items)
	}
	if n := w.count(`SELECT count(*) FROM jobs WHERE type = 'Renewal'`); n != 0 {
		t.Errorf("%d renewals", n)
	}
}

func TestCampaign_RehearsalChangesNothing(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.newCA()
	w.keyHeld("r", 12, nil)
	w.keyHeld("stray", 1, object{"environment": "lab"})
	ids := w.onTargets(2)
	w.exec(`UPDATE issuer.target_agents SET enabled = false WHERE target_id = 'tgt-1'`)
	w.policyRule(object{
		"name": "No lab", "type": "RequiredMetadata", "severity": "Error", "enabled": true,
		"config": object{"fields": []string{"environment"}},
	})
	w.exec(`UPDATE issuer.certificates SET environment = 'production' WHERE environment = ''`)
	w.exec(`UPDATE issuer.certificates SET environment = '' WHERE environment = 'lab'`)
	everything := func() string {
		return w.text(`SELECT md5(string_agg(t::text, '' ORDER BY t.id)) FROM certificates t`) +
			w.text(`SELECT md5(string_agg(t::text, '' ORDER BY t.id)) FROM jobs t`) +
			w.text(`SELECT md5(string_agg(t::text, '' ORDER BY t.id)) FROM certificate_versions t`) +
			w.text(`SELECT count(*)::text FROM policy_violations`)
	}
	before := everything()
	body := object{"name": "rehearsal", "selection": object{"q": "true"}, "to_issuer_id": "iss-new", "reuse_csr": true, "rehearsal": true, "start": true}
	c := w.ends(w.campaign(body).ID, issuerapi.CampaignStatusCompleted)
	if d := cmp.Diff(issuerapi.CampaignCounts{Total: 15, Done: 13, Failed: 2}, c.Counts); d != "" {
		t.Error(d)
	}
	why := map[string]string{}
	for _, i := range w.campaignItems(c.ID, "status=WouldFail") {
		why[i.CertificateID] = *i.Reason
	}
	if !strings.Contains(why["mc-stray-00"], "No lab") || !strings.Contains(why[ids[1]], "disabled") {
		t.Errorf("would fail: %v", why)
	}
	if len(w.campaignItems(c.ID, "status=WouldPass")) != 13 {
		t.Error("items that would pass are missing")
	}
	if after := everything(); after != before {
		t.Errorf("changed: %s is now %s", before, after)
	}
	w.refused(http.StatusConflict, http.MethodPost, "retryCampaign", campaigns+"/"+c.ID+"/retry", nil)
}

func TestCampaign_OfALimitedCallerReachesOnlyTheirs(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.keyHeld("mine", 3, object{"environment": "test"})
	w.keyHeld("theirs", 3, object{"environment": "production"})
	others := w.campaign(object{"name": "others", "selection": object{"q": "true"}, "reuse_csr": true})
	w.as = authn.Principal{ID: "key-2", Kind: authn.KindUser, Roles: []string{"operator"}, Scope: authn.Scope{Environments: []string{"test"}}}
	w.refused(http.StatusNotFound, http.MethodGet, "getCampaign", campaigns+"/"+others.ID, nil)
	w.refused(http.StatusNotFound, http.MethodPost, "startCampaign", campaigns+"/"+others.ID+"/start", nil)
	w.refused(http.StatusNotFound, http.MethodGet, "getCampaignReport", campaigns+"/"+others.ID+"/report?format=csv", nil)
	mine := w.campaign(object{"name": "mine", "selection": object{"q": "true"}, "reuse_csr": true, "canary": object{"count": 0}})
	if mine.Counts.Total != 3 {
		t.Errorf("campaign %+v", mine)
	}
	// One leaves the scope before it is worked on.
	w.exec(`UPDATE issuer.certificates SET environment = 'production' WHERE id = 'mc-mine-01'`)
	w.steer(mine.ID, "start")
	done := w.ends(mine.ID, issuerapi.CampaignStatusCompleted)
	if done.Counts.Done != 2 || done.Counts.Skipped != 1 {
		t.Errorf("campaign %+v", done)
	}
	var list issuerapi.CampaignList
	w.must(http.StatusOK, http.MethodGet, "listCampaigns", campaigns, nil, &list)
	if len(list.Data) != 1 || list.Data[0].ID != mine.ID {
		t.Errorf("list %+v", list)
	}
	w.as.Scope = authn.Scope{Issuers: []string{"iss-local"}}
	w.refused(http.StatusForbidden, http.MethodPost, "createCampaign", campaigns,
		object{"name": "x", "selection": object{"q": "true"}, "to_issuer_id": "iss-new"})
}

func TestCampaign_TwoOverTheSameCertificatesDoNotDouble(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.start(app.Settings{})
	const n = 60
	w.keyHeld("d", n, nil)
	body := object{"name": "twice", "selection": object{"issuer_id": "iss-local"}, "reuse_csr": true, "canary": object{"count": 0}, "in_flight": 7}
	one, two := w.campaign(body), w.campaign(body)
	w.steer(one.ID, "start")
	w.steer(two.ID, "start")
	a, b := w.ends(one.ID, issuerapi.CampaignStatusCompleted), w.ends(two.ID, issuerapi.CampaignStatusCompleted)
	if a.Counts.Done+b.Counts.Done != n || a.Counts.Skipped+b.Counts.Skipped != n {
		t.Errorf("campaigns %+v and %+v", a.Counts, b.Counts)
	}
	if twice := w.count(`SELECT count(*) FROM (SELECT FROM certificate_versions GROUP BY certificate_id HAVING count(*) <> 2) t`); twice != 0 {
		t.Errorf("%d certificates were not re-issued once", twice)
	}
}

func TestCampaign_APlanWarnsOfWhatCannotBeginNow(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.keyHeld("a", 3, nil)
	body := object{"name": "early", "selection": object{"q": "true"}, "reuse_csr": true, "canary": object{"ids": []string{"mc-a-01", "mc-none", "mc-a-02"}}}
	w.exec(`UPDATE issuer.certificates SET status = 'Archived' WHERE id = 'mc-a-02'`)
	w.exec(`UPDATE issuer.issuers SET enabled = false WHERE id = 'iss-local'`)
	plan := w.campaignPlan(body)
	warned := strings.Join(plan.Warnings, "\n")
	for _, says := range []string{
		"canary.ids: mc-none cannot be in the canary: it is not chosen", "canary.ids: mc-a-02 cannot be in the canary: certificate mc-a-02 is archived",
		"issuer iss-local is disabled: until that is mended, what it is to sign waits",
	} {
		if !strings.Contains(warned, says) {
			t.Errorf("warns of\n%s\nand not that %s", warned, says)
		}
	}
	w.exec(`UPDATE issuer.issuers SET enabled = true WHERE id = 'iss-local'`)
	w.exec(`INSERT INTO issuer.issuer_standings (issuer_id, failures, opened_at, retry_at, last_error) VALUES ('iss-local', 5, now(), now(), 'it is sealed')
		ON CONFLICT (issuer_id) DO UPDATE SET failures = 5, opened_at = now(), retry_at = now(), last_error = 'it is sealed'`)
	if plan = w.campaignPlan(body); !strings.Contains(strings.Join(plan.Warnings, "\n"), "issuer iss-local fails (it is sealed)") {
		t.Errorf("warns of %q", plan.Warnings)
	}
	delete(body, "canary")
	if plan = w.campaignPlan(body); len(plan.Warnings) != 1 {
		t.Errorf("warns of %q", plan.Warnings)
	}
}

// Whoever forgets to give the issuer another key would have everything signed by the old one again.
func TestCampaign_TakesNothingForDoneThatTheOldKeySignedAgain(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.keyHeld("a", 5, nil)
	_, key := w.caOf("iss-local")
	body := object{"name": "forgotten", "selection": object{"authority_key_id": key}, "reuse_csr": true}
	if plan := w.campaignPlan(body); len(plan.Warnings) != 1 || !strings.Contains(plan.Warnings[0], "issuer iss-local signs with the very key that is to go") {
		t.Errorf("plan %+v", plan)
	}
	body["start"] = true
	c := w.ends(w.campaign(body).ID, issuerapi.CampaignStatusStopped)
	if c.Counts.Failed != 1 || c.Counts.Pending != 4 {
		t.Errorf("campaign %+v", c)
	}
	if failed := w.campaignItems(c.ID, "status=Failed"); !strings.Contains(*failed[0].Reason, "iss-local has signed it again") {
		t.Errorf("failed %+v", failed)
	}
	// Nor does a retry, as long as nothing is mended: the certificates are signed once more, and fail.
	w.must(http.StatusOK, http.MethodPost, "retryCampaign", campaigns+"/"+c.ID+"/retry", object{}, nil)
	w.await("the retry to have stopped", func() bool {
		now := w.campaignNow(c.ID)
		return now.Status != issuerapi.CampaignStatusRunning && now.CompletedAt != nil && now.CompletedAt.After(*c.CompletedAt)
	})
	if now := w.campaignNow(c.ID); now.Status != issuerapi.CampaignStatusStopped || now.Counts.Done != 0 || w.count(`SELECT count(*) FROM certificate_versions`) != 7 {
		t.Errorf("a retry takes for done what the old key has signed: %+v", now)
	}
}

func TestCampaign_LooksAtWhatWasSkippedAgainAsItIsThen(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.keyHeld("s", 2, nil)
	c := w.campaign(object{"name": "s", "selection": object{"key_algorithm": "ECDSA"}, "reuse_csr": true})
	w.renew("mc-s-00", object{"csr_pem": csrFor(t, "s-00.example.com")})
	w.steer(c.ID, "start")
	c = w.ends(c.ID, issuerapi.CampaignStatusCompleted)
	skipped := w.campaignItems(c.ID, "status=Skipped")
	if c.Counts.Done != 1 || len(skipped) != 1 || *skipped[0].Reason != "it has had another version since it was chosen" {
		t.Errorf("campaign %+v, skipped %+v", c, skipped)
	}
	w.refused(http.StatusConflict, http.MethodPost, "retryCampaign", campaigns+"/"+c.ID+"/retry", nil)
	w.must(http.StatusOK, http.MethodPost, "retryCampaign", campaigns+"/"+c.ID+"/retry", object{"include_skipped": true}, nil)
	if c = w.ends(c.ID, issuerapi.CampaignStatusCompleted); c.Counts.Done != 2 {
		t.Errorf("campaign %+v", c)
	}
}

func TestCampaign_RefusesWhatCanNeverBe(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.keyHeld("x", 2, nil)
	for field, body := range map[string]object{
		"name":                            {"name": " ", "selection": object{"q": "true"}},
		"selection":                       {"name": "x", "selection": object{}},
		"selection.colour":                {"name": "x", "selection": object{"colour": "red"}},
		"selection.q":                     {"name": "x", "selection": object{"q": "no_such_field == 1"}},
		"selection.authority_key_id":      {"name": "x", "selection": object{"authority_key_id": "xyz"}},
		"selection.ca_fingerprint_sha256": {"name": "x", "selection": object{"ca_fingerprint_sha256": strings.Repeat("ab", 32)}},
		"to_issuer_id":                    {"name": "x", "selection": object{"q": "true"}, "to_issuer_id": "iss-none"},
		"to_profile_id":                   {"name": "x", "selection": object{"q": "true"}, "to_profile_id": "prof-none"},
		"canary.ids":                      {"name": "x", "selection": object{"q": "true"}, "reuse_csr": true, "canary": object{"ids": []string{"mc-none"}}},
		"canary.count":                    {"name": "x", "selection": object{"q": "true"}, "canary": object{"ids": []string{"mc-x-00"}, "count": 2}},
	} {
		p := w.refused(http.StatusBadRequest, http.MethodPost, "createCampaign", campaigns, body)
		if len(p.Errors) == 0 || p.Errors[0].Name != field {
			t.Errorf("%s: %+v", field, p)
		}
	}
	if n := w.count(`SELECT count(*) FROM campaigns`); n != 0 {
		t.Errorf("%d campaigns", n)
	}
}
