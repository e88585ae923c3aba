package app_test

import (
	"crypto"
	ec "crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/httpapi/issuerapi"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/app"
	"github.com/certctl/certctl/services/issuer/internal/bundle"
)

// foreign is a certificate that somebody else's CA has issued, or that CA.
type foreign struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// issued makes a certificate by a CA, or by itself.
func issued(t testing.TB, by *foreign, change func(*x509.Certificate)) foreign {
	t.Helper()
	key, err := ec.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: x509x.NewSerial(), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour), BasicConstraintsValid: true,
	}
	change(template)
	parent, signer := template, crypto.Signer(key)
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return foreign{cert, key}
}

func foreignCA(t testing.TB, by *foreign, name string) foreign {
	t.Helper()
	return issued(t, by, func(c *x509.Certificate) {
		c.Subject, c.IsCA, c.KeyUsage = pkix.Name{CommonName: name, Organization: []string{"Elsewhere"}}, true, x509.KeyUsageCertSign
	})
}

func foreignLeaf(t testing.TB, by *foreign, names ...string) foreign {
	t.Helper()
	return issued(t, by, func(c *x509.Certificate) { c.Subject, c.DNSNames = pkix.Name{CommonName: names[0]}, names })
}

func pemOf(t testing.TB, all ...foreign) string {
	t.Helper()
	var text strings.Builder
	for _, f := range all {
		text.Write(x509x.EncodeCertificates(f.cert))
	}
	return text.String()
}

func keyPEM(t testing.TB, f foreign) string {
	t.Helper()
	text, err := x509x.EncodePrivateKey(f.key)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// importing imports a file with what is said of it.
func (w *world) importing(file string, said map[string]any) (r issuerapi.CertificateImportResult) {
	w.t.Helper()
	w.must(http.StatusOK, http.MethodPost, "importCertificates", certificates+"/import", importBody(file, said), &r)
	return r
}

func importBody(file string, said map[string]any) map[string]any {
	body := map[string]any{"file": base64.StdEncoding.EncodeToString([]byte(file))}
	maps.Copy(body, said)
	return body
}

func (w *world) versionsOf(id string) []issuerapi.CertificateVersion {
	w.t.Helper()
	var list issuerapi.CertificateVersionList
	w.must(http.StatusOK, http.MethodGet, "listCertificateVersions", certificates+"/"+id+"/versions", nil, &list)
	return list.Data
}

func TestImport_ManagesEachLeafOfABundleWithItsChain(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	root := foreignCA(t, nil, "Root")
	ca := foreignCA(t, &root, "Issuing CA")
	www, api := foreignLeaf(t, &ca, "www.example.com", "example.com"), foreignLeaf(t, &ca, "api.example.com")
	r := w.importing(pemOf(t, www, ca, root, api), map[string]any{"environment": "production", "tags": map[string]string{"tier": "gold"}})
	if r.Imported != 2 || r.Existing != 0 || r.Refused != 0 || r.Format != "pem" || r.Notice != nil || len(r.Data) != 2 {
		t.Fatalf("%+v", r)
	}
	item := r.Data[0]
	if item.Status != "imported" || *item.CommonName != "www.example.com" || item.ChainLength != 1 || item.Key != "none" ||
		*item.CertificateStatus != issuerapi.CertificateStatusActive || item.IssuerName != "CN=Issuing CA,O=Elsewhere" {
		t.Errorf("%+v", item)
	}
	c := w.certificate(*item.CertificateID)
	if c.Status != issuerapi.CertificateStatusActive || c.Environment != "production" || c.Tags["tier"] != "gold" || c.IssuerID != "iss-local" ||
		*c.SerialNumber != x509x.SerialHex(www.cert.SerialNumber) || !c.ExpiresAt.Equal(www.cert.NotAfter) || strings.Join(c.Sans, " ") != "www.example.com example.com" {
		t.Errorf("%+v", c)
	}
	v := w.versionsOf(c.ID)
	if len(v) != 1 || v[0].PemChain != pemOf(t, www, ca) || v[0].CsrPem != "" || !*v[0].Imported || *v[0].IssuerName != item.IssuerName || v[0].KeyState != nil {
		t.Errorf("versions %+v", v)
	}
	told, message := hear(w, func(e event.CertificateImported) bool { return e.CertificateID == c.ID })
	if told.FingerprintSHA256 != item.FingerprintSha256 || told.IssuerName != item.IssuerName || told.KeyKept || message.Actor != admin.ID || message.AggVersion != 1 {
		t.Errorf("told %+v by %s", told, message.Actor)
	}
	// Neither who answers for revocations nor who installs may take it for issued here.
	if n := len(all(w.heard, func(event.CertificateIssued) bool { return true })); n != 0 {
		t.Errorf("%d certificates are said to have been issued", n)
	}
	if n := w.count(`SELECT count(*) FROM certificate_versions WHERE issuer_id IS NOT NULL OR job_id IS NOT NULL`); n != 0 {
		t.Errorf("%d versions have an issuer or a job", n)
	}

	again := w.importing(pemOf(t, api), nil)
	if again.Existing != 1 || again.Data[0].Status != "existing" || *again.Data[0].CertificateID != *r.Data[1].CertificateID {
		t.Errorf("again %+v", again)
	}
	w.must(http.StatusNoContent, http.MethodDelete, "archiveCertificate", certificates+"/"+*again.Data[0].CertificateID, nil, nil)
	if again = w.importing(pemOf(t, api), nil); again.Existing != 1 || !strings.Contains(*again.Data[0].Reason, "archived, which is for good") {
		t.Errorf("when archived %+v", again)
	}
	if n := w.count(`SELECT count(*) FROM certificates`); n != 2 {
		t.Errorf("%d certificates", n)
	}
}

func TestImport_AnswersEachCertificateByItself(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	ca := foreignCA(t, nil, "CA")
	stray := foreignCA(t, nil, "Stray CA")
	good := foreignLeaf(t, &ca, "www.example.com")
	nameless := issued(t, &ca, func(c *x509.Certificate) { c.Subject = pkix.Name{CommonName: "Our Server"} })
	mail := issued(t, &ca, func(c *x509.Certificate) {
		c.Subject, c.EmailAddresses = pkix.Name{CommonName: "mail.example.com"}, []string{"ops@example.com"}
	})
	spiffe := issued(t, &ca, func(c *x509.Certificate) {
		c.DNSNames, c.URIs = []string{"w.example.com"}, []*url.URL{{Scheme: "spiffe", Host: "example.com", Path: "/w"}}
	})
	many := issued(t, &ca, func(c *x509.Certificate) {
		for i := range 101 {
			c.DNSNames = append(c.DNSNames, fmt.Sprintf("h%d.example.com", i))
		}
	})
	ended := issued(t, &ca, func(c *x509.Certificate) {
		c.DNSNames, c.NotBefore, c.NotAfter = []string{"old.example.com"}, time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)
	})
	ending := issued(t, &ca, func(c *x509.Certificate) {
		c.DNSNames, c.NotBefore, c.NotAfter = []string{"soon.example.com"}, time.Now().Add(-80*24*time.Hour), time.Now().Add(5*24*time.Hour)
	})
	// A name that people read, and a name that servers have.
	titled := issued(t, &ca, func(c *x509.Certificate) {
		c.Subject, c.DNSNames = pkix.Name{CommonName: "Web Server 7"}, []string{"seven.example.com", "7.example.com"}
	})
	// As openssl req -x509 makes them.
	own := issued(t, nil, func(c *x509.Certificate) {
		c.Subject, c.DNSNames, c.IsCA = pkix.Name{CommonName: "own.example.com"}, []string{"own.example.com"}, true
	})
	r := w.importing(pemOf(t, good, nameless, mail, spiffe, many, ended, ending, titled, own, stray), nil)
	want := []struct{ name, status, says, becomes string }{
		{"www.example.com", "imported", "", "Active"},
		{"", "refused", "no host name", ""},
		{"mail.example.com", "refused", "neither a host name nor an address", ""},
		{"w.example.com", "refused", "only a profile with spiffe_uri_pattern", ""},
		{"h0.example.com", "refused", "more than 100 names", ""},
		{"old.example.com", "imported", "", "Expired"},
		{"soon.example.com", "imported", "", "Expiring"},
		{"seven.example.com", "imported", "", "Active"},
		{"own.example.com", "imported", "", "Active"},
		{"", "refused", "is a CA certificate", ""},
	}
	if len(r.Data) != len(want) || r.Imported != 5 || r.Refused != 5 {
		t.Fatalf("%+v", r)
	}
	for i, wanted := range want {
		got := r.Data[i]
		var name, reason, status string
		if got.CommonName != nil {
			name = *got.CommonName
		}
		if got.Reason != nil {
			reason = *got.Reason
		}
		if got.CertificateStatus != nil {
			status = string(*got.CertificateStatus)
		}
		if name != wanted.name || string(got.Status) != wanted.status || !strings.Contains(reason, wanted.says) || status != wanted.becomes {
			t.Errorf("%d: %s %s %q %s, want %+v", i, name, got.Status, reason, status, wanted)
		}
	}
	if n := w.count(`SELECT count(*) FROM certificates`); n != 5 {
		t.Errorf("%d certificates are stored", n)
	}
	// The engine takes them up like any other: it tells of the one that has ended, and renews the one that is about to.
	expired, _ := hear(w, func(e event.CertificateExpired) bool { return e.CertificateID == *r.Data[5].CertificateID })
	if !expired.NotAfter.Equal(ended.cert.NotAfter) {
		t.Errorf("told %+v", expired)
	}
	requested, _ := hear(w, func(e event.CertificateRequested) bool { return e.CertificateID == *r.Data[6].CertificateID })
	if !requested.Renewal || !requested.Automatic || requested.IssuerID != "iss-local" {
		t.Errorf("told %+v", requested)
	}
}

func TestImport_IsRenewedByTheIssuerThatWasNamed(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	ca := foreignCA(t, nil, "CA")
	id := *w.importing(pemOf(t, foreignLeaf(t, &ca, "www.example.com")), nil).Data[0].CertificateID
	r := w.renew(id, map[string]any{"csr_pem": csrFor(t, "www.example.com")})
	if r.Version == nil {
		t.Fatalf("%+v", r)
	}
	renewed, _ := hear(w, func(e event.CertificateRenewed) bool { return e.CertificateID == id })
	v := w.versionsOf(id)
	if len(v) != 2 || v[0].Imported != nil || !*v[1].Imported || renewed.PreviousVersionID != v[1].ID || renewed.IssuerID != "iss-local" {
		t.Errorf("told %+v of %+v", renewed, v)
	}
	var stats []issuerapi.StatsIssuances
	w.must(http.StatusOK, http.MethodGet, "getStatsIssuanceRate", "/api/v1/stats/issuance-rate?days=1", nil, &stats)
	if len(stats) != 1 || stats[0].IssuedCount != 1 {
		t.Errorf("issued today: %+v", stats)
	}
}

func TestImport_SaysThatAKeyIsBlocked(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	ca := foreignCA(t, nil, "CA")
	www := foreignLeaf(t, &ca, "www.example.com")
	w.must(http.StatusCreated, http.MethodPost, "blockKey", blockedKeys,
		map[string]any{"spki_sha256": x509x.SPKIHash(www.cert.RawSubjectPublicKeyInfo), "reason": "keyCompromise"}, nil)
	got := w.importing(pemOf(t, www), nil).Data[0]
	if got.Status != "imported" || got.Reason == nil || !strings.Contains(*got.Reason, "blocked") {
		t.Errorf("%+v", got)
	}
}

func TestImport_GetsItsKeyFromTheAgentOfATargetThatIsAdded(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.target("tgt-1", "agent-1")
	ca := foreignCA(t, nil, "CA")
	id := *w.importing(pemOf(t, foreignLeaf(t, &ca, "www.example.com")), nil).Data[0].CertificateID
	w.update(id, map[string]any{"target_ids": []string{"tgt-1"}})
	updated, _ := hear(w, func(e event.CertificateUpdated) bool { return e.CertificateID == id })
	if updated.Newest.VersionID == "" || updated.KeyAgentID != "" {
		t.Errorf("told %+v", updated)
	}
	w.renew(id, nil)
	w.keyRequest(id, 1)
}

func TestImport_InADryRunStoresNothing(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	ca := foreignCA(t, nil, "CA")
	www := foreignLeaf(t, &ca, "www.example.com")
	r := w.importing(pemOf(t, www)+keyPEM(t, www), map[string]any{"dry_run": true, "keep_key": true})
	if !r.DryRun || r.Imported != 1 || r.Data[0].Status != "importable" || r.Data[0].CertificateID != nil || r.Data[0].Key != "kept" {
		t.Errorf("%+v", r)
	}
	if n := w.count(`SELECT (SELECT count(*) FROM certificates) + (SELECT count(*) FROM certificate_versions) + (SELECT count(*) FROM certificate_keys)
		+ (SELECT count(*) FROM outbox WHERE subject LIKE '%certificate%')`); n != 0 {
		t.Errorf("%d rows are stored", n)
	}
}

func TestImport_RefusesWhatIsWrongWithAllOfItAndStoresNothing(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	ca := foreignCA(t, nil, "CA")
	file := pemOf(t, foreignLeaf(t, &ca, "www.example.com"))
	for name, tt := range map[string]struct {
		body  map[string]any
		field string
	}{
		"no base64":                   {map[string]any{"file": "***"}, "file"},
		"garbage":                     {importBody("hello", nil), "file"},
		"a damaged certificate":       {importBody(file+"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", nil), "file"},
		"too large":                   {map[string]any{"file": strings.Repeat("AAAA", 180_000)}, "file"},
		"another form":                {importBody(file, map[string]any{"format": "jks"}), "file"},
		"no form":                     {importBody(file, map[string]any{"format": "zip"}), "format"},
		"an unknown owner":            {importBody(file, map[string]any{"owner_id": "o-none"}), "owner_id"},
		"an unknown team":             {importBody(file, map[string]any{"team_id": "t-none"}), "team_id"},
		"an unknown issuer":           {importBody(file, map[string]any{"issuer_id": "iss-none"}), "issuer_id"},
		"an unknown renewal policy":   {importBody(file, map[string]any{"renewal_policy_id": "rp-none"}), "renewal_policy_id"},
		"an unknown profile":          {importBody(file, map[string]any{"certificate_profile_id": "prof-none"}), "certificate_profile_id"},
		"exportable without the key":  {importBody(file, map[string]any{"exportable": true}), "exportable"},
		"an environment of two lines": {importBody(file, map[string]any{"environment": "a\nb"}), "environment"},
	} {
		t.Run(name, func(t *testing.T) {
			p := w.refused(http.StatusBadRequest, http.MethodPost, "importCertificates", certificates+"/import", tt.body)
			if len(p.Errors) != 1 || p.Errors[0].Name != tt.field {
				t.Errorf("fields %+v, want %s", p.Errors, tt.field)
			}
		})
	}
	if n := w.count(`SELECT count(*) FROM certificates`); n != 0 {
		t.Errorf("%d certificates are stored", n)
	}
}

func TestImport_HoldsToTheScopeOfWhoAsks(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	ca := foreignCA(t, nil, "CA")
	www := foreignLeaf(t, &ca, "www.example.com")
	w.importing(pemOf(t, www), map[string]any{"environment": "production"})
	w.as = authn.Principal{ID: "key-test", Kind: authn.KindUser, Scope: authn.Scope{Environments: []string{"test"}}}
	w.refused(http.StatusForbidden, http.MethodPost, "importCertificates", certificates+"/import", importBody(pemOf(t, www), map[string]any{"environment": "production"}))
	r := w.importing(pemOf(t, www), map[string]any{"environment": "test"})
	if got := r.Data[0]; got.Status != "existing" || got.CertificateID != nil || !strings.Contains(*got.Reason, "outside of your scope") {
		t.Errorf("%+v", got)
	}
}

func TestImport_OfOneFileTwiceAtOnceImportsItOnce(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	ca := foreignCA(t, nil, "CA")
	file := pemOf(t, foreignLeaf(t, &ca, "a.example.com"), foreignLeaf(t, &ca, "b.example.com"))
	results := make(chan issuerapi.CertificateImportResult)
	for range 4 {
		go func() {
			var r issuerapi.CertificateImportResult
			if status, text := w.try(http.MethodPost, "importCertificates", certificates+"/import", importBody(file, nil)); status != http.StatusOK || json.Unmarshal(text, &r) != nil {
				t.Errorf("%d %s", status, text)
			}
			results <- r
		}()
	}
	imported, existing := 0, 0
	for range 4 {
		r := <-results
		imported, existing = imported+r.Imported, existing+r.Existing
	}
	if imported != 2 || existing != 6 || w.count(`SELECT count(*) FROM certificates`) != 2 {
		t.Errorf("%d were imported and %d were there", imported, existing)
	}
}

func TestImport_DropsKeysUnlessTheyAreToBeKept(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	ca := foreignCA(t, nil, "CA")
	www, other := foreignLeaf(t, &ca, "www.example.com"), foreignLeaf(t, &ca, "other.example.com")
	r := w.importing(pemOf(t, www)+keyPEM(t, www)+keyPEM(t, other), nil)
	if r.Data[0].Key != "dropped" || r.Notice == nil || !strings.Contains(*r.Notice, "1 private key was dropped: keep_key") ||
		!strings.Contains(*r.Notice, "1 private key was dropped: no certificate in the file") {
		t.Errorf("%+v", r)
	}
	again := w.importing(pemOf(t, www)+keyPEM(t, www), map[string]any{"keep_key": true})
	if again.Data[0].Status != "existing" || again.Data[0].Key != "dropped" || again.Notice == nil ||
		*again.Notice != "1 private key was dropped: a key is kept when its certificate is imported, not if that is managed already or refused" {
		t.Errorf("%+v", again)
	}
	w.dumpLacks(www.key, other.key)
	if n := w.count(`SELECT count(*) FROM certificate_keys`); n != 0 {
		t.Errorf("%d keys are kept", n)
	}
	id := *r.Data[0].CertificateID
	p := w.refused(http.StatusConflict, http.MethodPost, "exportCertificateWithKey", certificates+"/"+id+"/export", exportBody)
	if !strings.Contains(p.Message, "was not kept when it was imported") {
		t.Errorf("it says %q", p.Message)
	}
}

const strong = "correct horse battery"

var exportBody = map[string]any{"format": "pkcs12", "password": strong}

// dumpLacks fails the test if a private key can be read anywhere in the database, however it is written.
func (w *world) dumpLacks(keys ...crypto.Signer) {
	w.t.Helper()
	dump := w.dump()
	for _, key := range keys {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			w.t.Fatal(err)
		}
		secret, err := key.(*ec.PrivateKey).Bytes()
		if err != nil {
			w.t.Fatal(err)
		}
		for _, form := range []string{
			hex.EncodeToString(secret), base64.StdEncoding.EncodeToString(secret)[:40], base64.StdEncoding.EncodeToString(der)[60:100], string(secret),
		} {
			if strings.Contains(dump, form) {
				w.t.Errorf("the database holds a private key as %q", form)
			}
		}
	}
	if strings.Contains(dump, "PRIVATE KEY---") || strings.Contains(dump, strong) {
		w.t.Error("the database holds a private key or a password in the clear")
	}
}

// dump is every row of every table as text.
func (w *world) dump() string {
	w.t.Helper()
	rows, err := w.pool.Query(w.t.Context(), `SELECT table_name FROM information_schema.tables WHERE table_schema = 'issuer' AND table_type = 'BASE TABLE'`)
	if err != nil {
		w.t.Fatal(err)
	}
	var tables []string
	for rows.Next() {
		var table string
		if err := rows.Scan(&table); err != nil {
			w.t.Fatal(err)
		}
		tables = append(tables, table)
	}
	if rows.Err() != nil || len(tables) < 10 {
		w.t.Fatalf("%d tables, %v", len(tables), rows.Err())
	}
	var all strings.Builder
	for _, table := range tables {
		var text string
		if err := w.pool.QueryRow(w.t.Context(), `SELECT COALESCE(string_agg(r::text, E'\n'), '') FROM issuer."`+table+`" r`).Scan(&text); err != nil {
			w.t.Fatal(table, err)
		}
		all.WriteString(text)
		if table == "outbox" {
			// Bodies of events are bytes.
			if err := w.pool.QueryRow(w.t.Context(), `SELECT COALESCE(string_agg(convert_from(body, 'UTF8'), E'\n'), '') FROM issuer.outbox`).Scan(&text); err != nil {
				w.t.Fatal(err)
			}
			all.WriteString(text)
		}
	}
	return all.String()
}

func TestExport_HandsOutAKeyThatWasKeptAndMayLeave(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	ca := foreignCA(t, nil, "CA")
	inter := foreignCA(t, &ca, "Issuing CA")
	www, kept := foreignLeaf(t, &inter, "www.example.com"), foreignLeaf(t, &inter, "kept.example.com")
	store, err := bundle.WriteWithKey(bundle.PKCS12, []*x509.Certificate{www.cert, inter.cert}, www.key, bundle.Lock{Password: strong}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	r := w.importing(string(store), map[string]any{"password": strong, "keep_key": true, "exportable": true})
	if r.Format != "pkcs12" || r.Data[0].Key != "exportable" || r.Data[0].ChainLength != 1 {
		t.Fatalf("%+v", r)
	}
	id := *r.Data[0].CertificateID
	w.dumpLacks(www.key)
	path := certificates + "/" + id + "/export"
	for _, format := range []bundle.Format{bundle.PEM, bundle.PKCS12, bundle.JKS} {
		status, header, body := w.exchange(http.MethodPost, "exportCertificateWithKey", path, map[string]any{"format": format, "password": strong}, nil)
		if status != http.StatusOK || header.Get("Cache-Control") != "no-store" || !strings.Contains(header.Get("Content-Disposition"), id) {
			t.Fatalf("%d %v %s", status, header, body)
		}
		content, err := bundle.Read(body, bundle.Options{Format: format, Password: strong, Keys: true})
		if err != nil {
			t.Fatal(err)
		}
		leaves, _ := content.Leaves()
		if len(leaves) != 1 || !leaves[0].Certificate.Equal(www.cert) || len(leaves[0].Chain) != 1 || !x509x.SameKey(leaves[0].Key.Public(), www.key.Public()) {
			t.Errorf("%s: %+v", format, leaves)
		}
		released, message := hear(w, func(e event.CertificateKeyReleased) bool { return e.CertificateID == id && e.Format == string(format) })
		if released.Way != "export" || message.Actor != admin.ID {
			t.Errorf("told %+v by %s", released, message.Actor)
		}
	}
	if v := w.versionsOf(id); *v[0].KeyState != "exportable" {
		t.Errorf("the key is %s", *v[0].KeyState)
	}
	w.dumpLacks(www.key)
	// Another installation's key opens nothing, and a row that was put in another's place does not either.
	other := *w.importing(pemOf(t, kept)+keyPEM(t, kept), map[string]any{"keep_key": true, "exportable": true}).Data[0].CertificateID
	w.exec(`UPDATE issuer.certificate_keys SET sealed_key = (SELECT sealed_key FROM issuer.certificate_keys WHERE certificate_id = $1) WHERE certificate_id = $2`, id, other)
	w.refused(http.StatusInternalServerError, http.MethodPost, "exportCertificateWithKey", certificates+"/"+other+"/export", exportBody)
}

func TestExport_SaysWhereAKeyIsThatCannotBeHad(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	ca := foreignCA(t, nil, "CA")
	kept := foreignLeaf(t, &ca, "kept.example.com")
	w.target("tgt-1", "agent-1")
	agents, asked := w.withTarget("tgt-1")
	w.refused(http.StatusConflict, http.MethodPost, "exportCertificateWithKey", certificates+"/"+agents.ID+"/export", exportBody)
	w.refused(http.StatusConflict, http.MethodGet, "exportCertificate", certificates+"/"+agents.ID+"/export", nil)
	w.answer(asked, foreignLeaf(t, nil, "x").key.(*ec.PrivateKey))
	hear(w, func(e event.CertificateIssued) bool { return e.CertificateID == agents.ID })
	owners := w.create(map[string]any{"common_name": "own.example.com", "csr_pem": csrFor(t, "own.example.com")})
	keptID := *w.importing(pemOf(t, kept)+keyPEM(t, kept), map[string]any{"keep_key": true}).Data[0].CertificateID
	for id, says := range map[string]string{
		agents.ID: "on the host of agent agent-1 and never leaves it",
		owners.ID: "with whoever sent its signing request",
		keptID:    "without exportable",
	} {
		p := w.refused(http.StatusConflict, http.MethodPost, "exportCertificateWithKey", certificates+"/"+id+"/export", exportBody)
		if !strings.Contains(p.Message, says) {
			t.Errorf("it says %q, want %q", p.Message, says)
		}
		w.refused(http.StatusConflict, http.MethodPost, "deliverCertificateKey", certificates+"/"+id+"/key", nil)
	}
	if n := len(all(w.heard, func(event.CertificateKeyReleased) bool { return true })); n != 0 {
		t.Errorf("%d keys are said to have been released", n)
	}
	path := certificates + "/" + keptID + "/export"
	for name, tt := range map[string]struct {
		body  map[string]any
		field string
	}{
		"a short password":    {map[string]any{"format": "pkcs12", "password": "short"}, "password"},
		"a form without keys": {map[string]any{"format": "der", "password": strong}, "format"},
		"an encryption":       {map[string]any{"format": "pkcs12", "password": strong, "encryption": "rot13"}, "encryption"},
		"a version":           {map[string]any{"format": "pkcs12", "password": strong, "version_id": "A B"}, "version_id"},
	} {
		p := w.refused(http.StatusBadRequest, http.MethodPost, "exportCertificateWithKey", path, tt.body)
		if len(p.Errors) != 1 || p.Errors[0].Name != tt.field {
			t.Errorf("%s: %+v", name, p.Errors)
		}
	}
	w.as = authn.Principal{ID: "key-test", Kind: authn.KindUser, Scope: authn.Scope{Environments: []string{"test"}}}
	w.refused(http.StatusNotFound, http.MethodPost, "exportCertificateWithKey", path, exportBody)
	w.refused(http.StatusNotFound, http.MethodGet, "exportCertificate", path, nil)
}

func TestExport_WritesAnyVersionWithoutItsKey(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	c := w.create(map[string]any{"common_name": "www.example.com", "csr_pem": csrFor(t, "www.example.com")})
	first := *c.Version
	second := w.renew(c.ID, map[string]any{"csr_pem": csrFor(t, "www.example.com")}).Version
	path := certificates + "/" + c.ID + "/export"
	for format, media := range map[string]string{
		"": "application/x-pem-file", "?format=pem": "application/x-pem-file", "?format=der": "application/pkix-cert",
		"?format=pkcs7": "application/pkcs7-mime", "?format=pkcs12": "application/x-pkcs12", "?format=jks": "application/x-java-keystore",
	} {
		status, header, body := w.exchange(http.MethodGet, "exportCertificate", path+format, nil, nil)
		if status != http.StatusOK || header.Get("Content-Type") != media || len(body) == 0 {
			t.Errorf("%s: %d %v", format, status, header)
		}
	}
	for query, want := range map[string]string{"": second.PemChain, "?version_id=" + first.ID: first.PemChain} {
		if _, _, body := w.exchange(http.MethodGet, "exportCertificate", path+query, nil, nil); string(body) != want {
			t.Errorf("%q is another version", query)
		}
	}
	w.refused(http.StatusNotFound, http.MethodGet, "exportCertificate", path+"?version_id=cv-none", nil)
	w.refused(http.StatusBadRequest, http.MethodGet, "exportCertificate", path+"?format=zip", nil)
	w.refused(http.StatusNotFound, http.MethodGet, "exportCertificate", certificates+"/mc-none/export", nil)
}
