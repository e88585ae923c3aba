package vaultfake

import (
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // for a key identifier
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/certctl/certctl/libs/x509x"
)

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	path := strings.TrimPrefix(r.URL.Path, "/v1/")
	if s.meddle != nil && s.meddle(w, path) {
		return
	}
	var body map[string]any
	if r.Method != http.MethodGet && json.NewDecoder(r.Body).Decode(&body) != nil {
		Refuse(w, http.StatusBadRequest, "failed to parse JSON input")
		return
	}
	call := r.Method + " " + path
	if r.Method == http.MethodPut {
		call = http.MethodPost + " " + path
	}
	switch {
	case r.Header.Get("X-Vault-Namespace") != Namespace:
		Refuse(w, http.StatusNotFound, fmt.Sprintf("no handler for route %q. route entry not found.", path))
	case call == "POST auth/approle/login":
		s.login(w, body)
	case call == "GET "+Mount+"/issuer/default/json":
		data(w, map[string]any{
			"certificate": text(s.Issuing), "ca_chain": []string{text(s.Issuing), text(s.Root)}, "issuer_name": "default",
		})
	default:
		may, valid := s.tokens[r.Header.Get("X-Vault-Token")]
		if !valid {
			Refuse(w, http.StatusForbidden, "permission denied", "invalid token")
			return
		}
		s.known(w, call, body, may)
	}
}

// known answers those whose token is valid.
func (s *Server) known(w http.ResponseWriter, call string, body map[string]any, may bool) {
	switch {
	case call == "POST sys/capabilities-self":
		capabilities := map[string]any{}
		paths, _ := body["paths"].([]any)
		for _, p := range paths {
			capabilities[fmt.Sprint(p)] = []string{"deny"}
			if may && p == Mount+"/sign/"+RoleName {
				capabilities[fmt.Sprint(p)] = []string{"create", "update"}
			}
		}
		data(w, capabilities)
	case !may || !strings.HasPrefix(call, "POST "+Mount+"/"):
		Refuse(w, http.StatusForbidden, "1 error occurred:\n\t* permission denied\n\n")
	case strings.HasPrefix(call, "POST "+Mount+"/sign/"):
		if role := strings.TrimPrefix(call, "POST "+Mount+"/sign/"); role != RoleName {
			Refuse(w, http.StatusBadRequest, "unknown role: "+role)
			return
		}
		s.sign(w, body)
	case call == "POST "+Mount+"/revoke":
		s.revoke(w, body)
	default:
		Refuse(w, http.StatusNotFound)
	}
}

func (s *Server) login(w http.ResponseWriter, body map[string]any) {
	if body["role_id"] != RoleID || body["secret_id"] != SecretID {
		Refuse(w, http.StatusBadRequest, "invalid role or secret ID")
		return
	}
	s.logins++
	token := fmt.Sprintf("hvs.fake-approle-%d", s.logins)
	s.tokens[token] = true
	answer(w, http.StatusOK, map[string]any{"data": nil, "auth": map[string]any{
		"client_token": token, "accessor": "fake", "policies": []string{"default", "sign"}, "lease_duration": 3600, "renewable": true,
	}})
}

func (s *Server) revoke(w http.ResponseWriter, body map[string]any) {
	serial := fmt.Sprint(body["serial_number"])
	c := s.certificates[serial]
	if c == nil {
		Refuse(w, http.StatusBadRequest, "certificate with serial "+serial+" not found.")
		return
	}
	if c.revoked.IsZero() {
		c.revoked = time.Now()
	}
	data(w, map[string]any{"revocation_time": c.revoked.Unix(), "revocation_time_rfc3339": c.revoked.UTC().Format(time.RFC3339Nano), "state": "revoked"})
}

func (s *Server) sign(w http.ResponseWriter, body map[string]any) {
	str := func(name string) string { v, _ := body[name].(string); return v }
	block, _ := pem.Decode([]byte(str("csr")))
	if block == nil {
		Refuse(w, http.StatusBadRequest, "csr contains no data")
		return
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		Refuse(w, http.StatusBadRequest, "certificate request could not be parsed: "+err.Error())
		return
	}
	template := s.template(csr, str)
	cn := template.Subject.CommonName
	if cn == "" && s.role.RequireCN {
		Refuse(w, http.StatusBadRequest, `the common_name field is required, or must be provided in a CSR with "use_csr_common_name" set to true, unless "require_cn" is set to false`)
		return
	}
	if exclude, _ := body["exclude_cn_from_sans"].(bool); cn != "" && !exclude {
		template.DNSNames = append(template.DNSNames, cn)
	}
	if s.role.Forbidden != "" && cn == s.role.Forbidden {
		Refuse(w, http.StatusBadRequest, "common name "+cn+" not allowed by this role")
		return
	}
	var warnings []string
	ttl := s.role.TTL
	if asked, err := time.ParseDuration(str("ttl")); err == nil {
		ttl = asked
	}
	if ttl > s.role.MaxTTL {
		warnings = append(warnings, fmt.Sprintf("TTL %q is longer than permitted maxTTL %q, so maxTTL is being used", ttl, s.role.MaxTTL))
		ttl = s.role.MaxTTL
	}
	template.NotAfter = time.Now().Add(ttl)
	spki := sha1.Sum(publicKey(csr)) //nolint:gosec // RFC 5280 section 4.2.1.2, method 1, as the real one has it
	template.SubjectKeyId = spki[:]
	der, err := x509.CreateCertificate(rand.Reader, template, s.Issuing, csr.PublicKey, s.key)
	if err != nil {
		Refuse(w, http.StatusInternalServerError, "1 error occurred:\n\t* "+err.Error()+"\n\n")
		return
	}
	serial := colons(template.SerialNumber)
	s.certificates[serial] = &issued{}
	data(w, map[string]any{
		"certificate": strings.TrimSpace(string(x509x.EncodePEM(der))), "issuing_ca": text(s.Issuing),
		"ca_chain": []string{text(s.Issuing), text(s.Root)}, "serial_number": serial, "expiration": template.NotAfter.Unix(),
	}, warnings...)
}

// publicKey returns the bits of a request's key.
func publicKey(csr *x509.CertificateRequest) []byte {
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	// The request was parsed, and its key with it.
	_, _ = asn1.Unmarshal(csr.RawSubjectPublicKeyInfo, &info)
	return info.Key.RightAlign()
}

// template is a certificate as the role wants it, from the request or from the parameters.
func (s *Server) template(csr *x509.CertificateRequest, str func(string) string) *x509.Certificate {
	t := &x509.Certificate{
		NotBefore: time.Now().Add(-s.role.NotBeforeDuration), BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	// As the real one: up to 159 bits.
	t.SerialNumber, _ = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 159))
	if s.role.UseCSRCommonName {
		t.Subject = pkix.Name{CommonName: csr.Subject.CommonName}
	}
	if t.Subject.CommonName == "" {
		t.Subject = pkix.Name{CommonName: str("common_name")}
	}
	if s.role.UseCSRSANs {
		t.DNSNames, t.EmailAddresses, t.IPAddresses, t.URIs = csr.DNSNames, csr.EmailAddresses, csr.IPAddresses, csr.URIs
		return t
	}
	for _, name := range split(str("alt_names")) {
		if strings.Contains(name, "@") {
			t.EmailAddresses = append(t.EmailAddresses, name)
		} else {
			t.DNSNames = append(t.DNSNames, name)
		}
	}
	for _, a := range split(str("ip_sans")) {
		t.IPAddresses = append(t.IPAddresses, net.ParseIP(a))
	}
	for _, u := range split(str("uri_sans")) {
		if parsed, err := url.Parse(u); err == nil {
			t.URIs = append(t.URIs, parsed)
		}
	}
	return t
}

func split(list string) []string {
	if list == "" {
		return nil
	}
	return strings.Split(list, ",")
}

func text(c *x509.Certificate) string { return strings.TrimSpace(string(x509x.EncodePEM(c.Raw))) }

func colons(serial *big.Int) string {
	text := fmt.Sprintf("% x", serial.Bytes())
	return strings.ReplaceAll(text, " ", ":")
}
