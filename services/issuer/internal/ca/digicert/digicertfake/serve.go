package digicertfake

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/certctl/certctl/libs/x509x"
)

const prefix = "/services/v2/"

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	for pattern, f := range map[string]http.HandlerFunc{
		"GET user/me":                                   s.me,
		"GET product/{name}":                            s.product,
		"GET organization/{id}":                         s.organization,
		"GET order/certificate":                         s.list,
		"GET order/alternate/{mark}":                    s.alternate,
		"GET order/certificate/{id}":                    s.info,
		"POST order/certificate/{product}":              s.place,
		"GET certificate/{id}/download/format/{format}": s.download,
		"PUT certificate/{identifier}/revoke":           s.revoke,
	} {
		method, path, _ := strings.Cut(pattern, " ")
		mux.HandleFunc(method+" "+prefix+path, f)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		Refuse(w, http.StatusNotFound, "not_found|route", "Not found")
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.meddle != nil && s.meddle(w, r) {
			return
		}
		if r.Header.Get("X-DC-DEVKEY") != APIKey {
			Refuse(w, http.StatusUnauthorized, "invalid_auth", "Invalid or missing API key")
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func (s *Server) me(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]any{
		"id": 24, "username": "fake", "account": map[string]any{"id": 1}, "first_name": "Fake", "last_name": "User", "email": "fake@example.com",
		"container": map[string]any{"id": ContainerID, "name": "Fake Division"}, "access_roles": []map[string]any{{"id": 1, "name": "Administrator"}},
	})
}

func (s *Server) product(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	if name != ProductOV && name != ProductDV {
		Refuse(w, http.StatusNotFound, "not_found|product", "The specified product could not be found.")
		return
	}
	answer(w, http.StatusOK, map[string]any{
		"group_name": "ssl_certificate", "name_id": name, "name": "Fake", "type": "ssl_certificate", "csr_required": true,
		"signature_hash_types": map[string]any{"allowed_hash_types": []map[string]string{{"id": "sha256", "name": "SHA-256"}}, "default_hash_type_id": "sha256"},
	})
}

func (s *Server) organization(w http.ResponseWriter, r *http.Request) {
	if r.PathValue("id") != strconv.Itoa(OrganizationID) {
		Refuse(w, http.StatusNotFound, "not_found|organization", "The specified organization could not be found.")
		return
	}
	status := "active"
	if s.inactive {
		status = "inactive"
	}
	answer(w, http.StatusOK, map[string]any{"id": OrganizationID, "status": status, "name": Organization, "is_active": !s.inactive})
}

func page(total int) map[string]int {
	return map[string]int{"total": total, "limit": 1000, "offset": 0}
}

func (s *Server) list(w http.ResponseWriter, _ *http.Request) {
	list := []any{}
	for _, o := range s.orders {
		list = append(list, map[string]any{"id": o.id, "status": o.status, "certificate": map[string]any{"id": o.certificateID, "common_name": o.request.Certificate.CommonName}})
	}
	answer(w, http.StatusOK, map[string]any{"orders": list, "page": page(len(list))})
}

func (s *Server) alternate(w http.ResponseWriter, r *http.Request) {
	list := []any{}
	for _, o := range s.orders {
		if o.mark == r.PathValue("mark") {
			list = append(list, map[string]any{"order_id": o.id, "certificate_id": o.certificateID, "status": o.status})
		}
	}
	answer(w, http.StatusOK, map[string]any{"orders": list, "page": page(len(list))})
}

// find finds an order by its number or by the serial number of its certificate.
func (s *Server) find(identifier string) *order {
	for _, o := range s.orders {
		if strconv.FormatInt(o.id, 10) == identifier || o.serial != "" && o.serial == identifier {
			return o
		}
	}
	return nil
}

func (s *Server) info(w http.ResponseWriter, r *http.Request) {
	o := s.find(r.PathValue("id"))
	if o == nil {
		Refuse(w, http.StatusNotFound, "not_found|order", "The specified order could not be found.")
		return
	}
	if o.status == "pending" {
		if o.looks--; o.looks <= 0 {
			if err := s.issue(o); err != nil {
				Refuse(w, http.StatusInternalServerError, "internal", err.Error())
				return
			}
		}
	}
	certificate := map[string]any{
		"id": o.certificateID, "common_name": o.request.Certificate.CommonName, "dns_names": o.request.Certificate.DNSNames,
		"date_created": o.placed.Format(time.RFC3339), "csr": o.request.Certificate.CSR, "signature_hash": "sha256",
	}
	if o.der != nil {
		certificate["serial_number"], certificate["status"] = o.serial, "issued"
		if o.revoked {
			certificate["status"] = "revoked"
		}
	}
	request := map[string]any{"id": o.id + 1, "date": o.placed.Format(time.RFC3339), "type": "new_request", "status": "approved"}
	if o.status == "needs_approval" {
		request["status"] = "pending"
	}
	if o.note != "" {
		request["status"], request["processor_comment"] = "rejected", o.note
	}
	answer(w, http.StatusOK, map[string]any{
		"id": o.id, "status": o.status, "certificate": certificate, "alternative_order_id": o.mark, "requests": []any{request},
		"organization": map[string]any{"id": OrganizationID}, "product": map[string]any{"name_id": o.request.product}, "payment_method": o.request.Payment,
	})
}

func (s *Server) download(w http.ResponseWriter, r *http.Request) {
	if r.PathValue("format") != "pem_all" {
		Refuse(w, http.StatusBadRequest, "invalid_format", "The specified format is not valid.")
		return
	}
	for _, o := range s.orders {
		if strconv.FormatInt(o.certificateID, 10) == r.PathValue("id") && o.der != nil {
			w.Header().Set("Content-Type", "application/x-pem-file")
			chain := append(x509x.EncodePEM(o.der), x509x.EncodeCertificates(s.Issuing, s.Root)...)
			_, _ = w.Write(chain)
			return
		}
	}
	Refuse(w, http.StatusNotFound, "not_found|certificate", "The specified certificate could not be found.")
}

func (s *Server) revoke(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Reason       string `json:"revocation_reason"`
		SkipApproval bool   `json:"skip_approval"`
	}
	if json.NewDecoder(r.Body).Decode(&body) != nil {
		Refuse(w, http.StatusBadRequest, "invalid_json", "The request is no JSON.")
		return
	}
	var o *order
	for _, each := range s.orders {
		if each.serial == r.PathValue("identifier") && each.der != nil {
			o = each
		}
	}
	switch {
	case o == nil:
		Refuse(w, http.StatusNotFound, "not_found|certificate", "The specified certificate could not be found.")
	case o.revoked:
		Refuse(w, http.StatusBadRequest, "invalid_status", "The certificate is not in a state for this.")
	case body.SkipApproval && !s.approves:
		Refuse(w, http.StatusForbidden, "access_denied|invalid_permission", "You do not have permission to skip the approval.")
	case !body.SkipApproval:
		answer(w, http.StatusCreated, map[string]any{"id": 1, "date": time.Now().Format(time.RFC3339), "type": "revoke", "status": "pending"})
	default:
		o.revoked = true
		s.revokes = append(s.revokes, Revoked{o.serial, body.Reason})
		w.WriteHeader(http.StatusNoContent)
	}
}
