package acme_test

import (
	"crypto/x509"
	"net"
	"testing"
	"time"

	"github.com/certctl/certctl/services/issuer/internal/ca/acme"
	"github.com/certctl/certctl/services/issuer/internal/ca/acme/pebbletest"
	"github.com/certctl/certctl/services/issuer/internal/ca/catest"
	"github.com/certctl/certctl/services/issuer/internal/ca/stepca/stepcatest"
)

// TestACME_ConformsWithAStepCA asks a step-ca by ACME, which any CA that speaks it can stand for.
func TestACME_ConformsWithAStepCA(t *testing.T) {
	// Its DNS has every name lead to this machine.
	names := pebbletest.Start(t, pebbletest.Options{})
	_, port, err := net.SplitHostPort(names.HTTP)
	if err != nil {
		t.Fatal(err)
	}
	s := stepcatest.StartACME(t, names.DNS, port)
	roots := x509.NewCertPool()
	roots.AddCert(s.Root)
	a := learned(t, acme.Config{
		IssuerID: "iss-step", Directory: s.Directory, Email: "pki@example.com", Roots: roots, Timeout: 2 * time.Minute,
		Solver: &acme.Listener{Address: names.HTTP},
	})
	catest.RunWithin(t, a, catest.Bounds{Names: []string{"www.example.com", "api.example.com"}, OwnTemplate: true, NoAdvice: true})
}
