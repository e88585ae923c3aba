package app_test

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/httpapi/issuerapi"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/app"
	"github.com/certctl/certctl/services/issuer/internal/ca/catest"
	"github.com/certctl/certctl/services/issuer/internal/ca/script/scripttest"
)

const (
	noPolicies = "e_sub_cert_certificate_policies_missing"
	underscore = "e_underscore_not_permissible_in_dnsname"
	tooLong    = "e_sub_cert_valid_time_longer_than_825_days"
)

// forum is a profile of publicly trusted certificates. The Local CA has no certificate policy, which those must have.
func (w *world) forum(mode string, ignore ...string) string {
	w.t.Helper()
	return w.profile(object{
		"name": "Public", "enabled": true, "allowed_ekus": []string{"serverAuth"}, "lint_ruleset": "cabf", "lint_mode": mode, "lint_ignore": ignore,
	}).ID
}

// count sums up the samples of a metric whose labels are among those given.
func (i *issuer) count(metric string, labels map[string]string) (n uint64) {
	i.t.Helper()
	families, err := i.metrics.Gather()
	if err != nil {
		i.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != metric {
			continue
		}
		for _, m := range f.GetMetric() {
			suits := true
			for _, l := range m.GetLabel() {
				want, asked := labels[l.GetName()]
				suits = suits && (!asked || want == l.GetValue())
			}
			if suits {
				n += m.GetHistogram().GetSampleCount() + uint64(m.GetCounter().GetValue())
			}
		}
	}
	return n
}

// versions counts the versions that there are of anything.
func (w *world) versions() (n int) {
	w.t.Helper()
	if err := w.pool.QueryRow(w.t.Context(), `SELECT count(*) FROM certificate_versions`).Scan(&n); err != nil {
		w.t.Fatal(err)
	}
	return n
}

func TestLint_ThatBlocksKeepsTheCAFromSigningOnEveryWay(t *testing.T) {
	w := newWorld(t)
	running := w.start(app.Settings{PublicURL: "http://127.0.0.1:8080"})
	w.target("tgt-1", "agent-1")
	for _, p := range paths() {
		t.Run(p.name, func(t *testing.T) {
			w.t = t
			id := w.forum("block")
			c := p.first(w, id)
			chain, reason := p.sign(w, c, catest.NewKey(t, ecdsa))
			for _, part := range []string{id, "Public", "lint_ruleset cabf", noPolicies, "MUST", "BRs: 7.1.2.3"} {
				if !strings.Contains(reason, part) {
					t.Errorf("issued %q, reason %q lacks %q", chain, reason, part)
				}
			}
			if c.JobID == nil {
				return
			}
			if j := w.job(*c.JobID); j.Attempts > 1 {
				t.Errorf("it was tried again: %+v", j)
			}
		})
	}
	w.t = t
	if n, asked := w.versions(), running.count("certctl_issuer_sign_seconds", nil); n != 0 || asked != 0 {
		t.Errorf("there are %d versions, and the CA has signed %d times", n, asked)
	}
}

func TestLint_RefusesAnUnderscoreAndThreeYearsByNameAndStoresNothing(t *testing.T) {
	w := newWorld(t)
	running := w.start(app.Settings{PublicURL: "http://127.0.0.1:8080"})
	long := w.issuer(object{"name": "Long", "type": "GenericCA", "enabled": true, "config": object{"validity_days": 1095}}).ID
	id := w.forum("block", noPolicies, "e_sub_cert_cert_policy_empty")
	for name, tt := range map[string]struct {
		host, issuer, lint string
	}{
		"an underscore": {"a_b.example.com", "iss-local", underscore},
		"three years":   {"www.example.com", long, tooLong},
	} {
		p := w.refused(http.StatusBadRequest, http.MethodPost, "createCertificate", certificates, object{
			"common_name": tt.host, "issuer_id": tt.issuer, "certificate_profile_id": id, "csr_pem": csrFor(t, tt.host),
		})
		if !slices.ContainsFunc(p.Errors, func(f fault.Field) bool {
			return f.Name == "certificate_profile_id" && strings.Contains(f.Reason, tt.lint)
		}) {
			t.Errorf("%s: %+v", name, p)
		}
	}
	var list issuerapi.CertificateList
	w.must(http.StatusOK, http.MethodGet, "listCertificates", certificates, nil, &list)
	if n, asked := w.versions(), running.count("certctl_issuer_sign_seconds", nil); n != 0 || asked != 0 || len(list.Data) != 0 {
		t.Errorf("there are %d versions of %d certificates, and the CA has signed %d times", n, len(list.Data), asked)
	}
	// What breaks no rule but those that are ignored is issued.
	w.changeProfile(id, object{"max_ttl_seconds": 30 * 24 * 3600})
	c := w.create(object{"common_name": "www.example.com", "certificate_profile_id": id, "csr_pem": csrFor(t, "www.example.com")})
	if c.Version == nil {
		t.Errorf("not issued: %+v", c)
	}
}

func TestLint_ThatWarnsIsShownAndToldWithTheVersion(t *testing.T) {
	w := newWorld(t)
	running := w.start(app.Settings{PublicURL: "http://127.0.0.1:8080"})
	id := w.forum("warn", noPolicies)
	c := w.create(object{"common_name": "a_b.example.com", "certificate_profile_id": id, "csr_pem": csrFor(t, "a_b.example.com")})
	if c.Version == nil || c.Version.LintFindings == nil {
		t.Fatalf("no findings: %+v", c.Version)
	}
	found := *c.Version.LintFindings
	i := slices.IndexFunc(found, func(f issuerapi.LintFinding) bool { return f.Lint == underscore })
	if i < 0 || slices.ContainsFunc(found, func(f issuerapi.LintFinding) bool { return f.Lint == noPolicies }) {
		t.Fatalf("found %+v", found)
	}
	if f := found[i]; f.Level != issuerapi.LintFindingLevelError || f.Source != "CABF_BR" || f.Text == "" || f.Citation == nil || f.Detail == nil {
		t.Errorf("finding %+v", f)
	}
	var list issuerapi.CertificateVersionList
	w.must(http.StatusOK, http.MethodGet, "listCertificateVersions", certificates+"/"+c.ID+"/versions", nil, &list)
	if d := cmp.Diff(c.Version.LintFindings, list.Data[0].LintFindings); d != "" {
		t.Errorf("what is stored (-answered +stored):\n%s", d)
	}
	told, _ := hear(w, func(e event.CertificateIssued) bool { return e.CertificateID == c.ID })
	if !slices.ContainsFunc(told.LintFindings, func(f event.LintFinding) bool {
		return f.Lint == underscore && f.Level == "error" && f.Detail != ""
	}) || len(told.LintFindings) != len(found) {
		t.Errorf("told %+v", told.LintFindings)
	}
	if n := running.count("certctl_issuer_lint_findings_total", map[string]string{"lint": underscore, "level": "error"}); n != 1 {
		t.Errorf("counted %d times", n)
	}
	// By a job it is the same.
	w.target("tgt-1", "agent-1")
	by := w.create(object{"common_name": "a_b.example.com", "certificate_profile_id": id, "target_ids": []string{"tgt-1"}})
	w.answer(w.keyRequest(by.ID, 1), catest.NewKey(t, ecdsa))
	hear(w, func(e event.CertificateIssued) bool {
		return e.CertificateID == by.ID && len(e.LintFindings) == len(found)
	})
	w.must(http.StatusOK, http.MethodGet, "listCertificateVersions", certificates+"/"+by.ID+"/versions", nil, &list)
	if got := list.Data[0].LintFindings; got == nil || len(*got) != len(found) {
		t.Errorf("stored by a job: %+v", got)
	}
}

func TestLint_OfACertificateWithoutProfileIsByTheRFCsAndWarns(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{PublicURL: "http://127.0.0.1:8080"})
	c := w.create(object{"common_name": "a_b.example.com", "csr_pem": csrFor(t, "a_b.example.com")})
	if found := c.Version.LintFindings; found == nil || len(*found) != 1 || (*found)[0].Lint != "w_rfc_dnsname_underscore_in_trd" {
		t.Errorf("found %+v", found)
	}
	if c = w.create(object{"common_name": "www.example.com", "csr_pem": csrFor(t, "www.example.com")}); c.Version.LintFindings != nil {
		t.Errorf("found %+v", *c.Version.LintFindings)
	}
}

// careless sets up a CA elsewhere that lets the keys of its leaves sign certificates.
func (w *world) careless(t *testing.T) (issuerID string) {
	t.Helper()
	dir, _ := scripttest.Plain(t)
	path := filepath.Join(dir, "sign")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const good, bad = "keyUsage = critical, $usage", "keyUsage = critical, $usage, keyCertSign"
	if !strings.Contains(string(text), good) {
		t.Fatalf("%s has no line %q", path, good)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(text), good, bad, 1)), 0o755); err != nil {
		t.Fatal(err)
	}
	w.start(app.Settings{OpenSSL: app.OpenSSL{ScriptDir: dir}})
	return w.issuer(openSSL(t, dir)).ID
}

func TestLint_OfWhatACAElsewhereAnsweredIsDoneBeforeItIsStored(t *testing.T) {
	const mistake = "e_ext_key_usage_cert_sign_without_ca"
	w := newWorld(t)
	issuerID := w.careless(t)
	// OpenSSL and zlint find it out; GnuTLS minds only who signs by such a key.
	w.objections = []string{"Key usage keyCertSign invalid for non-CA cert", mistake, "e_key_usage_and_extended_key_usage_inconsistent"}
	body := func(profileID string) object {
		return object{"common_name": "www.example.com", "issuer_id": issuerID, "certificate_profile_id": profileID, "csr_pem": csrFor(t, "www.example.com")}
	}
	block := w.profile(object{"name": "Strict", "enabled": true, "allowed_ekus": []string{"serverAuth", "clientAuth"}, "lint_mode": "block"}).ID
	refused := w.create(body(block))
	failed, _ := hear(w, func(e event.CertificateFailed) bool { return e.CertificateID == refused.ID })
	for _, part := range []string{block, "Strict", "lint_ruleset rfc", mistake, "serial number"} {
		if !strings.Contains(failed.Reason, part) {
			t.Errorf("reason %q lacks %q", failed.Reason, part)
		}
	}
	if j := w.job(failed.JobID); j.Status != issuerapi.JobStatusFailed || j.Attempts != 1 || w.versions() != 0 {
		t.Errorf("job %+v, %d versions", j, w.versions())
	}
	warned := w.create(body(""))
	told, _ := hear(w, func(e event.CertificateIssued) bool { return e.CertificateID == warned.ID })
	if !slices.ContainsFunc(told.LintFindings, func(f event.LintFinding) bool { return f.Lint == mistake && f.Level == "error" }) {
		t.Errorf("told %+v", told.LintFindings)
	}
}

func TestProfile_SaysHowItsCertificatesAreLintedAndTheirKeysAreKept(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	p := w.profile(object{"id": "prof-web", "name": "Web"})
	if p.LintRuleset != issuerapi.Rfc || p.LintMode != issuerapi.LintModeWarn || len(p.LintIgnore) != 0 || p.ReuseKey {
		t.Errorf("defaults: %+v", p)
	}
	for range 2 {
		p = w.changeProfile("prof-web", object{"lint_ruleset": "cabf", "lint_mode": "block", "lint_ignore": []string{underscore}, "reuse_key": true})
	}
	var read issuerapi.Profile
	w.must(http.StatusOK, http.MethodGet, "getProfile", profiles+"/prof-web", nil, &read)
	if d := cmp.Diff(p, read); d != "" || read.LintRuleset != issuerapi.Cabf || read.LintMode != issuerapi.LintModeBlock || !read.ReuseKey ||
		!slices.Equal(read.LintIgnore, []string{underscore}) {
		t.Errorf("read %+v\n%s", read, d)
	}
	told, _ := hear(w, func(e event.ProfileChanged) bool { return e.Verb == event.Updated })
	if d := cmp.Diff(event.Changes{
		"lint_ruleset": {Before: "rfc", After: "cabf"}, "lint_mode": {Before: "warn", After: "block"},
		"lint_ignore": {Before: []any{}, After: []any{underscore}}, "reuse_key": {Before: false, After: true},
	}, told.Changes); d != "" {
		t.Error(d)
	}
	for field, value := range map[string]any{"lint_ruleset": "off", "lint_mode": "off", "lint_ignore": []string{"No lint"}} {
		p := w.refused(http.StatusBadRequest, http.MethodPut, "updateProfile", profiles+"/prof-web", object{field: value})
		if len(p.Errors) != 1 || !strings.HasPrefix(p.Errors[0].Name, field) {
			t.Errorf("%s: %+v", field, p)
		}
	}
}
