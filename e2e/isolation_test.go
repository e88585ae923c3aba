package e2e

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/certctl/certctl/contracts/httpapi/client"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/e2e/internal/rig"
)

const answerWithin = 5 * time.Second

// thief is a connection with somebody else's credentials.
type thief struct {
	t       *testing.T
	nc      *nats.Conn
	refused chan error
}

func steal(t *testing.T, url, name string, credentials nats.Option) *thief {
	t.Helper()
	s := &thief{t: t, refused: make(chan error, 16)}
	var err error
	s.nc, err = nats.Connect(url, credentials, nats.CustomInboxPrefix(subject.Inbox(name)), nats.NoReconnect(),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { s.refused <- err }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.nc.Close)
	return s
}

// permitted tells whether the server let the last thing pass. It answers in order, so
// a refusal comes before the answer to a ping.
func (s *thief) permitted() bool {
	s.t.Helper()
	if err := s.nc.FlushTimeout(answerWithin); err != nil {
		s.t.Fatal(err)
	}
	select {
	case err := <-s.refused:
		if !strings.Contains(strings.ToLower(err.Error()), "permissions violation") {
			s.t.Fatalf("the server said %q", err)
		}
		return false
	case <-time.After(20 * time.Millisecond): // the handler runs beside the ping
		return true
	}
}

func (s *thief) mayPublish(subj string) bool {
	s.t.Helper()
	if err := s.nc.Publish(subj, []byte("{}")); err != nil {
		s.t.Fatal(err)
	}
	return s.permitted()
}

func (s *thief) maySubscribe(subj string) bool {
	s.t.Helper()
	if _, err := s.nc.SubscribeSync(subj); err != nil {
		s.t.Fatal(err)
	}
	return s.permitted()
}

func (s *thief) cannot(publish, subscribe []string) {
	s.t.Helper()
	for _, subj := range publish {
		if s.mayPublish(subj) {
			s.t.Errorf("publishing to %s is permitted", subj)
		}
	}
	for _, subj := range subscribe {
		if s.maySubscribe(subj) {
			s.t.Errorf("subscribing to %s is permitted", subj)
		}
	}
}

// TestIsolation_AnAgentsCredentialsReachNoOtherAgent uses the files that an agent has on
// its host.
func TestIsolation_AnAgentsCredentialsReachNoOtherAgent(t *testing.T) {
	t.Parallel()
	in := rig.Up(t, rig.Dir(t), "CERTCTL_LOG_LEVEL=warn")
	a := in.Enrol("host-a", "site-local", in.LeafURL, "CERTCTL_LOG_LEVEL=warn")
	b := in.Enrol("host-b", "site-local", in.LeafURL, "CERTCTL_LOG_LEVEL=warn")
	nginx := rig.StartNGINX(t, in.Dir, "nginx", "b.e2e.test")
	target := in.Target(b, nginx.Sites[0])
	id, err := a.Identity()
	if err != nil {
		t.Fatal(err)
	}
	stolen := nats.UserJWTAndSeed(id.UserJWT, strings.TrimSpace(id.Seed))
	s := steal(t, in.LeafURL, id.AgentID, stolen)

	if !s.mayPublish("$JS.API.CONSUMER.INFO.SITE_CMD."+a.ID) || !s.maySubscribe(subject.Inbox(a.ID)+".x") {
		t.Error("not even what is the agent's own is permitted")
	}
	// An order waits for b, of which a must see nothing.
	b.Freeze()
	created := rig.Must[client.Certificate](t)(in.CreateCertificate(t.Context(), client.CertificateCreate{
		CommonName: nginx.Sites[0].Name, TargetIds: &[]string{target.ID},
	}))
	job := rig.Value(created.JobID)
	s.cannot([]string{
		"$JS.API.CONSUMER.MSG.NEXT.SITE_CMD." + b.ID, "$JS.API.CONSUMER.INFO.SITE_CMD." + b.ID,
		"$JS.ACK.SITE_CMD." + b.ID + ".1.1.1.1.0", "$JS.ACK.hub.x.SITE_CMD." + b.ID + ".1.1.1.1.0",
		"$JS.API.CONSUMER.CREATE.SITE_CMD.thief", "$JS.API.CONSUMER.DELETE.SITE_CMD." + b.ID,
		"$JS.API.STREAM.MSG.GET.SITE_CMD", "$JS.API.DIRECT.GET.SITE_CMD", "$JS.API.STREAM.PURGE.SITE_CMD",
		"$JS.hub.API.CONSUMER.MSG.NEXT.AGENT_CMD.site-local", "$JS.hub.API.STREAM.INFO.AGENT_CMD",
		subject.SiteReport(b.ID, subject.KindDeploy, job), subject.SiteRequest(b.ID, "heartbeat"), subject.SiteRequest(b.ID, "refresh"),
		subject.SiteRequest(subject.AgentSite, "refresh"), subject.SiteCommand(b.ID, "deploy", job), subject.SiteCommand(a.ID, "deploy", job),
		subject.AgentReport("site-local", b.ID, subject.KindDeploy, job), subject.AgentCommand("site-local", b.ID, "deploy", job),
	}, []string{">", "site.>", subject.SiteCommands(b.ID), subject.SiteReports(b.ID), "_INBOX.>", subject.Inbox(b.ID) + ".>", "$JS.>", "certctl.>"})
	b.Thaw()
	in.Active(t, created.ID, "")

	if nc, err := nats.Connect(in.NATSURL, stolen, nats.NoReconnect()); err == nil {
		nc.Close()
		// The hub knows account EDGE too; there an agent's rights name nothing of a site's.
		hub := steal(t, in.NATSURL, id.AgentID, stolen)
		hub.cannot([]string{
			subject.AgentReport("site-local", b.ID, subject.KindDeploy, job), subject.AgentRequest("site-local", b.ID, "heartbeat"),
			subject.AgentCommand("site-local", b.ID, "deploy", job), "$JS.API.CONSUMER.MSG.NEXT.AGENT_CMD.site-local", "$JS.API.STREAM.INFO.AGENT_CMD",
		}, []string{">", subject.AllAgentCommands, subject.AllAgentReports, subject.AllAgentRequests})
	}
}

// TestIsolation_ARetiredAgentIsShutOutAtOnce revokes an agent while it is connected.
func TestIsolation_ARetiredAgentIsShutOutAtOnce(t *testing.T) {
	t.Parallel()
	in := rig.Up(t, rig.Dir(t), "CERTCTL_LOG_LEVEL=warn")
	far := in.NewSite("site-far", "CERTCTL_LEAF_LOG_LEVEL=warn")
	for name, url := range map[string]string{"site-local": in.LeafURL, far.SiteID: far.URL} {
		a := in.Enrol("host-"+name, name, url, "CERTCTL_LOG_LEVEL=warn")
		id, err := a.Identity()
		if err != nil {
			t.Fatal(err)
		}
		stolen := nats.UserJWTAndSeed(id.UserJWT, strings.TrimSpace(id.Seed))
		s := steal(t, url, id.AgentID, stolen)
		if _, err := rig.Raw(in.RetireAgent(t.Context(), a.ID)); err != nil {
			t.Fatal(err)
		}
		rig.Within(t, answerWithin, "the connection of "+a.Name+" is closed", func() error {
			if !s.nc.IsClosed() {
				return fmt.Errorf("it is %s", s.nc.Status())
			}
			return nil
		})
		if nc, err := nats.Connect(url, stolen, nats.NoReconnect()); err == nil {
			nc.Close()
			t.Errorf("%s may connect again", a.Name)
		}
	}
}

// TestIsolation_AServicesCredentialsReachItsOwnSubjectsOnly uses the files that
// certctl admin credentials writes for services that run apart.
func TestIsolation_AServicesCredentialsReachItsOwnSubjectsOnly(t *testing.T) {
	t.Parallel()
	in := rig.Up(t, rig.Dir(t), "CERTCTL_LOG_LEVEL=warn")
	own := map[string][]string{
		// The gateway sends calls on to whatever operation of an owner, but for what services ask of each other.
		"gateway": {subject.AuditRecord("api", "gateway"), subject.Operation("audit", "anything"), subject.Operation("issuer", "getCertificate")},
		"issuer":  {subject.Event("certificate", "requested"), "$JS.API.CONSUMER.INFO.EVT.issuer-evt"},
		"deployment": {
			subject.Event("target", "deleted"), subject.Operation("issuer", "getCertificate"), "$JS.API.CONSUMER.INFO.EVT.deploy-evt",
		},
		"revocation": {subject.Operation("issuer", "signCRL"), "$JS.API.CONSUMER.INFO.EVT.revocation-evt"},
		"audit":      {"$JS.API.CONSUMER.INFO.EVT.audit-evt", "$JS.API.CONSUMER.INFO.AUDIT.audit-records"},
	}
	for service, its := range own {
		t.Run(service, func(t *testing.T) {
			s := steal(t, in.NATSURL, service, nats.UserCredentials(filepath.Join(in.Credentials(service), "nats.creds")))
			if !s.mayPublish(its[len(its)-1]) {
				t.Errorf("not even %s is permitted", its[len(its)-1])
			}
			foreign := []string{
				"$JS.API.STREAM.CREATE.EVT", "$JS.API.STREAM.UPDATE.EVT", "$JS.API.STREAM.DELETE.AUDIT", "$JS.API.STREAM.PURGE.EVT",
				"$JS.API.STREAM.MSG.GET.AUDIT", "$JS.API.STREAM.MSG.DELETE.AUDIT", "$JS.API.DIRECT.GET.EVT", "$JS.API.CONSUMER.CREATE.EVT.thief",
				"$JS.API.CONSUMER.DELETE.EVT.audit-evt", "$SYS.REQ.CLAIMS.UPDATE", "$SYS.REQ.SERVER.PING",
				subject.AuditRecord("api", "issuer"), subject.AgentCommand("site-local", "agent-1", "deploy", "job-1"),
				subject.Operation("audit", "anything"), subject.Operation("authority", "anything"),
			}
			for other, theirs := range own {
				if other != service {
					foreign = append(foreign, theirs...)
				}
			}
			subscribe := []string{">", "svc.>", subject.AllEvents, subject.AllAudit, "_INBOX.>", "$JS.>"}
			for other := range own {
				if other != service {
					subscribe = append(subscribe, subject.Inbox(other)+".>", subject.Operations(other))
				}
			}
			s.cannot(slices.DeleteFunc(foreign, func(subj string) bool { return slices.Contains(its, subj) }), subscribe)
		})
	}
	t.Run("deployment, at the edge", func(t *testing.T) {
		s := steal(t, in.NATSURL, "deployment", nats.UserCredentials(filepath.Join(in.Credentials("deployment"), "edge.creds")))
		if !s.mayPublish("$JS.API.STREAM.INFO.AGENT_CMD") {
			t.Error("not even its own stream is permitted")
		}
		s.cannot([]string{
			subject.AgentReport("site-local", "agent-1", subject.KindDeploy, "job-1"), subject.Event("certificate", "issued"),
			"$JS.API.STREAM.DELETE.AGENT_CMD", "$JS.API.STREAM.UPDATE.AGENT_EVT", "$JS.API.CONSUMER.CREATE.AGENT_EVT.thief",
		}, []string{">", subject.AllAgentReports, subject.AllAgentCommands})
	})
	if nc, err := nats.Connect(in.NATSURL, nats.NoReconnect()); err == nil {
		nc.Close()
		t.Error("the bus takes somebody without credentials")
	}
}
