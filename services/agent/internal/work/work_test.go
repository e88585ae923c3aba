package work_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/natsauth"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/agent/internal/identity"
	"github.com/certctl/certctl/services/agent/internal/journal"
	"github.com/certctl/certctl/services/agent/internal/keystore"
	"github.com/certctl/certctl/services/agent/internal/order"
	"github.com/certctl/certctl/services/agent/internal/target"
	"github.com/certctl/certctl/services/agent/internal/target/targettest"
	"github.com/certctl/certctl/services/agent/internal/work"
)

var now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// bench is a worker over a folder; open makes another one over the same folder, as a
// restart does.
type bench struct {
	*work.Worker
	t         *testing.T
	dir       string
	authority *targettest.Authority
	target    *fakeTarget
	told      *reporter
}

func newBench(t *testing.T) *bench {
	b := &bench{t: t, dir: t.TempDir(), authority: targettest.NewAuthority(t), target: &fakeTarget{}, told: &reporter{}}
	b.open()
	return b
}

func (b *bench) open() {
	b.t.Helper()
	me, err := identity.Open(b.dir)
	if err != nil {
		b.t.Fatal(err)
	}
	keys, err := keystore.Open(filepath.Join(b.dir, "keys"))
	if err != nil {
		b.t.Fatal(err)
	}
	j, err := journal.Open(filepath.Join(b.dir, "journal"))
	if err != nil {
		b.t.Fatal(err)
	}
	b.told.mu.Lock()
	b.told.me = me.PublicKey()
	b.told.mu.Unlock()
	b.Worker = &work.Worker{
		Identity: me, Journal: j, Keys: keys, Targets: map[string]target.Kind{"FAKE": b.target}, Reporter: b.told,
		Clock: clock.At(now), Log: slog.New(slog.DiscardHandler),
	}
}

func (b *bench) order(verb, job string, attempt int, body any) order.Order {
	b.t.Helper()
	raw, err := json.Marshal(body)
	if err != nil {
		b.t.Fatal(err)
	}
	payload, err := json.Marshal(command.AgentCommand{
		JobID: job, Attempt: attempt, SiteID: "site-1", AgentID: "agent-1", Verb: verb,
		IssuedAt: now.Add(-time.Second), ExpiresAt: now.Add(time.Hour), Body: raw,
	})
	if err != nil {
		b.t.Fatal(err)
	}
	o, err := order.Recall(command.Signed{Payload: payload}, order.Origin{CauseID: "cmd-1"})
	if err != nil {
		b.t.Fatal(err)
	}
	return o
}

func (b *bench) do(o order.Order) command.AgentReport {
	b.t.Helper()
	if err := b.Do(b.t.Context(), o); err != nil {
		b.t.Fatalf("do: %v", err)
	}
	return b.told.last(b.t)
}

// request has the worker make a key, and returns an order to deploy its certificate.
func (b *bench) request(job string) command.Deploy {
	b.t.Helper()
	return b.requestAgain(job, "")
}

// requestAgain has it use the key of a hash again, if it is not empty.
func (b *bench) requestAgain(job, hash string) command.Deploy {
	b.t.Helper()
	r := b.do(b.order(command.VerbKeyRequest, job, 1, command.KeyRequest{
		CertificateID: "mc-1", CommonName: "www.example.test", ReuseSPKISHA256: hash,
	}))
	csr, err := x509x.ParseCSR([]byte(r.CSRPEM))
	if err != nil {
		b.t.Fatalf("%+v: %v", r, err)
	}
	chain := b.authority.Sign(csr.PublicKey, "www.example.test")
	return command.Deploy{
		CertificateID: "mc-1", VersionID: "cv-1", TargetID: "tgt-1", TargetType: "FAKE",
		PEMChain: string(x509x.EncodeCertificates(chain...)), FingerprintSHA256: x509x.Fingerprint(chain[0].Raw),
	}
}

// reporter remembers what it is told, after checking the signature.
type reporter struct {
	me string

	mu      sync.Mutex
	reports []command.AgentReport
	fail    error
}

func (r *reporter) Report(_ context.Context, _ order.Order, _ string, signed command.Signed) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail != nil {
		return r.fail
	}
	if err := natsauth.VerifyReport(r.me, signed.Payload, signed.Signature); err != nil {
		return err
	}
	var report command.AgentReport
	if err := json.Unmarshal(signed.Payload, &report); err != nil {
		return err
	}
	r.reports = append(r.reports, report)
	return nil
}

func (r *reporter) last(t *testing.T) command.AgentReport {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.reports) == 0 {
		t.Fatal("nothing was reported")
	}
	return r.reports[len(r.reports)-1]
}

func (r *reporter) outcomes() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, report := range r.reports {
		out = append(out, report.Outcome)
	}
	return out
}

// fakeTarget is a target whose deployments fail, or are cut off, as a test likes.
type fakeTarget struct {
	deployed []string
	held     []byte
	fail     error
	cutOff   bool
	cleared  int
	resumed  []string
}

func (f *fakeTarget) Open(json.RawMessage) (target.Target, error) { return f, nil }
func (f *fakeTarget) HoldsKey() []byte                            { return f.held }
func (f *fakeTarget) Clear(target.Progress) error                 { f.cleared++; return nil }

func (f *fakeTarget) Served(context.Context, target.Bundle) (string, error) {
	if len(f.deployed) == 0 {
		return "", errors.New("connection refused")
	}
	return f.deployed[len(f.deployed)-1], nil
}

func (f *fakeTarget) Deploy(_ context.Context, b target.Bundle, p target.Progress) (string, error) {
	if at := p.Load(); len(at) > 0 {
		f.resumed = append(f.resumed, string(at))
	}
	if err := p.Save(json.RawMessage(`"under way"`)); err != nil {
		return "", err
	}
	if f.cutOff {
		runtime.Goexit()
	}
	if f.fail != nil {
		return "", f.fail
	}
	f.deployed = append(f.deployed, b.Fingerprint)
	return b.Fingerprint, nil
}

func TestKeyRequest_PutsEachNameWhereItBelongs(t *testing.T) {
	b := newBench(t)
	r := b.do(b.order(command.VerbKeyRequest, "job-i-1", 1, command.KeyRequest{
		CertificateID: "mc-1", CommonName: "WWW.example.test", SANs: []string{
			"*.example.test", "10.0.0.1", "2001:db8::1", "ops@example.test", "spiffe://example.test/web",
		},
	}))
	if r.Outcome != command.OutcomeCSR || r.AgentID != "agent-1" || r.JobID != "job-i-1" || r.Attempt != 1 {
		t.Fatalf("report = %+v", r)
	}
	csr, err := x509x.ParseCSR([]byte(r.CSRPEM))
	if err != nil {
		t.Fatal(err)
	}
	var ips, uris []string
	for _, ip := range csr.IPAddresses {
		ips = append(ips, ip.String())
	}
	for _, u := range csr.URIs {
		uris = append(uris, u.String())
	}
	for name, pair := range map[string][2][]string{
		"dns":   {{"*.example.test", "www.example.test"}, csr.DNSNames},
		"ip":    {{"10.0.0.1", "2001:db8::1"}, ips},
		"email": {{"ops@example.test"}, csr.EmailAddresses},
		"uri":   {{"spiffe://example.test/web"}, uris},
		"cn":    {{"WWW.example.test"}, {csr.Subject.CommonName}},
	} {
		if diff := cmp.Diff(pair[0], pair[1]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if csr.PublicKeyAlgorithm != x509.ECDSA {
		t.Errorf("key is %s", csr.PublicKeyAlgorithm)
	}
	if strings.Contains(r.CSRPEM, "PRIVATE") {
		t.Error("the report holds a private key")
	}
}

func TestKeyRequest_SaysWhatCannotBeDone(t *testing.T) {
	b := newBench(t)
	for want, body := range map[string]any{
		"cannot be read": "no object", "names nothing": command.KeyRequest{CertificateID: "mc-1"},
		"sans[0]":           command.KeyRequest{CertificateID: "mc-1", SANs: []string{"a b"}},
		"none of ECDSA":     command.KeyRequest{CertificateID: "mc-1", CommonName: "a.test", KeyAlgorithm: "DSA"},
		"cannot name a key": command.KeyRequest{CertificateID: "../x", CommonName: "a.test"},
	} {
		r := b.do(b.order(command.VerbKeyRequest, "job-i-"+x509x.SPKIHash([]byte(want))[:8], 1, body))
		if r.Outcome != command.OutcomeFailed || !r.Permanent || !strings.Contains(r.Error, want) {
			t.Errorf("want %q: %+v", want, r)
		}
	}
}

func TestDeploy_InstallsWithTheKeyThatWasMadeHere(t *testing.T) {
	b := newBench(t)
	body := b.request("job-i-1")
	r := b.do(b.order(command.VerbDeploy, "job-d-1", 1, body))
	if r.Outcome != command.OutcomeCompleted || r.ServedFingerprintSHA256 != body.FingerprintSHA256 {
		t.Fatalf("report = %+v", r)
	}
	if diff := cmp.Diff([]string{"csr", "started", "completed"}, b.told.outcomes()); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
	if _, err := os.Stat(filepath.Join(b.dir, "keys", "mc-1.key")); err != nil {
		t.Errorf("the key is not the certificate's: %v", err)
	}
	if unsettled, err := b.Journal.Unsettled(); len(unsettled) > 0 || err != nil || b.target.cleared != 1 {
		t.Errorf("unsettled %v, %v, cleared %d", unsettled, err, b.target.cleared)
	}
}

func TestVerify_TellsWhatIsServedAndChangesNothing(t *testing.T) {
	b := newBench(t)
	body := b.request("job-i-1")
	r := b.do(b.order(command.VerbVerify, "job-d-1", 1, body))
	if r.Outcome != command.OutcomeFailed || !r.Permanent || !strings.Contains(r.Error, "connection refused") {
		t.Errorf("nothing is served: %+v", r)
	}
	b.do(b.order(command.VerbDeploy, "job-d-2", 1, body))
	if r := b.do(b.order(command.VerbVerify, "job-d-3", 1, body)); r.Outcome != command.OutcomeCompleted || r.ServedFingerprintSHA256 != body.FingerprintSHA256 {
		t.Errorf("served as ordered: %+v", r)
	}
	other := b.authority.Bundle("www.example.test")
	body.PEMChain, body.FingerprintSHA256 = string(x509x.EncodeCertificates(other.Chain...)), other.Fingerprint
	r = b.do(b.order(command.VerbVerify, "job-d-4", 1, body))
	if r.Outcome != command.OutcomeFailed || !r.Permanent || r.ServedFingerprintSHA256 != b.target.deployed[0] || !strings.Contains(r.Error, other.Fingerprint) {
		t.Errorf("another one is served: %+v", r)
	}
	if len(b.target.deployed) != 1 {
		t.Errorf("deployed %v", b.target.deployed)
	}
	body.PEMChain = "no PEM"
	if r := b.do(b.order(command.VerbVerify, "job-d-5", 1, body)); r.Outcome != command.OutcomeFailed || !r.Permanent {
		t.Errorf("an order that makes no sense: %+v", r)
	}
}

func TestDeploy_HappensOnce(t *testing.T) {
	b := newBench(t)
	o := b.order(command.VerbDeploy, "job-d-1", 1, b.request("job-i-1"))
	first := b.do(o)
	b.open()
	second := b.do(o)
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("the repeat was answered otherwise (-first +second):\n%s", diff)
	}
	if len(b.target.deployed) != 1 {
		t.Errorf("deployed %d times", len(b.target.deployed))
	}
}

func TestDeploy_IsPassedOverAfterALaterAttempt(t *testing.T) {
	b := newBench(t)
	body := b.request("job-i-1")
	b.do(b.order(command.VerbDeploy, "job-d-1", 2, body))
	told := len(b.told.outcomes())
	b.do(b.order(command.VerbDeploy, "job-d-1", 1, body))
	if len(b.target.deployed) != 1 || len(b.told.outcomes()) != told {
		t.Errorf("deployed %d times, told %v", len(b.target.deployed), b.told.outcomes())
	}
}

func TestDeploy_IsRefusedOnceItExpired(t *testing.T) {
	b := newBench(t)
	o := b.order(command.VerbDeploy, "job-d-1", 1, b.request("job-i-1"))
	o.ExpiresAt = now
	r := b.do(o)
	if r.Outcome != command.OutcomeFailed || r.Permanent || !strings.Contains(r.Error, "expired") || len(b.target.deployed) > 0 {
		t.Errorf("report = %+v, deployed %v", r, b.target.deployed)
	}
}

func TestDeploy_TellsHowItEnded(t *testing.T) {
	long := strings.Repeat("ä", 5000)
	for name, tt := range map[string]struct {
		err  error
		want command.AgentReport
	}{
		"restored":  {&target.Error{State: target.Restored, Err: errors.New("why")}, command.AgentReport{Outcome: "rolledback", Error: "why"}},
		"untouched": {&target.Error{Err: errors.New("why")}, command.AgentReport{Outcome: "failed", Error: "why"}},
		"permanent": {target.Refuse("why"), command.AgentReport{Outcome: "failed", Error: "why", Permanent: true}},
		"broken":    {&target.Error{State: target.Broken, Err: errors.New("why")}, command.AgentReport{Outcome: "failed", Error: "why"}},
		"at length": {errors.New(long), command.AgentReport{Outcome: "failed", Error: long[:4096] + " ..."}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.target.fail = tt.err
			r := b.do(b.order(command.VerbDeploy, "job-d-1", 1, b.request("job-i-1")))
			got := command.AgentReport{Outcome: r.Outcome, Error: r.Error, Permanent: r.Permanent}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("report (-want +got):\n%s", diff)
			}
			if _, err := os.Stat(filepath.Join(b.dir, "keys", "mc-1.key")); !os.IsNotExist(err) {
				t.Errorf("a key that is not in use became the certificate's: %v", err)
			}
		})
	}
}

func TestDeploy_RefusesACertificateWithoutItsKey(t *testing.T) {
	b := newBench(t)
	body := b.request("job-i-1")
	foreign := b.authority.Bundle("www.example.test")
	body.PEMChain, body.FingerprintSHA256 = string(x509x.EncodeCertificates(foreign.Chain...)), ""
	r := b.do(b.order(command.VerbDeploy, "job-d-1", 1, body))
	if r.Outcome != command.OutcomeFailed || !r.Permanent || !strings.Contains(r.Error, "no private key") {
		t.Errorf("report = %+v", r)
	}
	// The key may be at the target already, when the certificate was requested with it.
	b.target.held = foreign.KeyPEM
	if r := b.do(b.order(command.VerbDeploy, "job-d-2", 1, body)); r.Outcome != command.OutcomeCompleted {
		t.Errorf("report = %+v", r)
	}
}

func TestDeploy_RefusesWhatDoesNotFitTogether(t *testing.T) {
	b := newBench(t)
	good := b.request("job-i-1")
	for i, change := range []func(*command.Deploy){
		func(d *command.Deploy) { d.TargetType = "nginx" },
		func(d *command.Deploy) { d.PEMChain = "no PEM" },
		func(d *command.Deploy) { d.FingerprintSHA256 = strings.Repeat("0", 64) },
		func(d *command.Deploy) { d.CertificateID = "../mc-1" },
	} {
		body := good
		change(&body)
		r := b.do(b.order(command.VerbDeploy, "job-d-"+string(rune('1'+i)), 1, body))
		if r.Outcome != command.OutcomeFailed || !r.Permanent {
			t.Errorf("%d: %+v", i, r)
		}
	}
	if len(b.target.deployed) > 0 {
		t.Error("something was deployed")
	}
}

func TestRecover_TakesUpWhatWasCutOff(t *testing.T) {
	b := newBench(t)
	body := b.request("job-i-1")
	o := b.order(command.VerbDeploy, "job-d-1", 1, body)
	b.target.cutOff = true
	b.crash(func() { _ = b.Do(b.t.Context(), o) })

	b.target.cutOff = false
	b.open()
	if err := b.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := b.told.last(t); r.Outcome != command.OutcomeCompleted || r.JobID != "job-d-1" {
		t.Errorf("report = %+v", r)
	}
	if !slices.Equal(b.target.resumed, []string{`"under way"`}) || len(b.target.deployed) != 1 {
		t.Errorf("resumed %v, deployed %v", b.target.resumed, b.target.deployed)
	}
	// The order was never acknowledged, so it comes again.
	b.do(o)
	if len(b.target.deployed) != 1 {
		t.Error("it was deployed once more")
	}
}

func TestRecover_ClearsAwayAfterWhatWasFinished(t *testing.T) {
	b := newBench(t)
	o := b.order(command.VerbDeploy, "job-d-1", 1, b.request("job-i-1"))
	b.target.cutOff = true
	b.crash(func() { _ = b.Do(b.t.Context(), o) })
	if err := b.Journal.Finish(o.Key(), journal.Done{At: now}); err != nil {
		t.Fatal(err)
	}
	b.open()
	if err := b.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	unsettled, err := b.Journal.Unsettled()
	if b.target.cleared != 1 || len(b.target.deployed) > 0 || len(unsettled) > 0 || err != nil {
		t.Errorf("cleared %d, deployed %v, unsettled %v, %v", b.target.cleared, b.target.deployed, unsettled, err)
	}
}

func TestDo_IsNotAcknowledgedBeforeItsReportIsSafe(t *testing.T) {
	b := newBench(t)
	o := b.order(command.VerbKeyRequest, "job-i-1", 1, command.KeyRequest{CertificateID: "mc-1", CommonName: "a.test"})
	b.told.fail = errors.New("spool is full")
	if err := b.Do(t.Context(), o); err == nil {
		t.Fatal("acknowledged")
	}
	b.told.fail = nil
	if r := b.do(o); r.Outcome != command.OutcomeCSR {
		t.Errorf("report = %+v", r)
	}
}

func TestDo_TellsWhenThereIsNoRoomForTheJournal(t *testing.T) {
	b := newBench(t)
	o := b.order(command.VerbDeploy, "job-d-1", 1, b.request("job-i-1"))
	for _, folder := range []string{"open", "done"} {
		if err := os.RemoveAll(filepath.Join(b.dir, "journal", folder)); err != nil {
			t.Fatal(err)
		}
	}
	r := b.do(o)
	if r.Outcome != command.OutcomeFailed || r.Permanent || !strings.Contains(r.Error, "journal") || len(b.target.deployed) > 0 {
		t.Errorf("report = %+v, deployed %v", r, b.target.deployed)
	}
}

func TestDo_BeginsNothingWhileTheAgentStops(t *testing.T) {
	b := newBench(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	o := b.order(command.VerbKeyRequest, "job-i-1", 1, command.KeyRequest{CertificateID: "mc-1", CommonName: "a.test"})
	if err := b.Do(ctx, o); !errors.Is(err, context.Canceled) || len(b.told.outcomes()) > 0 {
		t.Errorf("do = %v, told %v", err, b.told.outcomes())
	}
}

// crash runs f and lets its goroutine end where a target cuts it off.
func (b *bench) crash(f func()) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f()
	}()
	<-ended
}
