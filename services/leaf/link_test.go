package leaf_test

import (
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/certctl/certctl/contracts/subject"
)

// path is a network path to the hub on which connections can die without a word.
type path struct {
	listener net.Listener
	to       string

	mu    sync.Mutex
	conns []*frozen // guarded by mu
	wg    sync.WaitGroup
}

type frozen struct {
	a, b net.Conn
	dead chan struct{}
}

func newPath(t *testing.T, to string) *path {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &path{listener: l, to: to}
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		_ = l.Close()
		p.die()
		p.mu.Lock()
		for _, c := range p.conns {
			_ = c.a.Close()
			_ = c.b.Close()
		}
		p.mu.Unlock()
		p.wg.Wait()
	})
	return p
}

func (p *path) accept() {
	for {
		a, err := p.listener.Accept()
		if err != nil {
			return
		}
		b, err := net.Dial("tcp", p.to)
		if err != nil {
			_ = a.Close()
			continue
		}
		c := &frozen{a: a, b: b, dead: make(chan struct{})}
		p.mu.Lock()
		p.conns = append(p.conns, c)
		p.mu.Unlock()
		p.wg.Go(func() { c.copy(a, b) })
		p.wg.Go(func() { c.copy(b, a) })
	}
}

func (c *frozen) copy(to, from net.Conn) {
	defer to.Close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		select {
		case <-c.dead:
			if err != nil {
				return
			}
			continue // swallowed
		default:
		}
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			if err != io.EOF {
				return
			}
			return
		}
	}
}

// die lets the present connections carry nothing more. New ones work.
func (p *path) die() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		select {
		case <-c.dead:
		default:
			close(c.dead)
		}
	}
}

// cut closes the present connections.
func (p *path) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.a.Close()
		_ = c.b.Close()
	}
}

func TestLink_IsMadeAnewWhenTheHubFallsSilent(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "site-1")
	p := newPath(t, w.hub.LeafURL().Host)
	c := w.config("site-1")
	c.HubURL, c.ProbeInterval = []string{"nats://" + p.listener.Addr().String()}, 200*time.Millisecond
	l := w.leaf(c)
	a := w.enter("agent-a", "site-1", l)
	w.order("site-1", "agent-a", "job-1")
	w.orders(a, 1)
	p.die()
	began := time.Now()
	if err := w.report(a, "job-1"); err != nil {
		t.Fatal(err)
	}
	w.order("site-1", "agent-a", "job-2")
	w.orders(a, 1)
	w.stored(subject.StreamAgentReports, subject.AgentReports("site-1"), 1)
	t.Logf("work went on %v after the silence began", time.Since(began))
}

func TestRelay_LosesAndReordersNothingOverABadLink(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "site-1")
	p := newPath(t, w.hub.LeafURL().Host)
	c := w.config("site-1")
	c.HubURL, c.ProbeInterval = []string{"nats://" + p.listener.Addr().String()}, 500*time.Millisecond
	l := w.leaf(c)
	a := w.enter("agent-a", "site-1", l)
	const n, cuts = 400, 8
	for i := range n {
		if i%(n/cuts) == n/cuts-1 {
			p.cut()
		}
		w.order("site-1", "agent-a", fmt.Sprintf("job-%03d", i))
		if err := w.report(a, fmt.Sprintf("job-%03d", i)); err != nil {
			t.Fatal(err)
		}
	}
	for i, m := range w.orders(a, n) {
		if want := fmt.Sprintf("job-%03d", i); string(m.Data()) != want {
			t.Fatalf("order %d is %s", i, m.Data())
		}
	}
	reports := w.stored(subject.StreamAgentReports, subject.AgentReports("site-1"), n)
	if len(reports) != n {
		t.Errorf("%d reports for %d", len(reports), n)
	}
	for i, m := range reports {
		if want := fmt.Sprintf("job-%03d", i); string(m.Data()) != want {
			t.Fatalf("report %d is %s", i, m.Data())
		}
	}
}
