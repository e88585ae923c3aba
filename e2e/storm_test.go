package e2e

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certctl/certctl/contracts/httpapi/client"
	"github.com/certctl/certctl/e2e/internal/rig"
)

// storm is clients that ask and a killer that kills.
type storm struct {
	*world
	t       *testing.T
	killed  []string // what was killed, in order
	renewed atomic.Int64
	asked   []*wish
}

// wish is a certificate that was asked for until the API said that it has it.
type wish struct {
	id, name string
	target   *target // nil if the request came with a CSR
	// answered is the version that the API answered with, if it did.
	answered *client.CertificateVersion
}

// issue sends all requests, at random moments, and returns when the last was
// acknowledged.
func (s *storm) issue(random *rand.Rand) {
	var clients sync.WaitGroup
	for i := range byCSR + byAgent {
		at := time.Duration(random.Int64N(int64(during)))
		renew := random.IntN(2) == 0
		w := &wish{id: fmt.Sprintf("mc-%03d", i), name: fmt.Sprintf("csr-%03d.e2e.test", i)}
		if i < byAgent {
			w.target = s.targets[i]
			w.name = w.target.served.Name
		}
		s.asked = append(s.asked, w)
		clients.Go(func() {
			rig.Pause(s.t, at)
			s.request(w)
			if w.target != nil && renew {
				s.renew(w)
			}
		})
	}
	clients.Wait()
}

// request asks for a certificate under an id of the client's own, which makes it safe to
// ask again when no answer came.
func (s *storm) request(w *wish) {
	body := client.CertificateCreate{ID: &w.id, CommonName: w.name, Sans: &[]string{w.name}}
	if w.target != nil {
		body.TargetIds = &[]string{w.target.id}
	} else {
		body.CsrPem = new(rig.CSR(s.t, w.name))
	}
	s.insist("create "+w.id, func() error {
		c, err := rig.Read[client.Certificate](s.CreateCertificate(s.t.Context(), body))
		switch rig.StatusOf(err) {
		case 409: // an answer of before was lost
			_, err = rig.Read[client.Certificate](s.GetCertificate(s.t.Context(), w.id))
		default:
			w.answered = c.Version
		}
		return err
	})
}

// renew asks for a renewal as soon as the certificate is Active.
func (s *storm) renew(w *wish) {
	active := false
	s.insist("see "+w.id+" Active", func() error {
		c, err := rig.Read[client.Certificate](s.GetCertificate(s.t.Context(), w.id))
		if active = err == nil && c.Status == client.CertificateStatusActive; err == nil && !active {
			err = fmt.Errorf("it is %s: %s", c.Status, rig.Value(c.StatusReason))
		}
		return err
	})
	if !active {
		return
	}
	s.insist("renew "+w.id, func() error {
		_, err := rig.Read[client.RenewalTriggered](s.RenewCertificate(s.t.Context(), w.id, client.CertificateRenew{}))
		if rig.StatusOf(err) == 409 {
			return nil // an answer of before was lost
		}
		return err
	})
	s.renewed.Add(1)
}

// insist repeats a call until it succeeds or is refused for good.
func (s *storm) insist(what string, call func() error) {
	deadline := time.Now().Add(during + settle)
	for {
		err := call()
		if err == nil {
			return
		}
		if status := rig.StatusOf(err); status >= 400 && status < 500 && status != 429 {
			s.t.Errorf("%s: %v", what, err)
			return
		}
		if time.Now().After(deadline) {
			s.t.Errorf("%s: at last: %v", what, err)
			return
		}
		rig.Pause(s.t, 200*time.Millisecond)
	}
}

// kill kills one after the other until it is told that the storm is over, and starts
// again what it has killed. Every kind comes once before any comes again.
func (s *storm) kill(random *rand.Rand, over <-chan struct{}) {
	var deck []func() string
	for {
		if len(deck) == 0 {
			deck = s.victims(random)
			random.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
		}
		select {
		case <-over:
			return
		case <-time.After(500*time.Millisecond + time.Duration(random.Int64N(int64(2500*time.Millisecond)))):
		}
		if name := deck[0](); name != "" {
			s.killed = append(s.killed, name)
		}
		deck = deck[1:]
	}
}

// victims are one of each kind of process. Each returns the name of what it killed,
// or nothing if it was dead.
func (s *storm) victims(random *rand.Rand) []func() string {
	restart := func(p *rig.Program) func() string {
		gone := time.Duration(random.Int64N(int64(time.Second)))
		return func() string {
			p.Kill()
			rig.Pause(s.t, gone)
			p.Start()
			return p.Name
		}
	}
	return []func() string{
		restart(s.Program),
		restart(s.apart[0]),
		restart(s.apart[1]),
		restart(s.leaf.Program),
		restart(s.agents[random.IntN(len(s.agents))].Program),
		func() string {
			if !s.KillPostgres() {
				return ""
			}
			return "postgres"
		},
	}
}
