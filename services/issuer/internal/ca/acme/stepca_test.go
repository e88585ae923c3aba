package acme_test

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/services/issuer/internal/ca"
	"github.com/certctl/certctl/services/issuer/internal/ca/acme"
	"github.com/certctl/certctl/services/issuer/internal/ca/acme/pebbletest"
	"github.com/certctl/certctl/services/issuer/internal/ca/catest"
	"github.com/certctl/certctl/services/issuer/internal/ca/stepca/stepcatest"
)

// stepCA is a step-ca that is asked by ACME, which any CA that speaks it can stand for. Its DNS has every name lead to this
// machine.
func stepCA(t *testing.T) acme.Config {
	t.Helper()
	names := pebbletest.Start(t, pebbletest.Options{})
	_, port, err := net.SplitHostPort(names.HTTP)
	if err != nil {
		t.Fatal(err)
	}
	s := stepcatest.StartACME(t, names.DNS, port)
	roots := x509.NewCertPool()
	roots.AddCert(s.Root)
	return acme.Config{
		IssuerID: "iss-step", Directory: s.Directory, Email: "pki@example.com", Roots: roots, Timeout: 2 * time.Minute,
		Solver: &acme.Listener{Address: names.HTTP},
	}
}

func TestACME_ConformsWithAStepCA(t *testing.T) {
	a := learned(t, stepCA(t))
	catest.RunWithin(t, a, catest.Bounds{Names: []string{"www.example.com", "api.example.com"}, OwnTemplate: true, NoAdvice: true})
}

// A step-ca leaves the challenge pending, and would be waited for in vain.
func TestACME_SaysWhyAStepCADoesNotBelieveANameAndGoesOnWithTheOrder(t *testing.T) {
	c := stepCA(t)
	elsewhere := c
	elsewhere.Solver = &acme.Listener{Address: "127.0.0.1:0"}
	d := newDeps()
	r := request(t, "www.example.com")
	placed := 0
	r.Keep = func(_ context.Context, order []byte) error {
		r.Order = order
		placed++
		return nil
	}
	_, err := open(t, elsewhere, d).Issue(t.Context(), r)
	if _, unproven := errors.AsType[*ca.Unproven](err); !unproven || !strings.Contains(err.Error(), "the ACME CA says: www.example.com: ") {
		t.Fatal(err)
	}
	if _, err := open(t, c, d).Issue(t.Context(), r); err != nil || placed != 1 {
		t.Errorf("%v, with %d orders", err, placed)
	}
}
