package agent_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/natsauth"
	"github.com/certctl/certctl/libs/x509x"
	agent "github.com/certctl/certctl/services/agent"
	"github.com/certctl/certctl/services/agent/internal/identity"
	"github.com/certctl/certctl/services/agent/internal/served"
	"github.com/certctl/certctl/services/agent/internal/statedir"
	"github.com/certctl/certctl/services/agent/internal/target/nginx"
	"github.com/certctl/certctl/services/agent/internal/target/nginx/nginxtest"
	"github.com/certctl/certctl/services/agent/internal/target/targettest"
)

const host = "www.example.test"

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		removeBinary()
		os.Exit(code)
	}))
}

func newConfig(t *testing.T, l *leaf) agent.Config {
	t.Helper()
	dir := t.TempDir()
	cfg := agent.Config{
		AgentName: "web-1", KeyDir: filepath.Join(dir, "keys"), AgentStateDir: filepath.Join(dir, "agent"),
		AgentHeartbeatInterval: time.Second, AgentAllowedCommands: []string{nginxtest.Find(t)},
	}
	if l != nil {
		cfg.LeafURL, cfg.EnrolmentToken = l.url, l.token(time.Hour)
	}
	return cfg
}

// logbook is a log that a test can read while it is written.
type logbook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logbook) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logbook) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// running is an agent in this process.
type running struct {
	log  *logbook
	stop func() error
}

func start(t *testing.T, cfg agent.Config) *running {
	t.Helper()
	book := &logbook{}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() {
		ended <- agent.Run(ctx, cfg, slog.New(slog.NewTextHandler(book, &slog.HandlerOptions{Level: slog.LevelDebug})))
	}()
	r := &running{log: book}
	r.stop = sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-ended:
			return err
		case <-time.After(patience):
			return errors.New("the agent does not stop")
		}
	})
	t.Cleanup(func() {
		if err := r.stop(); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("agent: %v", err)
		}
		if t.Failed() {
			t.Log(book.String())
		}
	})
	return r
}

// order to deploy, for a server of this test.
func deployOrder(t *testing.T, s *nginxtest.Server, chain string, fingerprint string, change ...func(*nginx.Config)) command.Deploy {
	t.Helper()
	c := nginx.Config{
		CertPath: s.CertPath, KeyPath: s.KeyPath, Binary: s.Binary, ConfigPath: s.ConfigPath, Prefix: s.Prefix, VerifyAddress: s.Address,
	}
	for _, f := range change {
		f(&c)
	}
	raw, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return command.Deploy{
		CertificateID: "mc-1", VersionID: "cv-1", TargetID: "tgt-1", TargetType: "NGINX", TargetConfig: raw,
		PEMChain: chain, FingerprintSHA256: fingerprint,
	}
}

// certify asks the agent for a key and signs its request.
func (l *leaf) certify(a *targettest.Authority, job string) (chain, fingerprint string) {
	l.t.Helper()
	l.order(command.VerbKeyRequest, job, 1, command.KeyRequest{CertificateID: "mc-1", CommonName: host, SANs: []string{host}, KeyAlgorithm: "ECDSA", KeySize: 256})
	csr, err := x509x.ParseCSR([]byte(l.report(job, command.OutcomeCSR).CSRPEM))
	if err != nil {
		l.t.Fatal(err)
	}
	certs := a.Sign(csr.PublicKey, host)
	return string(x509x.EncodeCertificates(certs...)), x509x.Fingerprint(certs[0].Raw)
}

func startNGINX(t *testing.T, a *targettest.Authority) *nginxtest.Server {
	t.Helper()
	before := a.Bundle(host)
	return nginxtest.Start(t, host, x509x.EncodeCertificates(before.Chain...), before.KeyPEM)
}

func TestAgent_EnrolsMakesAKeyAndServesItsCertificate(t *testing.T) {
	l := startLeaf(t)
	authority := targettest.NewAuthority(t)
	server := startNGINX(t, authority)
	cfg := newConfig(t, l)
	start(t, cfg)

	chain, fingerprint := l.certify(authority, "job-i-1")
	began := time.Now()
	l.order(command.VerbDeploy, "job-d-1", 1, deployOrder(t, server, chain, fingerprint))
	done := l.report("job-d-1", command.OutcomeCompleted)
	t.Logf("deployed and verified after %s", time.Since(began).Round(time.Millisecond))
	if done.ServedFingerprintSHA256 != fingerprint || done.AgentID != agentID || done.Attempt != 1 {
		t.Errorf("report = %+v", done)
	}
	l.report("job-d-1", command.OutcomeStarted)

	l.await("a heartbeat", func() bool { return len(l.heartbeats) > 1 })
	l.mu.Lock()
	beat, header := l.heartbeats[len(l.heartbeats)-1], l.headers[0]
	l.mu.Unlock()
	if beat.Name != "web-1" || beat.OS != runtime.GOOS || beat.Architecture != runtime.GOARCH || beat.Hostname == "" || beat.IPAddress == "" || beat.Version == "" {
		t.Errorf("heartbeat = %+v", beat)
	}
	for name, want := range map[string]string{
		"ce-specversion": "1.0", "ce-type": "certctl.agent.report.v1", "ce-source": "/certctl/agent/" + agentID, "ce-correlationid": "req-1",
	} {
		if got := header[name]; len(got) != 1 || got[0] != want {
			t.Errorf("header %s = %v, want %s", name, got, want)
		}
	}
	l.settled()
	for _, path := range []string{
		filepath.Join(cfg.KeyDir, "mc-1.key"), filepath.Join(cfg.AgentStateDir, "agent.nk"), filepath.Join(cfg.AgentStateDir, "identity.json"),
	} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestAgent_GoesBackToAnOlderCertificateWithItsOwnKey(t *testing.T) {
	l := startLeaf(t)
	authority := targettest.NewAuthority(t)
	server := startNGINX(t, authority)
	start(t, newConfig(t, l))

	older, olderPrint := l.certify(authority, "job-i-1")
	l.order(command.VerbDeploy, "job-d-1", 1, deployOrder(t, server, older, olderPrint))
	l.report("job-d-1", command.OutcomeCompleted)
	newer, newerPrint := l.certify(authority, "job-i-2")
	l.order(command.VerbDeploy, "job-d-2", 1, deployOrder(t, server, newer, newerPrint))
	l.report("job-d-2", command.OutcomeCompleted)

	// Back, forward again, and the same once more.
	for i, to := range []struct{ chain, fingerprint string }{{older, olderPrint}, {newer, newerPrint}, {newer, newerPrint}} {
		job := fmt.Sprintf("job-d-%d", i+3)
		l.order(command.VerbDeploy, job, 1, deployOrder(t, server, to.chain, to.fingerprint))
		if done := l.report(job, command.OutcomeCompleted); done.ServedFingerprintSHA256 != to.fingerprint {
			t.Errorf("%s: served %s, want %s", job, done.ServedFingerprintSHA256, to.fingerprint)
		}
		if got, err := served.Fingerprint(t.Context(), server.Address, host); err != nil || got != to.fingerprint {
			t.Errorf("%s: NGINX serves %s, %v", job, got, err)
		}
	}
	l.order(command.VerbVerify, "job-d-6", 1, deployOrder(t, server, newer, newerPrint))
	if seen := l.report("job-d-6", command.OutcomeCompleted); seen.ServedFingerprintSHA256 != newerPrint {
		t.Errorf("verified: %+v", seen)
	}
	l.order(command.VerbVerify, "job-d-7", 1, deployOrder(t, server, older, olderPrint))
	if seen := l.report("job-d-7", command.OutcomeFailed); seen.ServedFingerprintSHA256 != newerPrint || !seen.Permanent {
		t.Errorf("verified: %+v", seen)
	}
}

func TestAgent_KeepsServingTheOldCertificateIfTheConfigurationIsBroken(t *testing.T) {
	l := startLeaf(t)
	authority := targettest.NewAuthority(t)
	server := startNGINX(t, authority)
	before, err := server.Serial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	start(t, newConfig(t, l))
	chain, fingerprint := l.certify(authority, "job-i-1")
	server.Break()
	l.order(command.VerbDeploy, "job-d-1", 1, deployOrder(t, server, chain, fingerprint))
	var r command.AgentReport
	l.await("the end", func() bool {
		r = l.reports[len(l.reports)-1]
		return r.JobID == "job-d-1" && r.Outcome != command.OutcomeStarted
	})
	if r.Outcome != command.OutcomeRolledBack || !strings.Contains(r.Error, "no_such_directive") {
		t.Errorf("report = %+v", r)
	}
	if after, err := server.Serial(t.Context()); err != nil || after != before {
		t.Errorf("served is %s, %v; want %s", after, err, before)
	}
	server.Mend()
	l.order(command.VerbDeploy, "job-d-1", 2, deployOrder(t, server, chain, fingerprint))
	l.await("the second attempt", func() bool {
		r = l.reports[len(l.reports)-1]
		return r.Attempt == 2 && r.Outcome == command.OutcomeCompleted
	})
}

func TestAgent_IgnoresItsTokenOnceItIsEnrolled(t *testing.T) {
	l := startLeaf(t)
	cfg := newConfig(t, l)
	first := start(t, cfg)
	l.await("a heartbeat", func() bool { return len(l.heartbeats) > 1 })
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	start(t, cfg)
	l.certify(targettest.NewAuthority(t), "job-i-1")
}

func TestAgent_SaysWhyItIsNotEnrolled(t *testing.T) {
	l := startLeaf(t)
	foreign := startLeaf(t)
	used := newConfig(t, l)
	l.mu.Lock()
	l.secret = ""
	l.mu.Unlock()
	expired := newConfig(t, l)
	expired.EnrolmentToken = l.token(time.Nanosecond)
	other := newConfig(t, l)
	other.EnrolmentToken = foreign.token(time.Hour)
	none, torn, away := newConfig(t, l), newConfig(t, l), newConfig(t, l)
	none.EnrolmentToken, torn.EnrolmentToken = "", torn.EnrolmentToken[:50]
	away.LeafURL = "nats://leaf.example.test:4223"
	l.mu.Lock()
	l.secret = ""
	l.mu.Unlock()
	for want, cfg := range map[string]agent.Config{
		"has been used": used, "expired at": expired, "for another site": other, "not enrolled yet": none, "not whole": torn, "use tls://": away,
	} {
		t.Run(want, func(t *testing.T) {
			err := agent.Run(t.Context(), cfg, slog.New(slog.DiscardHandler))
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("run = %v", err)
			}
		})
	}
}

func TestAgent_WaitsForALeafThatIsAwayWhenItEnrols(t *testing.T) {
	l := startLeaf(t)
	cfg := newConfig(t, l)
	l.hub.Stop()
	r := start(t, cfg)
	eventually(t, "the agent says that it waits", func() bool { return strings.Contains(r.log.String(), "not enrolled yet") })
	l.hub.Restart()
	l.await("a heartbeat", func() bool { return len(l.heartbeats) > 1 })
}

func TestAgent_IsAloneInItsStateFolder(t *testing.T) {
	l := startLeaf(t)
	cfg := newConfig(t, l)
	start(t, cfg)
	l.await("a heartbeat", func() bool { return len(l.heartbeats) > 1 })
	if err := agent.Run(t.Context(), cfg, slog.New(slog.DiscardHandler)); !errors.Is(err, statedir.ErrInUse) {
		t.Errorf("a second agent: %v", err)
	}
}

func TestAgent_RenewsItsIdentityDaily(t *testing.T) {
	l := startLeaf(t)
	cfg := newConfig(t, l)
	first := start(t, cfg)
	l.await("a heartbeat", func() bool { return len(l.heartbeats) > 1 })
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	me, err := identity.Open(cfg.AgentStateDir)
	if err != nil {
		t.Fatal(err)
	}
	if err := me.Renew(l.aged(me.Current().UserJWT, 25*time.Hour)); err != nil {
		t.Fatal(err)
	}
	start(t, cfg)
	l.await("a refresh", func() bool { return l.refreshed == 1 })
	eventually(t, "the new identity on disk", func() bool {
		id, err := identity.Read(cfg.AgentStateDir)
		if err != nil {
			t.Fatal(err)
		}
		issued, _, err := id.Validity()
		return err == nil && time.Since(issued) < time.Hour
	})
}

func TestAgent_BelievesOnlyThePlatform(t *testing.T) {
	l := startLeaf(t)
	start(t, newConfig(t, l))
	body := command.KeyRequest{CertificateID: "mc-1", CommonName: host}
	payload, err := json.Marshal(command.AgentCommand{
		JobID: "job-i-forged", Attempt: 1, SiteID: site, AgentID: agentID, Verb: command.VerbKeyRequest, ExpiresAt: time.Now().Add(time.Hour),
		Body: json.RawMessage(`{"certificate_id":"mc-1","common_name":"a.test"}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	stranger, public, err := natsauth.NewPlatformKey()
	if err != nil {
		t.Fatal(err)
	}
	signature, err := natsauth.SignCommand(stranger, payload)
	if err != nil {
		t.Fatal(err)
	}
	to := func(job string) string { return subject.SiteCommand(agentID, command.VerbKeyRequest, job) }
	l.send(to("job-i-forged"), command.Signed{Payload: payload, Signature: signature, KeyID: public})
	l.send(to("job-i-unsigned"), command.Signed{Payload: payload, KeyID: l.platform.public})
	l.order(command.VerbKeyRequest, "job-i-other", 1, body, func(c *command.AgentCommand) { c.AgentID = "agent-other" })
	l.order(command.VerbKeyRequest, "job-i-site", 1, body, func(c *command.AgentCommand) { c.SiteID = "site-other" })
	l.order(command.VerbKeyRequest, "job-i-expired", 1, body, func(c *command.AgentCommand) { c.ExpiresAt = time.Now().Add(-time.Minute) })
	l.order(command.VerbKeyRequest, "job-i-good", 1, body)
	l.report("job-i-good", command.OutcomeCSR)
	l.settled()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.reports {
		if r.JobID != "job-i-good" && (r.JobID != "job-i-expired" || r.Outcome != command.OutcomeFailed) {
			t.Errorf("reported %+v", r)
		}
	}
}

// pausing is an nginx that waits before it reloads until a file is there.
func pausing(t *testing.T, s *nginxtest.Server) (binary, reached, goOn string) {
	t.Helper()
	dir := t.TempDir()
	binary, reached, goOn = filepath.Join(dir, "nginx"), filepath.Join(dir, "reached"), filepath.Join(dir, "go-on")
	script := fmt.Sprintf("#!/bin/sh\ncase \"$*\" in *reload*) touch %s; while [ ! -e %s ]; do sleep 0.02; done;; esac\nexec %s \"$@\"\n", reached, goOn, s.Binary)
	if err := os.WriteFile(binary, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return binary, reached, goOn
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func touch(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestAgent_LosesNoReportWhileItsLeafIsAway(t *testing.T) {
	l := startLeaf(t)
	authority := targettest.NewAuthority(t)
	server := startNGINX(t, authority)
	binary, reached, goOn := pausing(t, server)
	cfg := newConfig(t, l)
	cfg.AgentAllowedCommands = []string{binary}
	r := start(t, cfg)
	chain, fingerprint := l.certify(authority, "job-i-1")
	l.order(command.VerbDeploy, "job-d-1", 1, deployOrder(t, server, chain, fingerprint, func(c *nginx.Config) { c.Binary = binary }))
	eventually(t, "the reload", func() bool { return exists(reached) })
	l.hub.Stop()
	touch(t, goOn)
	waiting := filepath.Join(cfg.AgentStateDir, "spool", "*")
	eventually(t, "the report on disk", func() bool {
		files, err := filepath.Glob(waiting)
		return err == nil && len(files) == 1
	})
	// What is on disk survives the agent too.
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	start(t, cfg)
	l.hub.Restart()
	l.report("job-d-1", command.OutcomeCompleted)
	l.settled()
	if n := l.count("job-d-1", command.OutcomeCompleted); n != 1 {
		t.Errorf("the end was reported %d times", n)
	}
	eventually(t, "an empty spool", func() bool {
		files, err := filepath.Glob(waiting)
		return err == nil && len(files) == 0
	})
}

func TestAgent_KeepsReportsThatTheLeafRefuses(t *testing.T) {
	l := startLeaf(t)
	cfg := newConfig(t, l)
	start(t, cfg)
	l.certify(targettest.NewAuthority(t), "job-i-1")
	l.settled()
	// A stream without room refuses; the order is done with all the same.
	full, err := l.js.Stream(t.Context(), subject.StreamSiteReports)
	if err != nil {
		t.Fatal(err)
	}
	room := full.CachedInfo().Config
	small := room
	small.MaxMsgSize = 16
	if _, err := l.js.UpdateStream(t.Context(), small); err != nil {
		t.Fatal(err)
	}
	body := command.KeyRequest{CertificateID: "mc-2", CommonName: host}
	l.order(command.VerbKeyRequest, "job-i-2", 1, body)
	l.order(command.VerbKeyRequest, "job-i-3", 1, body)
	l.settled()
	if n := l.count("job-i-2", command.OutcomeCSR) + l.count("job-i-3", command.OutcomeCSR); n != 0 {
		t.Fatalf("%d reports came through", n)
	}
	if _, err := l.js.UpdateStream(t.Context(), room); err != nil {
		t.Fatal(err)
	}
	l.report("job-i-2", command.OutcomeCSR)
	l.report("job-i-3", command.OutcomeCSR)
}
