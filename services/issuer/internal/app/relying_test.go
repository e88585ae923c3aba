package app_test

import (
	"strings"
	"testing"

	"github.com/certctl/certctl/services/issuer/internal/app"
	"github.com/certctl/certctl/services/issuer/internal/ca/catest"
)

// Every test ends with a look at what was issued in it, and that has to find what is bad.
func TestWhatIsIssued_IsObjectedToIfNobodyShouldRelyOnIt(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{PublicURL: publicURL})
	w.issuer(object{"id": "iss-root", "name": "Root", "type": "local", "enabled": true, "config": object{"max_path_len": 1}})
	w.issuer(object{"id": "iss-mid", "name": "Issuing", "type": "local", "enabled": true, "config": object{"parent_issuer_id": "iss-root"}})
	leaf := w.leafOf(t, "iss-mid", "www.example.com")
	w.leafOf(t, "iss-local", "other.example.com")
	if found := catest.Objections(t, w.pool); len(found) > 0 {
		t.Fatalf("nothing is bad yet: %q", found)
	}
	const (
		ofMid, version = `issuer_id = 'iss-mid'`, `UPDATE issuer.certificate_versions SET `
		theOther       = `(SELECT pem_chain FROM issuer.certificate_versions WHERE issuer_id = 'iss-local')`
	)
	for name, tt := range map[string]struct{ damage, openSSL, gnuTLS string }{
		"a chain without its intermediate": {
			version + `pem_chain = substr(pem_chain, 1, position('-----END' in pem_chain) + 24) WHERE ` + ofMid,
			"unable to get local issuer certificate", "The certificate issuer is unknown",
		},
		"a certificate of another issuer's": {
			version + `pem_chain = ` + theOther + ` WHERE ` + ofMid, "unable to get local issuer certificate", "The certificate issuer is unknown",
		},
	} {
		kept := w.text(`SELECT pem_chain FROM certificate_versions WHERE ` + ofMid)
		w.exec(tt.damage)
		found := catest.Objections(t, w.pool)
		if len(found) != 2 || !strings.Contains(found[0], "openssl of cv-") || !strings.Contains(found[0], tt.openSSL) ||
			!strings.Contains(found[1], "GnuTLS of cv-") || !strings.Contains(found[1], tt.gnuTLS) {
			t.Errorf("%s, of %s: %q", name, leaf[0].Subject, found)
		}
		w.exec(version+`pem_chain = $1 WHERE `+ofMid, kept)
	}
}
