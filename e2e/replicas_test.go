package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certctl/certctl/contracts/httpapi/client"
	"github.com/certctl/certctl/e2e/internal/rig"
)

const (
	manyClients = 64
	// busy is how long the clients ask while replicas come and go.
	busy = 60 * time.Second
	// thinks is how long a client waits between two requests, so that other stories get their share of the machine.
	thinks = 250 * time.Millisecond
)

// TestReplicas_ComeAndGoWithoutAWrongAnswerOrALostWrite asks for certificates from 64
// clients while one replica of the issuer after the other is killed and started.
func TestReplicas_ComeAndGoWithoutAWrongAnswerOrALostWrite(t *testing.T) {
	t.Parallel()
	in := rig.NewInstallation(t, rig.Dir(t), "CERTCTL_LOG_LEVEL=warn")
	in.Args = []string{"up", "--without", "issuer"}
	in.Start()
	first := in.Apart("issuer", "CERTCTL_LOG_LEVEL=warn")
	replicas := []*rig.Program{first, rig.NewProgram(t, in.Dir, "issuer-2", "issuer", first.Env...)}
	for _, r := range replicas {
		r.Start()
	}
	in.Ready()

	crowd := &crowd{Installation: in, t: t, over: time.Now().Add(busy)}
	var clients sync.WaitGroup
	for number := range manyClients {
		clients.Go(func() { crowd.ask(number) })
	}
	kills := 0
	for random := rand.New(rand.NewPCG(1, 2)); time.Now().Before(crowd.over); kills++ {
		r := replicas[kills%len(replicas)]
		r.Kill()
		rig.Pause(t, time.Duration(random.Int64N(int64(time.Second))))
		r.Start()
		rig.Pause(t, time.Second+time.Duration(random.Int64N(int64(2*time.Second))))
	}
	clients.Wait()
	t.Logf("%d clients, %d answers, %d of them 503; %d replicas killed", manyClients, crowd.answers.Load(), crowd.unavailable.Load(), kills)
	crowd.judge()
}

// crowd is clients that ask, and what they were promised.
type crowd struct {
	*rig.Installation
	t                    *testing.T
	over                 time.Time
	answers, unavailable atomic.Int64
	promised             sync.Map // id of a certificate -> the version that was acknowledged
}

func (c *crowd) ask(number int) {
	for i := 0; time.Now().Before(c.over); i++ {
		id := fmt.Sprintf("mc-%02d-%04d", number, i)
		name := id + ".e2e.test"
		res, err := c.CreateCertificate(c.t.Context(), client.CertificateCreate{
			ID: &id, CommonName: name, Sans: &[]string{name}, CsrPem: new(rig.CSR(c.t, name)),
		})
		if made, ok := answered[client.Certificate](c, "create", res, err, http.StatusCreated); ok {
			if made.ID != id || made.CommonName != name || made.Version == nil {
				c.t.Errorf("asked for %s and got %+v", id, made)
				continue
			}
			c.promised.Store(id, *made.Version)
			rig.Pause(c.t, thinks)
			res, err = c.GetCertificate(c.t.Context(), id)
			if got, ok := answered[client.Certificate](c, "get", res, err, http.StatusOK); ok && (got.ID != id || rig.Value(got.SerialNumber) != made.Version.SerialNumber) {
				c.t.Errorf("%s was acknowledged with serial %s and read back as %s, %s", id, made.Version.SerialNumber, got.ID, rig.Value(got.SerialNumber))
			}
		}
		rig.Pause(c.t, thinks)
		res, err = c.ListCertificates(c.t.Context(), &client.ListCertificatesParams{PerPage: new(5)})
		if list, ok := answered[client.CertificateList](c, "list", res, err, http.StatusOK); ok && len(list.Data) > 5 {
			c.t.Errorf("5 rows asked for, %d given", len(list.Data))
		}
		rig.Pause(c.t, thinks)
	}
}

// answered reads an answer of the wanted status. Any other must be a 503 that says when to come back.
func answered[T any](c *crowd, what string, res *http.Response, err error, want int) (T, bool) {
	var none T
	if err != nil {
		c.t.Errorf("%s: %v", what, err)
		return none, false
	}
	c.answers.Add(1)
	if res.StatusCode == want {
		v, err := rig.Read[T](res, nil)
		if err != nil {
			c.t.Errorf("%s: %v", what, err)
		}
		return v, err == nil
	}
	_, err = rig.Raw(res, nil)
	if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" {
		c.t.Errorf("%s: neither %d nor a 503 with Retry-After: %v", what, want, err)
		return none, false
	}
	c.unavailable.Add(1)
	return none, false
}

// judge looks for each acknowledged certificate.
func (c *crowd) judge() {
	all, err := c.Certificates(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	stored := map[string]client.Certificate{}
	for _, cert := range all {
		stored[cert.ID] = cert
	}
	promised := 0
	c.promised.Range(func(id, version any) bool {
		promised++
		cert, there := stored[id.(string)]
		if v := version.(client.CertificateVersion); !there || rig.Value(cert.SerialNumber) != v.SerialNumber {
			c.t.Errorf("%s was acknowledged with serial %s; stored: %v, serial %s", id, v.SerialNumber, there, rig.Value(cert.SerialNumber))
		}
		return true
	})
	if promised == 0 {
		c.t.Error("nothing was acknowledged")
	}
	c.t.Logf("%d certificates were acknowledged, %d are stored", promised, len(all))
}
