// Package targettest is what every kind of target must hold to, proved against the
// real server of each.
//
// A kind's own test starts its server and gives it to [Run]. The suite deploys,
// renews, breaks the server's configuration, and interrupts deployments at each point
// where their progress is saved; what the server answers with is asked over TLS.
package targettest

import (
	"encoding/json"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/certctl/certctl/services/agent/internal/served"
	"github.com/certctl/certctl/services/agent/internal/target"
)

const patience = 10 * time.Second

var errRefused = errors.New("no space left on the test's device")

// Peer is a server that runs and serves Before, and the target that stands for it.
type Peer struct {
	Kind   target.Kind
	Config json.RawMessage
	Before target.Bundle
	// Address and ServerName are where it can be asked.
	Address, ServerName string
	// Break makes the server refuse its next configuration; Mend undoes it.
	Break, Mend func()
	// Leftovers lists what is on disk and was neither there before nor is installed.
	Leftovers func() []string
}

// Run proves a kind. Start returns a fresh server each time, which serves a
// certificate of the authority.
func Run(t *testing.T, start func(t *testing.T, authority *Authority) Peer) {
	cases := map[string]func(*testing.T, *Authority, Peer){
		"ServesWhatIsDeployed":             servesWhatIsDeployed,
		"ChangesNothingIfServedAlready":    changesNothingIfServedAlready,
		"RestoresWhatWasThereIfRefused":    restoresWhatWasThereIfRefused,
		"GoesOnWhereItWasCutOff":           goesOnWhereItWasCutOff,
		"GoesOnGoingBackWhereItWasCutOff":  goesOnGoingBackWhereItWasCutOff,
		"TouchesNothingIfProgressIsNotHad": touchesNothingIfProgressIsNotHad,
		"TellsWhatIsServed":                tellsWhatIsServed,
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			authority := NewAuthority(t)
			test(t, authority, start(t, authority))
		})
	}
}

func servesWhatIsDeployed(t *testing.T, a *Authority, p Peer) {
	for range 2 {
		next := a.Bundle(p.ServerName)
		progress := &Progress{}
		got, err := p.open(t).Deploy(t.Context(), next, progress)
		if err != nil {
			t.Fatalf("deploy: %v", err)
		}
		if got != next.Fingerprint {
			t.Errorf("deploy says that %s is served, want %s", got, next.Fingerprint)
		}
		p.wantServed(t, next)
		p.clear(t, progress)
	}
}

func tellsWhatIsServed(t *testing.T, a *Authority, p Peer) {
	for _, b := range []target.Bundle{p.Before, a.Bundle(p.ServerName)} {
		b.KeyPEM = nil
		if got, err := p.open(t).Served(t.Context(), b); err != nil || got != p.Before.Fingerprint {
			t.Errorf("served = %s, %v, want %s", got, err, p.Before.Fingerprint)
		}
	}
	p.wantServed(t, p.Before)
}

func changesNothingIfServedAlready(t *testing.T, _ *Authority, p Peer) {
	progress := &Progress{}
	got, err := p.open(t).Deploy(t.Context(), p.Before, progress)
	if err != nil || got != p.Before.Fingerprint {
		t.Fatalf("deploy = %s, %v", got, err)
	}
	if progress.saved > 0 {
		t.Error("a deployment that had nothing to do changed something")
	}
}

func restoresWhatWasThereIfRefused(t *testing.T, a *Authority, p Peer) {
	p.Break()
	progress := &Progress{}
	_, err := p.open(t).Deploy(t.Context(), a.Bundle(p.ServerName), progress)
	if err == nil {
		t.Fatal("a refused configuration was taken for a success")
	}
	if state := target.AsError(err).State; state != target.Restored {
		t.Errorf("state = %d, want restored: %v", state, err)
	}
	p.wantServed(t, p.Before)
	p.clear(t, progress)
	p.Mend()
	next := a.Bundle(p.ServerName)
	if _, err := p.open(t).Deploy(t.Context(), next, &Progress{}); err != nil {
		t.Fatalf("deploy after the configuration was mended: %v", err)
	}
	p.wantServed(t, next)
}

// goesOnWhereItWasCutOff ends a deployment at each save, as a crash would, and takes
// it up again with nothing but what was saved.
func goesOnWhereItWasCutOff(t *testing.T, a *Authority, p Peer) {
	for cut := 1; ; cut++ {
		next := a.Bundle(p.ServerName)
		progress := &Progress{cutAt: cut}
		p.cutOff(t, next, progress)
		if progress.saved < cut {
			return
		}
		progress.cutAt = 0
		if _, err := p.open(t).Deploy(t.Context(), next, progress); err != nil {
			t.Fatalf("cut off at save %d, taken up again: %v", cut, err)
		}
		p.wantServed(t, next)
		p.clear(t, progress)
	}
}

func goesOnGoingBackWhereItWasCutOff(t *testing.T, a *Authority, p Peer) {
	p.Break()
	next := a.Bundle(p.ServerName)
	whole := &Progress{}
	if _, err := p.open(t).Deploy(t.Context(), next, whole); err == nil {
		t.Fatal("a refused configuration was taken for a success")
	}
	progress := &Progress{cutAt: whole.saved}
	p.cutOff(t, next, progress)
	progress.cutAt = 0
	// The configuration would be accepted now, but the direction was decided.
	p.Mend()
	_, err := p.open(t).Deploy(t.Context(), next, progress)
	if err == nil || target.AsError(err).State != target.Restored {
		t.Fatalf("taken up again on its way back: %v", err)
	}
	p.wantServed(t, p.Before)
	p.clear(t, progress)
}

func touchesNothingIfProgressIsNotHad(t *testing.T, a *Authority, p Peer) {
	_, err := p.open(t).Deploy(t.Context(), a.Bundle(p.ServerName), &Progress{refuse: true})
	if err == nil || target.AsError(err).State != target.Untouched {
		t.Fatalf("deploy without a memory: %v", err)
	}
	p.wantServed(t, p.Before)
	if left := p.Leftovers(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func (p Peer) open(t *testing.T) target.Target {
	t.Helper()
	opened, err := p.Kind.Open(p.Config)
	if err != nil {
		t.Fatalf("open target: %v", err)
	}
	return opened
}

func (p Peer) cutOff(t *testing.T, b target.Bundle, progress *Progress) {
	t.Helper()
	opened := p.open(t)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		// What it returns is of interest to nobody who crashed.
		_, _ = opened.Deploy(t.Context(), b, progress)
	}()
	<-ended
}

func (p Peer) wantServed(t *testing.T, b target.Bundle) {
	t.Helper()
	got, err := served.Await(t.Context(), p.Address, p.ServerName, b.Fingerprint, patience)
	if err != nil {
		t.Fatalf("served: %v (%s)", err, got)
	}
}

func (p Peer) clear(t *testing.T, progress *Progress) {
	t.Helper()
	if err := p.open(t).Clear(progress); err != nil {
		t.Fatalf("clear: %v", err)
	}
	if left := p.Leftovers(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// Progress remembers as long as the test lasts. It can end the deployment that saves.
type Progress struct {
	state  json.RawMessage
	saved  int
	cutAt  int
	refuse bool
}

// Load returns what was saved last.
func (p *Progress) Load() json.RawMessage { return p.state }

// Save remembers, and ends the goroutine if it is to be cut off here.
func (p *Progress) Save(state json.RawMessage) error {
	if p.refuse {
		return errRefused
	}
	p.state = state
	p.saved++
	if p.saved == p.cutAt {
		runtime.Goexit()
	}
	return nil
}
