package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certctl/certctl/e2e/internal/rig"
)

const (
	byCSR   = 150
	byAgent = 50
	// during is how long requests keep coming.
	during = 45 * time.Second
	// settle is how long the system may take to finish when nobody kills it any more.
	settle = 90 * time.Second
)

// TestKill_NothingIsLostAndNothingHappensTwice kills every kind of process at random
// moments while certificates are issued, installed and renewed.
func TestKill_NothingIsLostAndNothingHappensTwice(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if given := os.Getenv("CERTCTL_E2E_SEED"); given != "" {
		var err error
		if seed, err = strconv.ParseUint(given, 10, 64); err != nil {
			t.Fatalf("CERTCTL_E2E_SEED: %v", err)
		}
	}
	t.Logf("to play it again: CERTCTL_E2E_SEED=%d", seed)
	w := newWorld(t, rand.New(rand.NewPCG(seed, 2)))
	s := &storm{world: w, t: t}
	begun := time.Now()
	over := make(chan struct{})
	var killer sync.WaitGroup
	killer.Go(func() { s.kill(rand.New(rand.NewPCG(seed, 0)), over) })
	s.issue(rand.New(rand.NewPCG(seed, 1)))
	close(over)
	killer.Wait()
	t.Logf("%d certificates and %d renewals were asked for within %s; killed: %v", len(s.asked), s.renewed.Load(), time.Since(begun).Round(time.Second), s.killed)
	begun = time.Now()
	s.settled()
	t.Logf("settled %s later", time.Since(begun).Round(time.Millisecond))
	s.judge()
}

// world is an installation in as many processes as can be killed apart.
type world struct {
	*rig.Installation
	leaf    *rig.Leaf
	apart   []*rig.Program
	agents  []*rig.Agent
	targets []*target
}

// target is a place where a certificate is to be served.
type target struct {
	id     string
	served *rig.Served
}

// quick lets an order whose answer a kill has swallowed be sent again, and a failed
// deployment tried again, within the test's time.
var quick = []string{
	"CERTCTL_DEPLOYMENT_ORDER_DEADLINE=8s", "CERTCTL_DEPLOYMENT_RETRY_BASE=1s", "CERTCTL_DEPLOYMENT_SWEEP_INTERVAL=5s",
	"CERTCTL_LOG_LEVEL=warn",
}

func newWorld(t *testing.T, random *rand.Rand) *world {
	services := []string{"audit", "deployment", "issuer"}
	random.Shuffle(len(services), func(i, j int) { services[i], services[j] = services[j], services[i] })
	services = services[1:]
	in := rig.NewInstallation(t, rig.Dir(t), quick...)
	in.Args = []string{"up", "--without", strings.Join(services, ",")}
	in.Start()
	w := &world{Installation: in}
	for _, service := range services {
		p := in.Apart(service, append(quick, "CERTCTL_DEPLOYMENT_HUB_ADDRESSES="+in.HubURL)...)
		p.Start()
		w.apart = append(w.apart, p)
	}
	in.Ready()
	w.leaf = in.NewSite("site-far", "CERTCTL_LEAF_LOG_LEVEL=warn")
	for i, at := range []struct{ site, url string }{
		{"site-local", in.LeafURL}, {"site-local", in.LeafURL}, {"site-far", w.leaf.URL}, {"site-far", w.leaf.URL},
	} {
		w.host(t, i, at.site, at.url)
	}
	return w
}

// host adds an agent with an NGINX that serves several names.
func (w *world) host(t *testing.T, number int, site, leafURL string) {
	a := w.Enrol(fmt.Sprintf("host-%d", number), site, leafURL, "CERTCTL_LOG_LEVEL=warn")
	w.agents = append(w.agents, a)
	var names []string
	for i := number; i < byAgent; i += 4 {
		names = append(names, fmt.Sprintf("site-%02d.e2e.test", i))
	}
	n := rig.StartNGINX(t, w.Dir, fmt.Sprintf("nginx-%d", number), names...)
	for _, s := range n.Sites {
		w.targets = append(w.targets, &target{id: w.Target(a, s).ID, served: s})
	}
}
