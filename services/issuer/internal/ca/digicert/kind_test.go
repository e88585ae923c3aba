package digicert_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca/digicert"
	"github.com/certctl/certctl/services/issuer/internal/ca/digicert/digicertfake"
	"github.com/certctl/certctl/services/issuer/internal/registry"
)

func pem(s *digicertfake.Server) string { return string(x509x.EncodePEM(s.Root.Raw)) }

func TestKind_NamesTheSettingsThatAreWrong(t *testing.T) {
	k := &digicert.Kind{Clock: clock.System}
	for name, tt := range map[string]struct {
		config map[string]any
		fields []string
	}{
		"nothing":            {nil, []string{"config.api_key", "config.organization_id"}},
		"domains only":       {map[string]any{"api_key": "k", "product": "ssl_dv_rapidssl"}, nil},
		"plain HTTP":         {map[string]any{"api_key": "k", "organization_id": 1.0, "base_url": "http://www.digicert.com/services/v2"}, []string{"config.base_url"}},
		"HTTP on this host":  {map[string]any{"api_key": "k", "organization_id": 1.0, "base_url": "http://[::1]:8080/services/v2"}, nil},
		"a path for product": {map[string]any{"api_key": "k", "organization_id": 1.0, "product": "../user"}, []string{"config.product"}},
		"a broken key":       {map[string]any{"api_key": "k\nX-Evil: 1", "organization_id": 1.0}, []string{"config.api_key"}},
		"unknown values": {
			map[string]any{"api_key": "k", "organization_id": "x", "dcv_method": "fax", "payment_method": "cash", "skip_approval": "yes", "ca_cert_pem": "x"},
			[]string{"config.organization_id", "config.dcv_method", "config.payment_method", "config.skip_approval", "config.ca_cert_pem"},
		},
		"a stranger": {map[string]any{"api_key": "k", "organization_id": 1.0, "token": "t"}, []string{"config.token"}},
	} {
		_, err := k.Make(registry.Issuer{}, tt.config)
		var fields []string
		if err != nil {
			for _, f := range fault.From(err).Fields {
				fields = append(fields, f.Name)
			}
		}
		if d := cmp.Diff(tt.fields, fields); d != "" {
			t.Errorf("%s: fields (-want +got):\n%s", name, d)
		}
	}
}

func TestKind_SendsTheKeyNowhereItsKnowerHasNotSentIt(t *testing.T) {
	k := &digicert.Kind{Clock: clock.System}
	i := registry.Issuer{Type: registry.TypeDigiCert, Config: map[string]any{"api_key": "k", "organization_id": 1.0}}
	elsewhere := map[string]any{"base_url": "https://elsewhere.example.com/v2"}
	if _, err := k.Amend(i, elsewhere); fault.CodeOf(err) != fault.Invalid || !strings.Contains(fault.From(err).Message, "anew") {
		t.Errorf("got %v", err)
	}
	elsewhere["api_key"] = "k"
	if _, err := k.Amend(i, elsewhere); err != nil {
		t.Errorf("with the key: %v", err)
	}
	if _, err := k.Amend(i, map[string]any{"product": "ssl_plus"}); err != nil {
		t.Errorf("another product: %v", err)
	}
}

func TestKind_IsCalledByBothNames(t *testing.T) {
	for _, name := range []string{"DigiCert", "digicert", "CertCentral", "digicert_certcentral"} {
		if kind, ok := registry.TypeOf(name); !ok || kind != registry.TypeDigiCert {
			t.Errorf("%s is %q", name, kind)
		}
	}
}
