package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/contracts/httpapi/client"
	"github.com/certctl/certctl/e2e/internal/rig"
)

// TestPowerLoss_WhatALeafForgotIsDoneAgain takes from a leaf all that it stored, which is
// more than its host's loss of power can: an order that its agent had not taken, then the
// report of one that was carried out. The hub gives the order again, and the agent repeats
// its answer.
func TestPowerLoss_WhatALeafForgotIsDoneAgain(t *testing.T) {
	t.Parallel()
	in := rig.Up(t, rig.Dir(t), "CERTCTL_LOG_LEVEL=warn", "CERTCTL_DEPLOYMENT_ORDER_DEADLINE=2s")
	leaf := in.NewSite("site-dark", "CERTCTL_LEAF_LOG_LEVEL=warn")
	agent := in.Enrol("host-dark", leaf.SiteID, leaf.URL)
	nginx := rig.StartNGINX(t, in.Dir, "nginx-dark", "dark.e2e.test")
	target := in.Target(agent, nginx.Sites[0])
	created := rig.Must[client.Certificate](t)(in.CreateCertificate(t.Context(), client.CertificateCreate{
		CommonName: nginx.Sites[0].Name, TargetIds: &[]string{target.ID},
	}))
	first := in.Active(t, created.ID, "")

	agent.Freeze()
	rig.Must[client.RenewalTriggered](t)(in.RenewCertificate(t.Context(), created.ID, client.CertificateRenew{}))
	// Nobody outside sees that the order is at the leaf, which takes milliseconds.
	rig.Pause(t, time.Second)
	forgets(t, leaf)
	agent.Thaw()
	second := in.Active(t, created.ID, rig.Value(first.FingerprintSha256))

	finished := finishedOrders(t, agent)
	agent.Freeze()
	rig.Must[client.RenewalTriggered](t)(in.RenewCertificate(t.Context(), created.ID, client.CertificateRenew{}))
	rig.Pause(t, time.Second)
	in.Kill()
	agent.Thaw()
	rig.Within(t, rig.Patience, "the agent carries out the order while the hub is away", func() error {
		if finishedOrders(t, agent) == finished {
			return errors.New("it has not")
		}
		return nil
	})
	rig.Pause(t, time.Second) // so that the leaf has the report
	forgets(t, leaf)
	in.Start()
	in.Ready()
	third := in.Active(t, created.ID, rig.Value(second.FingerprintSha256))
	if got := nginx.Sites[0].Fingerprint(t); got != rig.Value(third.FingerprintSha256) {
		t.Errorf("%s is served, the record says %s", got, rig.Value(third.FingerprintSha256))
	}
	if !strings.Contains(agent.Output(), "order answered from the journal") {
		t.Error("the agent was not asked again")
	}
}

// forgets takes from a leaf all messages, and starts it again.
func forgets(t *testing.T, leaf *rig.Leaf) {
	t.Helper()
	leaf.Kill()
	if err := os.RemoveAll(filepath.Join(leaf.DataDir, "jetstream")); err != nil {
		t.Fatal(err)
	}
	leaf.Start()
}

// finishedOrders is how many orders the journal of an agent knows the end of.
func finishedOrders(t *testing.T, agent *rig.Agent) int {
	t.Helper()
	done, err := os.ReadDir(filepath.Join(agent.StateDir, "journal", "done"))
	if err != nil {
		t.Fatal(fmt.Errorf("read the journal: %w", err))
	}
	return len(done)
}

// TestPowerLoss_WhatTheHubForgotIsPublishedAgain takes from the hub's streams what came within the last two seconds, as
// much as a power cut can, and leaves the state of their readers, who are then ahead of the streams.
func TestPowerLoss_WhatTheHubForgotIsPublishedAgain(t *testing.T) {
	t.Parallel()
	const atOnce = 40
	in := rig.Up(t, rig.Dir(t), "CERTCTL_LOG_LEVEL=warn")
	streams := filepath.Join(in.DataDir, "nats", "streams")
	issued := map[string]int{}
	issue := func(name string) {
		issued["mc-"+name] = 0
		rig.Must[client.Certificate](t)(in.CreateCertificate(t.Context(), client.CertificateCreate{
			ID: new("mc-" + name), CommonName: name + ".e2e.test", CsrPem: new(rig.CSR(t, name+".e2e.test")),
		}))
	}
	issue("before")
	rig.Within(t, rig.Patience, "the events of the first are on record", func() error { return onRecord(t, in, issued) })

	before := filepath.Join(in.Dir, "before")
	for round := 0; ; round++ {
		if err := os.RemoveAll(before); err != nil {
			t.Fatal(err)
		}
		at := time.Now()
		copyMessages(t, streams, before)
		for i := range atOnce {
			issue(fmt.Sprintf("lost-%d-%d", round, i))
		}
		in.Kill()
		if time.Since(at) < 2*time.Second {
			break
		}
		// What came first is certainly on disk by now: the machine was too slow for the story.
		in.Start()
		in.Ready()
	}
	copyMessages(t, before, streams)
	in.Start()
	in.Ready()
	issue("after")
	rig.Within(t, rig.Patience, "every event is on record", func() error { return onRecord(t, in, issued) })
}

// onRecord returns an error unless the issue of each certificate, and the call that asked for it, are on record once.
func onRecord(t *testing.T, in *rig.Installation, issued map[string]int) error {
	events, err := in.Audit(t.Context(), "certificate_issued")
	if err != nil {
		return err
	}
	calls, err := in.Audit(t.Context(), "api_post")
	if err != nil {
		return err
	}
	for id := range issued {
		issued[id] = 0
	}
	for _, e := range events {
		issued[e.ResourceID]++
	}
	for id, n := range issued {
		if n != 1 {
			return fmt.Errorf("the issue of %s is on record %d times, of %d events", id, n, len(events))
		}
	}
	if len(calls) != len(issued) {
		return fmt.Errorf("%d calls are on record, of %d", len(calls), len(issued))
	}
	return nil
}

// copyMessages replaces the messages of streams in one folder by those in another, and leaves all else.
func copyMessages(t *testing.T, from, to string) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(from, "jetstream", "*", "streams", "*", "msgs"))
	if err != nil || len(found) == 0 {
		t.Fatalf("no messages in %s: %v", from, err)
	}
	for _, msgs := range found {
		name, err := filepath.Rel(from, msgs)
		if err != nil {
			t.Fatal(err)
		}
		target := filepath.Join(to, name)
		if err := errors.Join(os.RemoveAll(target), os.MkdirAll(target, 0o700)); err != nil {
			t.Fatal(err)
		}
		// Files may go while they are copied.
		if err := os.CopyFS(target, os.DirFS(msgs)); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
}
