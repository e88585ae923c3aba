package app_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/httpapi/issuerapi"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/id"
	"github.com/certctl/certctl/libs/natshttp"
	"github.com/certctl/certctl/libs/obs"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/app"
	"github.com/certctl/certctl/services/issuer/internal/ca/catest"
)

const profiles = "/api/v1/profiles"

type object = map[string]any

// conditional makes a call with the header If-Match, and returns the status and the ETag of the answer.
func (w *world) conditional(method, operation, path, ifMatch string, body any) (int, string) {
	w.t.Helper()
	encoded, err := json.Marshal(body)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx := natshttp.WithRoute(context.WithoutCancel(w.t.Context()), natshttp.Route{Service: "issuer", Operation: operation})
	ctx, cancel := context.WithTimeout(authn.NewContext(obs.WithRequestID(ctx, id.New("req-")), w.as), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://issuer"+path, bytes.NewReader(encoded))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if ifMatch != "" {
		req.Header.Set("If-Match", ifMatch)
	}
	client := http.Client{Transport: natshttp.NewTransport(w.conn.NC)}
	resp, err := client.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		w.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("ETag")
}

func (w *world) profile(body object) (p issuerapi.Profile) {
	w.t.Helper()
	w.must(http.StatusCreated, http.MethodPost, "createProfile", profiles, body, &p)
	return p
}

func (w *world) changeProfile(id string, body object) (p issuerapi.Profile) {
	w.t.Helper()
	w.must(http.StatusOK, http.MethodPut, "updateProfile", profiles+"/"+id, body, &p)
	return p
}

func TestProfiles_AreSetUpReadChangedAndRemoved(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	made := w.profile(object{"id": "prof-web", "name": "Web"})
	want := issuerapi.Profile{
		ID: "prof-web", Name: "Web", AllowedEkus: []string{"serverAuth"}, RequiredSanPatterns: []string{},
		AllowedKeyAlgorithms: []issuerapi.ProfileKeyAlgorithm{{Algorithm: "ECDSA", MinSize: 256}, {Algorithm: "RSA", MinSize: 2048}},
		LintRuleset:          issuerapi.Rfc, LintMode: issuerapi.LintModeWarn, LintIgnore: []string{},
		CreatedAt: made.CreatedAt, UpdatedAt: made.UpdatedAt,
	}
	if d := cmp.Diff(want, made); d != "" {
		t.Errorf("defaults:\n%s", d)
	}
	changed := w.changeProfile("prof-web", object{"id": "ignored", "enabled": true, "max_ttl_seconds": 86400})
	want.Enabled, want.MaxTTLSeconds, want.UpdatedAt = true, 86400, changed.UpdatedAt
	if d := cmp.Diff(want, changed); d != "" {
		t.Errorf("what is left out stays:\n%s", d)
	}
	told, message := hear(w, func(e event.ProfileChanged) bool { return e.Verb == event.Updated })
	if d := cmp.Diff(event.Changes{
		"enabled": {Before: false, After: true}, "max_ttl_seconds": {Before: 0.0, After: 86400.0},
	}, told.Changes); d != "" || message.AggVersion != 2 || message.Actor != admin.ID {
		t.Errorf("told %+v, version %d: %s", told, message.AggVersion, d)
	}

	status, tag := w.conditional(http.MethodGet, "getProfile", profiles+"/prof-web", "", nil)
	if status != http.StatusOK || tag != `"2"` {
		t.Errorf("%d, tag %s", status, tag)
	}
	if status, _ = w.conditional(http.MethodPut, "updateProfile", profiles+"/prof-web", `"1"`, object{"name": "Lost"}); status != http.StatusPreconditionFailed {
		t.Errorf("an update of an older revision: %d", status)
	}
	if status, tag = w.conditional(http.MethodPut, "updateProfile", profiles+"/prof-web", tag, object{"name": "Kept"}); status != http.StatusOK || tag != `"3"` {
		t.Errorf("an update of the newest revision: %d, tag %s", status, tag)
	}
	// What changes nothing is no change.
	if status, tag = w.conditional(http.MethodPut, "updateProfile", profiles+"/prof-web", "", object{"name": "Kept"}); status != http.StatusOK || tag != `"3"` {
		t.Errorf("an update of nothing: %d, tag %s", status, tag)
	}

	w.refused(http.StatusConflict, http.MethodPost, "createProfile", profiles, object{"id": "prof-web", "name": "Again"})
	w.refused(http.StatusNotFound, http.MethodGet, "getProfile", profiles+"/prof-none", nil)
	w.refused(http.StatusNotFound, http.MethodPut, "updateProfile", profiles+"/prof-none", object{"name": "x"})
	w.refused(http.StatusNotFound, http.MethodDelete, "deleteProfile", profiles+"/prof-none", nil)
	if p := w.refused(http.StatusBadRequest, http.MethodPut, "updateProfile", profiles+"/prof-web", object{"allowed_ekus": []string{"1.3.6"}}); len(p.Errors) != 1 || p.Errors[0].Name != "allowed_ekus[0]" {
		t.Errorf("errors %+v", p.Errors)
	}
	w.refused(http.StatusBadRequest, http.MethodPost, "createProfile", profiles, object{"name": "x", "max_ttl_seconds": int64(1) << 62})

	users := []string{}
	for range 12 {
		users = append(users, w.create(object{"common_name": "www.example.com", "certificate_profile_id": "prof-web"}).ID)
	}
	p := w.refused(http.StatusConflict, http.MethodDelete, "deleteProfile", profiles+"/prof-web", nil)
	if !strings.Contains(p.Message, "12 certificates") || !strings.Contains(p.Message, users[0]) || len(p.Errors) != 10 {
		t.Errorf("in use: %q, %d listed", p.Message, len(p.Errors))
	}
	for _, id := range users {
		w.must(http.StatusNoContent, http.MethodDelete, "archiveCertificate", certificates+"/"+id, nil, nil)
	}
	w.must(http.StatusNoContent, http.MethodDelete, "deleteProfile", profiles+"/prof-web", nil, nil)
	hear(w, func(e event.ProfileChanged) bool { return e.Verb == event.Deleted && e.ID == "prof-web" })
	if c := w.certificate(users[0]); c.CertificateProfileID == nil || *c.CertificateProfileID != "prof-web" {
		t.Errorf("an archived certificate forgot its profile: %+v", c)
	}
}

func TestProfile_OfACertificateMustBeThereAndEnabled(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.profile(object{"id": "prof-off", "name": "Off"})
	for name, id := range map[string]string{"unknown": "prof-none", "disabled": "prof-off", "malformed": "No.Id"} {
		p := w.refused(http.StatusBadRequest, http.MethodPost, "createCertificate", certificates,
			object{"common_name": "www.example.com", "certificate_profile_id": id})
		if len(p.Errors) != 1 || p.Errors[0].Name != "certificate_profile_id" {
			t.Errorf("%s: %+v", name, p)
		}
	}
	w.changeProfile("prof-off", object{"enabled": true})
	c := w.create(object{"common_name": "www.example.com", "certificate_profile_id": "prof-off"})
	var list issuerapi.CertificateList
	w.must(http.StatusOK, http.MethodGet, "listCertificates", certificates, nil, &list)
	if len(list.Data) != 1 || list.Data[0].CertificateProfileID == nil || *list.Data[0].CertificateProfileID != "prof-off" || c.CertificateProfileID == nil {
		t.Errorf("list %+v", list.Data)
	}
	// What has it is renewed by it, also when it takes on no more.
	w.changeProfile("prof-off", object{"enabled": false, "allowed_ekus": []string{"clientAuth"}})
	var done issuerapi.RenewalTriggered
	w.must(http.StatusAccepted, http.MethodPost, "submitCertificateCSR", certificates+"/"+c.ID+"/csr", object{"csr_pem": csrFor(t, "www.example.com")}, &done)
	if leaf := leafOf(t, done.Version.PemChain); !slices.Equal(leaf.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}) {
		t.Errorf("usages %v", leaf.ExtKeyUsage)
	}
}

func leafOf(t *testing.T, chain string) *x509.Certificate {
	t.Helper()
	certs, err := x509x.ParseCertificates([]byte(chain))
	if err != nil {
		t.Fatal(err)
	}
	return certs[0]
}

// path is a way by which a request for a signature comes. It returns the chain that was issued, or why none was.
type path struct {
	name string
	sign func(w *world, c issuerapi.Certificate, key crypto.Signer) (chain, reason string)
	// first prepares a certificate that waits to be signed by this path.
	first func(w *world, profileID string) issuerapi.Certificate
}

func paths() []path {
	const name = "www.example.com"
	waiting := func(w *world, profileID string) issuerapi.Certificate {
		return w.create(object{"common_name": name, "certificate_profile_id": profileID})
	}
	csr := func(w *world, key crypto.Signer) string { return catest.NewCSR(w.t, key, name, name) }
	answer := func(w *world, status, want int, text []byte) (string, string) {
		w.t.Helper()
		if status != want {
			var p problem
			if status != http.StatusBadRequest || json.Unmarshal(text, &p) != nil {
				w.t.Fatalf("%d %s", status, text)
			}
			return "", p.Message
		}
		var done struct{ Version issuerapi.CertificateVersion }
		if err := json.Unmarshal(text, &done); err != nil {
			w.t.Fatal(err)
		}
		return done.Version.PemChain, ""
	}
	// outcome waits for what becomes of a job that nobody waits for.
	outcome := func(w *world, certificateID string) (chain, reason string) {
		w.t.Helper()
		w.await("the job to end", func() bool {
			for _, h := range all(w.heard, func(e event.CertificateIssued) bool { return e.CertificateID == certificateID }) {
				chain = h.Event.(event.CertificateIssued).PEMChain
			}
			for _, h := range all(w.heard, func(e event.CertificateFailed) bool { return e.CertificateID == certificateID }) {
				reason = h.Event.(event.CertificateFailed).Reason
			}
			return chain != "" || reason != ""
		})
		return chain, reason
	}
	return []path{
		{
			name: "create with a request",
			first: func(_ *world, profileID string) issuerapi.Certificate {
				return issuerapi.Certificate{CertificateProfileID: &profileID}
			},
			sign: func(w *world, c issuerapi.Certificate, key crypto.Signer) (string, string) {
				status, text := w.try(http.MethodPost, "createCertificate", certificates,
					object{"common_name": name, "certificate_profile_id": *c.CertificateProfileID, "csr_pem": csr(w, key)})
				return answer(w, status, http.StatusCreated, text)
			},
		},
		{
			name: "submit a request", first: waiting,
			sign: func(w *world, c issuerapi.Certificate, key crypto.Signer) (string, string) {
				status, text := w.try(http.MethodPost, "submitCertificateCSR", certificates+"/"+c.ID+"/csr", object{"csr_pem": csr(w, key)})
				return answer(w, status, http.StatusAccepted, text)
			},
		},
		{
			name: "renew with a request",
			first: func(w *world, profileID string) issuerapi.Certificate {
				c := w.create(object{"common_name": name, "certificate_profile_id": profileID})
				w.must(http.StatusOK, http.MethodPost, "cancelJob", "/api/v1/jobs/"+*c.JobID+"/cancel", nil, nil)
				return c
			},
			sign: func(w *world, c issuerapi.Certificate, key crypto.Signer) (string, string) {
				status, text := w.try(http.MethodPost, "renewCertificate", certificates+"/"+c.ID+"/renew", object{"csr_pem": csr(w, key)})
				return answer(w, status, http.StatusAccepted, text)
			},
		},
		{
			name: "an agent's request",
			first: func(w *world, profileID string) issuerapi.Certificate {
				return w.create(object{"common_name": name, "certificate_profile_id": profileID, "target_ids": []string{"tgt-1"}})
			},
			sign: func(w *world, c issuerapi.Certificate, key crypto.Signer) (string, string) {
				w.answer(w.keyRequest(c.ID, 1), key)
				return outcome(w, c.ID)
			},
		},
		{
			name: "a worker's next attempt", first: waiting,
			sign: func(w *world, c issuerapi.Certificate, key crypto.Signer) (string, string) {
				w.exec(`UPDATE issuer.jobs SET status = 'Pending', csr_pem = $2, next_action_at = now() WHERE id = $1`, *c.JobID, csr(w, key))
				w.wakeWorker()
				return outcome(w, c.ID)
			},
		},
	}
}

func TestProfile_IsEnforcedOnEveryWayToASignature(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{PublicURL: "http://127.0.0.1:8080"})
	w.target("tgt-1", "agent-1")
	good, rsaKey := catest.NewKey(t, ecdsa), catest.NewKey(t, "RSA 2048")
	setUp := func(t *testing.T, more object) string {
		w.t = t
		body := object{
			"name": "Strict", "enabled": true, "allowed_key_algorithms": []object{{"algorithm": "ECDSA", "min_size": 256}},
			"max_ttl_seconds": 7200, "allowed_ekus": []string{"clientAuth", "codeSigning"},
		}
		maps.Copy(body, more)
		return w.profile(body).ID
	}
	for _, p := range paths() {
		t.Run(p.name, func(t *testing.T) {
			t.Run("what is allowed is issued within its bounds", func(t *testing.T) {
				c := p.first(w, setUp(t, nil))
				chain, reason := p.sign(w, c, good)
				if chain == "" {
					t.Fatal(reason)
				}
				leaf := leafOf(t, chain)
				if ttl := time.Until(leaf.NotAfter); ttl > 2*time.Hour {
					t.Errorf("holds for %s", ttl)
				}
				if !slices.Equal(leaf.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageCodeSigning}) || len(leaf.UnknownExtKeyUsage) > 0 {
					t.Errorf("usages %v", leaf.ExtKeyUsage)
				}
				if len(leaf.CRLDistributionPoints) == 0 {
					t.Error("points to no CRL")
				}
			})
			t.Run("a key of another kind is refused", func(t *testing.T) {
				id := setUp(t, nil)
				_, reason := p.sign(w, p.first(w, id), rsaKey)
				for _, part := range []string{id, "Strict", "allowed_key_algorithms", "ECDSA from 256 bits", "RSA of 2048 bits"} {
					if !strings.Contains(reason, part) {
						t.Errorf("reason %q lacks %q", reason, part)
					}
				}
			})
			t.Run("a name that the profile has come to require is missed", func(t *testing.T) {
				id := setUp(t, nil)
				c := p.first(w, id)
				w.changeProfile(id, object{"required_san_patterns": []string{`.*\.internal`}})
				_, reason := p.sign(w, c, good)
				for _, part := range []string{id, "required_san_patterns", `.*\.internal`, "www.example.com"} {
					if !strings.Contains(reason, part) {
						t.Errorf("reason %q lacks %q", reason, part)
					}
				}
			})
		})
	}
	w.t = t
}

func TestProfile_AgentsAreAskedForAKeyThatItAllows(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.target("tgt-1", "agent-1")
	id := w.profile(object{"name": "RSA", "enabled": true, "allowed_key_algorithms": []object{{"algorithm": "RSA", "min_size": 3072}}}).ID
	c := w.create(object{"common_name": "www.example.com", "certificate_profile_id": id, "target_ids": []string{"tgt-1"}})
	if asked := w.keyRequest(c.ID, 1); asked.KeyAlgorithm != "RSA" || asked.KeySize != 3072 {
		t.Errorf("asked for %s of %d bits", asked.KeyAlgorithm, asked.KeySize)
	}
}

func TestProfile_AllowsASPIFFEIDThatFits(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	const own, foreign = "spiffe://example.org/ns/prod/sa/web", "spiffe://example.org/ns/prod/x/web"
	plain := w.profile(object{"name": "Plain", "enabled": true}).ID
	mesh := w.profile(object{"name": "Mesh", "enabled": true, "spiffe_uri_pattern": "spiffe://example.org/ns/*/sa/*"}).ID
	csr := func(uri string) string {
		return catest.NewCSR(t, catest.NewKey(t, ecdsa), "web.example.org", "web.example.org", uri)
	}
	body := func(profile, uri string) object {
		return object{"common_name": "web.example.org", "sans": []string{uri}, "certificate_profile_id": profile, "csr_pem": csr(uri)}
	}
	for name, b := range map[string]object{
		"no profile": body("", own), "a profile without a pattern": body(plain, own), "another path": body(mesh, foreign),
	} {
		if p := w.refused(http.StatusBadRequest, http.MethodPost, "createCertificate", certificates, b); len(p.Errors) != 1 || p.Errors[0].Name != "sans" {
			t.Errorf("%s: %+v", name, p)
		}
	}
	c := w.create(body(mesh, own))
	leaf := leafOf(t, c.Version.PemChain)
	if len(leaf.URIs) != 1 || leaf.URIs[0].String() != own || !slices.Contains(c.Sans, own) {
		t.Errorf("URIs %v, sans %v", leaf.URIs, c.Sans)
	}
	if done := w.renew(c.ID, object{"csr_pem": csr(own)}); done.Version == nil {
		t.Error("was not renewed")
	}
}

func TestProfile_ShortLivedCertificatesPointToNoRevocationAndSaySo(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{PublicURL: "http://127.0.0.1:8080"})
	id := w.profile(object{"name": "Short", "enabled": true, "max_ttl_seconds": 600, "allow_short_lived": true}).ID
	c := w.create(object{"common_name": "www.example.com", "certificate_profile_id": id, "csr_pem": csrFor(t, "www.example.com")})
	leaf := leafOf(t, c.Version.PemChain)
	if time.Until(leaf.NotAfter) > 10*time.Minute || len(leaf.CRLDistributionPoints)+len(leaf.OCSPServer) > 0 {
		t.Errorf("leaf until %s, CRL %v, OCSP %v", leaf.NotAfter, leaf.CRLDistributionPoints, leaf.OCSPServer)
	}
	if !slices.ContainsFunc(leaf.Extensions, func(e pkix.Extension) bool { return e.Id.String() == "2.5.29.56" && !e.Critical }) {
		t.Error("noRevAvail is missing")
	}
	issued, _ := hear(w, func(e event.CertificateIssued) bool { return e.CertificateID == c.ID })
	long := w.create(object{"common_name": "www.example.com", "csr_pem": csrFor(t, "www.example.com")})
	other, _ := hear(w, func(e event.CertificateIssued) bool { return e.CertificateID == long.ID })
	if !issued.ShortLived || other.ShortLived {
		t.Errorf("short-lived: %v, and the other: %v", issued.ShortLived, other.ShortLived)
	}
}

func TestProfiles_AreSeenAndChangedWithinAScope(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.profile(object{"id": "prof-a", "name": "A", "enabled": true})
	w.profile(object{"id": "prof-b", "name": "B", "enabled": true})
	mine := w.create(object{"common_name": "a.example.com", "certificate_profile_id": "prof-a"})
	w.create(object{"common_name": "b.example.com", "certificate_profile_id": "prof-b"})
	w.create(object{"common_name": "c.example.com"})

	w.as = authn.Principal{ID: "key-a", Kind: authn.KindUser, Scope: authn.Scope{Profiles: []string{"prof-a"}}}
	var found issuerapi.ProfileList
	w.must(http.StatusOK, http.MethodGet, "listProfiles", profiles, nil, &found)
	if len(found.Data) != 1 || found.Data[0].ID != "prof-a" {
		t.Errorf("sees %+v", found.Data)
	}
	var list issuerapi.CertificateList
	w.must(http.StatusOK, http.MethodGet, "listCertificates", certificates, nil, &list)
	if len(list.Data) != 1 || list.Data[0].ID != mine.ID {
		t.Errorf("sees %+v", list.Data)
	}
	w.refused(http.StatusNotFound, http.MethodGet, "getProfile", profiles+"/prof-b", nil)
	w.refused(http.StatusNotFound, http.MethodPut, "updateProfile", profiles+"/prof-b", object{"name": "x"})
	w.refused(http.StatusNotFound, http.MethodDelete, "deleteProfile", profiles+"/prof-b", nil)
	w.refused(http.StatusForbidden, http.MethodPost, "createProfile", profiles, object{"name": "x"})
	w.refused(http.StatusForbidden, http.MethodPost, "createCertificate", certificates, object{"common_name": "x.example.com", "certificate_profile_id": "prof-b"})
	w.refused(http.StatusForbidden, http.MethodPost, "createCertificate", certificates, object{"common_name": "x.example.com"})
	w.create(object{"common_name": "x.example.com", "certificate_profile_id": "prof-a"})
	w.changeProfile("prof-a", object{"description": "mine"})

	w.as = authn.Principal{ID: "key-t", Kind: authn.KindUser, Scope: authn.Scope{Teams: []string{"t-default"}}}
	w.must(http.StatusOK, http.MethodGet, "getProfile", profiles+"/prof-b", nil, nil)
	w.refused(http.StatusForbidden, http.MethodPut, "updateProfile", profiles+"/prof-b", object{"name": "x"})
	w.refused(http.StatusForbidden, http.MethodDelete, "deleteProfile", profiles+"/prof-b", nil)
	w.refused(http.StatusForbidden, http.MethodPost, "createProfile", profiles, object{"name": "x"})
}
