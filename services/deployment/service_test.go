package deployment_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/httpapi/deploymentapi"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/libs/config"
	"github.com/certctl/certctl/libs/natsauth"
	"github.com/certctl/certctl/services/deployment"
)

func issued(certificateID, versionID string, at time.Time, targets ...string) event.CertificateIssued {
	return event.CertificateIssued{
		CertificateID: certificateID, IssuerID: "iss-local", CommonName: "www.example.org", TargetIDs: targets,
		Version: event.Version{
			VersionID: versionID, FingerprintSHA256: "f-" + versionID, NotBefore: at, NotAfter: at.Add(90 * 24 * time.Hour), PEMChain: "chain",
		},
	}
}

func (p *platform) job(certificateID string) deploymentapi.Job {
	p.Helper()
	var list deploymentapi.JobList
	p.do("GET", "/api/v1/jobs?certificate_id="+certificateID, "listJobs", nil, &list)
	if len(list.Data) == 0 {
		return deploymentapi.Job{}
	}
	return list.Data[0]
}

func TestService_CarriesACertificateFromKeyToServed(t *testing.T) {
	p := newPlatform(t)
	p.start()
	a := p.enrol()
	p.leaf(a)
	a.target("tgt-1")

	p.tell(event.CertificateKeyRequested{
		CertificateID: "mc-1", JobID: "job-i-1", CommonName: "www.example.org", KeyRequest: event.KeyRequest{
			Attempt: 1, AgentID: a.id, KeyAlgorithm: "ECDSA", KeySize: 256, ExpiresAt: time.Now().Add(time.Hour),
		},
	}, 1)
	p.awaitEvents("csr", "job-i-1", "submitted")
	p.tell(issued("mc-1", "cv-1", time.Now(), "tgt-1"), 2)
	p.until("the job is done", func() bool { return p.job("mc-1").Status == deploymentapi.Completed })
	j := p.job("mc-1")
	p.awaitEvents("deployment", j.ID, "started", "completed")
	if j.Attempts != 1 || j.StartedAt == nil || j.CompletedAt == nil || *j.AgentID != a.id || *j.TargetID != "tgt-1" {
		t.Errorf("%+v", j)
	}
	if n := len(a.orders()); n != 2 {
		t.Errorf("the agent got %d orders, want 2", n)
	}
	p.awaitEvents("agent", a.id, "registered")
	p.awaitEvents("target", "tgt-1", "created")
	p.awaitEvents("site", "site-local", "connected")
}

func TestService_TriesAgainWhenItsTimeHasCome(t *testing.T) {
	p := newPlatform(t)
	p.start()
	a := p.enrol()
	a.behave = func(c command.AgentCommand) []command.AgentReport {
		if c.Attempt < 3 {
			r := about(c, command.OutcomeRolledBack)
			r.Error = "nginx -t failed"
			return []command.AgentReport{r}
		}
		return well(c)
	}
	p.leaf(a)
	a.target("tgt-1")
	start := time.Now()
	p.tell(issued("mc-1", "cv-1", time.Now(), "tgt-1"), 1)
	p.until("the job is done", func() bool { return p.job("mc-1").Status == deploymentapi.Completed })
	p.awaitEvents("deployment", p.job("mc-1").ID, "rolledback", "rolledback", "started", "completed")
	if took := time.Since(start); took > p.config.DeploymentSweepInterval/2 {
		t.Errorf("the retries waited for a sweep: %s", took)
	}
}

func TestService_SendsAnUnansweredOrderAgain(t *testing.T) {
	p := newPlatform(t)
	p.config.DeploymentOrderDeadline = 100 * time.Millisecond
	p.config.DeploymentSweepInterval = 100 * time.Millisecond
	p.start()
	a := p.enrol()
	var seen sync.Map
	a.behave = func(c command.AgentCommand) []command.AgentReport {
		if n, _ := seen.LoadOrStore(c.JobID, new(int)); *n.(*int) < 2 {
			*n.(*int)++
			return nil
		}
		return well(c)
	}
	p.leaf(a)
	a.target("tgt-1")
	p.tell(issued("mc-1", "cv-1", time.Now(), "tgt-1"), 1)
	p.until("the job is done", func() bool { return p.job("mc-1").Status == deploymentapi.Completed })
	if j := p.job("mc-1"); j.Attempts != 1 {
		t.Errorf("a repeat counted as an attempt: %+v", j)
	}
}

func TestService_PutsAnOlderVersionInThePlaceOfTheNewest(t *testing.T) {
	p := newPlatform(t)
	p.start()
	a := p.enrol()
	p.leaf(a)
	a.target("tgt-1")
	now := time.Now()
	first, second := issued("mc-1", "cv-1", now.Add(-time.Hour), "tgt-1"), issued("mc-1", "cv-2", now, "tgt-1")
	serves := func(version string) {
		t.Helper()
		p.until("the target serves "+version, func() bool {
			var list deploymentapi.CertificateDeploymentList
			status, err := p.call("GET", "/api/v1/certificates/mc-1/deployments", "listCertificateDeployments", nil, &list)
			return status == 200 && err == nil && len(list.Data) == 1 && list.Data[0].VersionID != nil && *list.Data[0].VersionID == version &&
				*list.Data[0].JobStatus == deploymentapi.Completed
		})
	}
	p.tell(event.CertificateRequested{CertificateID: "mc-1", TargetIDs: []string{"tgt-1"}}, 1)
	p.tell(first, 2)
	serves("cv-1")
	p.tell(event.CertificateRenewed{CertificateIssued: second}, 3)
	serves("cv-2")
	p.tell(event.CertificateDeploymentRequested{
		CertificateID: "mc-1", TargetIDs: []string{"tgt-1"}, Rollback: true, RequestedBy: "key-ops", Version: first.Version,
	}, 4)
	serves("cv-1")
	if n := len(a.orders()); n != 3 {
		t.Errorf("the agent got %d orders, want 3", n)
	}

	// Somebody looks whether it is so.
	var looked deploymentapi.ValidationTriggered
	p.do("POST", "/api/v1/certificates/mc-1/validate", "validateCertificate", nil, &looked)
	var job deploymentapi.Job
	p.until("the agent has looked", func() bool {
		p.do("GET", "/api/v1/jobs/"+looked.JobIds[0], "getJob", nil, &job)
		return job.Status == deploymentapi.Completed
	})
	if job.Type != deploymentapi.Validation || *job.VersionID != "cv-1" {
		t.Errorf("%+v", job)
	}
	p.awaitEvents("deployment", job.ID, "verified")
}

func TestService_ForgedReportsBecomeDeadLettersAndHoldUpNothing(t *testing.T) {
	p := newPlatform(t)
	p.start()
	a, b := p.enrol(), p.enrol()
	a.behave = func(command.AgentCommand) []command.AgentReport { return nil }
	p.leaf(a, b)
	a.target("tgt-a")
	b.target("tgt-b")
	p.tell(issued("mc-a", "cv-a", time.Now(), "tgt-a"), 1)
	p.until("the order is out", func() bool { return len(a.orders()) == 1 })
	order := a.orders()[0]
	a.report(b.seed, about(order, command.OutcomeCompleted)) // a leaf puts words into a's mouth
	b.report(b.seed, about(order, command.OutcomeCompleted)) // b claims a's job
	p.tell(issued("mc-b", "cv-b", time.Now(), "tgt-b"), 1)

	p.until("b is served", func() bool { return p.job("mc-b").Status == deploymentapi.Completed })
	letters := subject.DeadLetter("deployment", subject.ConsumerDeploymentReports)
	p.until("both are dead letters", func() bool { return len(p.stored(p.core, subject.StreamDeadLetters, letters)) == 2 })
	for _, m := range p.stored(p.core, subject.StreamDeadLetters, letters) {
		if m.Headers().Get(bus.HeaderDLQError) == "" {
			t.Error("a dead letter without its reason")
		}
	}
	if j := p.job("mc-a"); j.Status != deploymentapi.Pending {
		t.Errorf("a forged report had an effect: %+v", j)
	}
}

func TestService_ANewSiteGetsItsDurable(t *testing.T) {
	p := newPlatform(t)
	p.start()
	var site deploymentapi.Site
	p.do("POST", "/api/v1/sites", "createSite", map[string]any{"name": "Berlin"}, &site)
	for _, s := range []string{"site-local", site.ID} {
		p.until("the durable of "+s+" is there", func() bool {
			_, err := p.edge.JS.Consumer(t.Context(), subject.StreamAgentCommands, s)
			return err == nil
		})
	}
	p.awaitEvents("site", site.ID, "created")
	// Forgotten by the hub: the next start brings it back.
	if err := p.edge.JS.DeleteConsumer(t.Context(), subject.StreamAgentCommands, site.ID); err != nil {
		t.Fatal(err)
	}
	p.end()
	p.start()
	p.until("the durable is back", func() bool {
		_, err := p.edge.JS.Consumer(t.Context(), subject.StreamAgentCommands, site.ID)
		return err == nil
	})
}

func TestService_RetiringAnAgentRevokesItsKeyEverywhere(t *testing.T) {
	p := newPlatform(t)
	p.start()
	a := p.enrol()
	p.do("DELETE", "/api/v1/agents/"+a.id, "retireAgent", nil, nil)
	p.awaitEvents("agent", a.id, "registered", "retired")
	account := func() *jwt.AccountClaims {
		for _, m := range p.stored(p.edge, subject.StreamAgentCommands, "certctl.agent.cmd.site-local.site.account.*") {
			var body command.RevokedUsers
			if err := json.Unmarshal(m.Data(), &body); err != nil {
				t.Fatal(err)
			}
			claims, err := natsauth.Newer(p.hub.Authority.OperatorJWT(), "", body.AccountJWT)
			if err != nil {
				t.Fatal(err)
			}
			if claims.Revocations[a.key] != 0 {
				return claims
			}
		}
		return nil
	}
	p.until("the site is told", func() bool { return account() != nil })
	var reply command.Reply[command.RefreshReply]
	p.ask(subject.AgentRequest("site-local", a.id, command.VerbRefresh), nil, &reply)
	if reply.Fault == nil || reply.Fault.Code != "forbidden" {
		t.Errorf("a retired agent got a JWT: %+v", reply)
	}
}

func TestService_MarksASilentAgentOfflineAndBack(t *testing.T) {
	p := newPlatform(t)
	p.config.AgentHeartbeatInterval = 100 * time.Millisecond
	p.start()
	a := p.enrol()
	var agent deploymentapi.Agent
	status := func() deploymentapi.AgentStatus {
		p.do("GET", "/api/v1/agents/"+a.id, "getAgent", nil, &agent)
		return agent.Status
	}
	p.until("it is offline", func() bool { return status() == deploymentapi.Offline })
	var reply command.Reply[struct{}]
	p.ask(subject.AgentRequest("site-local", a.id, command.VerbHeartbeat), command.Heartbeat{Version: "1.2.3"}, &reply)
	if got := status(); got != deploymentapi.Online || agent.Version != "1.2.3" {
		t.Errorf("after a heartbeat: %s, %s", got, agent.Version)
	}
	p.until("it is told", func() bool {
		return strings.HasPrefix(strings.Join(p.events("agent", a.id), " "), "registered offline online")
	})
}

func TestService_KeepsItsPlatformKeyOverARestart(t *testing.T) {
	p := newPlatform(t)
	p.start()
	first := p.enrol().pinned
	p.end()
	p.start()
	if again := p.enrol().pinned; again != first {
		t.Errorf("agents would not obey any more: %s, then %s", first, again)
	}
}

// The database is cut off, the hub restarted and the service ended at random moments
// while certificates are issued and renewed. Every report comes twice.
func TestService_LosesAndDoublesNothingWhateverIsKilled(t *testing.T) {
	const certificates, targets = 60, 5
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("CERTCTL_TEST_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("CERTCTL_TEST_SEED=%d", seed)
	chance := rand.New(rand.NewPCG(seed, 0))
	p := newPlatform(t)
	p.config.DeploymentOrderDeadline = time.Second
	p.config.DeploymentSweepInterval = 200 * time.Millisecond
	p.start()
	a := p.enrol()
	host := &installed{chance: chance, served: map[string]string{}, done: map[string][]command.AgentReport{}}
	a.behave = host.obey
	for i := range targets {
		a.target(fmt.Sprint("tgt-", i))
	}
	p.leaf(a)

	begin := time.Now()
	for i := range certificates {
		certificate := fmt.Sprint("mc-", i)
		target := fmt.Sprint("tgt-", i%targets)
		p.tell(issued(certificate, fmt.Sprint("cv-", i, "-1"), begin, target), 1)
		p.tell(event.CertificateRenewed{CertificateIssued: issued(certificate, fmt.Sprint("cv-", i, "-2"), begin.Add(time.Hour), target)}, 2)
		if i%12 == 6 {
			p.kill(host.choose(3))
		}
	}
	p.until("the newest version of each is served", func() bool {
		var open int
		err := p.db.QueryRow(t.Context(), `SELECT count(*) FROM jobs WHERE status IN ('Pending', 'Running')`).Scan(&open)
		return err == nil && open == 0 && host.newest("-2") == certificates
	})
	p.until("everything is said", func() bool {
		var unsent int
		err := p.db.QueryRow(t.Context(), `SELECT count(*) FROM outbox_queue`).Scan(&unsent)
		return err == nil && unsent == 0
	})
	p.end()
	p.checkOnce(certificates)
}

// installed is what a host serves. It carries each order out once, however often it
// gets it, and fails at times.
type installed struct {
	mu     sync.Mutex
	chance *rand.Rand
	served map[string]string
	done   map[string][]command.AgentReport
}

func (h *installed) obey(c command.AgentCommand) []command.AgentReport {
	h.mu.Lock()
	defer h.mu.Unlock()
	key := fmt.Sprint(c.JobID, "/", c.Attempt)
	if before, done := h.done[key]; done {
		return before
	}
	var d command.Deploy
	if err := json.Unmarshal(c.Body, &d); err != nil || c.Attempt == 1 && h.chance.IntN(5) == 0 {
		h.done[key] = []command.AgentReport{about(c, command.OutcomeFailed)}
		return h.done[key]
	}
	h.served[d.CertificateID] = d.VersionID
	h.done[key] = well(c)
	return h.done[key]
}

func (h *installed) choose(n int) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.chance.IntN(n)
}

// newest counts the certificates that are served in a version of this ending.
func (h *installed) newest(ending string) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, version := range h.served {
		if strings.HasSuffix(version, ending) {
			n++
		}
	}
	return n
}

func (p *platform) kill(what int) {
	p.Helper()
	switch what {
	case 0:
		// All connections of the service's role but this one.
		if _, err := p.db.Exec(p.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()`); err != nil {
			p.Logf("cut off: %v", err)
		}
	case 1:
		p.hub.Restart()
	case 2:
		p.end()
		p.start()
	}
}

// checkOnce checks that each job told of its end once, and that none is open.
func (p *platform) checkOnce(certificates int) {
	p.Helper()
	rows, err := p.db.Query(p.Context(), `SELECT id, status, version_id FROM jobs`)
	if err != nil {
		p.Fatal(err)
	}
	defer rows.Close()
	told := map[string]map[string]int{}
	for _, m := range p.stored(p.core, subject.StreamEvents, subject.Events("deployment", "")) {
		job := strings.TrimPrefix(m.Headers().Get("ce-subject"), "deployment/")
		if told[job] == nil {
			told[job] = map[string]int{}
		}
		told[job][m.Subject()[strings.LastIndexByte(m.Subject(), '.')+1:]]++
	}
	newest := map[string]bool{}
	for rows.Next() {
		var job, status, version string
		if err := rows.Scan(&job, &status, &version); err != nil {
			p.Fatal(err)
		}
		ends := told[job]
		switch {
		case strings.HasSuffix(version, "-2"):
			newest[version] = true
			if status != "Completed" || ends["completed"] != 1 || ends["failed"] != 0 {
				p.Errorf("job %s of %s is %s, and told %v", job, version, status, ends)
			}
		case status == "Completed" && ends["completed"] != 1, status == "Cancelled" && ends["completed"] != 0,
			status != "Completed" && status != "Cancelled":
			p.Errorf("job %s of %s is %s, and told %v", job, version, status, ends)
		}
	}
	if len(newest) != certificates {
		p.Errorf("%d newest versions had a job, want %d", len(newest), certificates)
	}
}

func TestConfig_IsOfUseWhenNothingIsSet(t *testing.T) {
	var c deployment.Config
	if err := config.Load("CERTCTL", &c); err != nil {
		t.Fatal(err)
	}
	if c.AgentHeartbeatInterval != time.Minute || c.DeploymentMaxAttempts != 3 || c.DeploymentOrderLife != 7*24*time.Hour {
		t.Errorf("%+v", c)
	}
	t.Setenv("CERTCTL_DEPLOYMENT_HUB_ADDRESSES", "tls://a:7422, tls://b:7422")
	t.Setenv("CERTCTL_DEPLOYMENT_MAX_ATTEMPTS", "0")
	if err := config.Load("CERTCTL", &c); err == nil || len(c.DeploymentHubAddresses) != 2 {
		t.Errorf("%v, %v", err, c.DeploymentHubAddresses)
	}
}
