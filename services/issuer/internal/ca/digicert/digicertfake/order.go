package digicertfake

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"slices"
	"time"
)

// maxDays is what public certificates may last at most, whatever was ordered.
const maxDays = 199

// orderRequest is the body of an order.
type orderRequest struct {
	Certificate struct {
		CommonName    string   `json:"common_name"`
		DNSNames      []string `json:"dns_names"`
		CSR           string   `json:"csr"`
		SignatureHash string   `json:"signature_hash"`
	} `json:"certificate"`
	Validity struct {
		Years int `json:"years"`
		Days  int `json:"days"`
	} `json:"order_validity"`
	Organization struct {
		ID int `json:"id"`
	} `json:"organization"`
	Payment      string `json:"payment_method"`
	SkipApproval bool   `json:"skip_approval"`
	DCVMethod    string `json:"dcv_method"`
	Mark         string `json:"alternative_order_id"`

	product string
	csr     *x509.CertificateRequest
}

// objection says what is wrong with an order, nothing if it is to be taken.
func (o *orderRequest) objection() (code, message string) {
	block, _ := pem.Decode([]byte(o.Certificate.CSR))
	if block == nil {
		return "invalid_csr", "The CSR is not valid."
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil || csr.CheckSignature() != nil {
		return "invalid_csr", "The CSR is not valid."
	}
	o.csr = csr
	switch key := csr.PublicKey.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() < 2048 {
			return "invalid_csr", "The key of the CSR is too small."
		}
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() && key.Curve != elliptic.P384() {
			return "invalid_csr", "The curve of the CSR is not supported."
		}
	default:
		return "invalid_csr", "The key algorithm of the CSR is not supported."
	}
	switch {
	case o.Certificate.CommonName == "" || len(o.Certificate.CommonName) > 64:
		return "invalid_common_name", "The common name is missing or too long."
	case o.Certificate.SignatureHash != "sha256":
		return "invalid_signature_hash", "The signature hash is not allowed."
	case o.Validity.Years == 0 && o.Validity.Days == 0:
		return "missing_validity", "The order validity is missing."
	case o.product == ProductOV && o.Organization.ID != OrganizationID:
		return "invalid_organization", "The organization is not valid for this order."
	case o.Payment != "balance":
		return "invalid_payment_method", "The payment method is not valid."
	case len(o.Mark) > 64:
		return "invalid_alternative_order_id", "The alternative order ID is too long."
	}
	return "", ""
}

func (s *Server) place(w http.ResponseWriter, r *http.Request) {
	request := orderRequest{product: r.PathValue("product")}
	if json.NewDecoder(r.Body).Decode(&request) != nil {
		Refuse(w, http.StatusBadRequest, "invalid_json", "The request is no JSON.")
		return
	}
	if request.product != ProductOV && request.product != ProductDV {
		Refuse(w, http.StatusNotFound, "not_found|product", "The specified product could not be found.")
		return
	}
	if code, message := request.objection(); code != "" {
		Refuse(w, http.StatusBadRequest, code, message)
		return
	}
	o := &order{id: s.nextID, certificateID: s.nextID + 500000000, mark: request.Mark, status: "pending", looks: s.looks, request: request, placed: time.Now()}
	s.nextID += 10
	requestStatus := "approved"
	if !s.approves || !request.SkipApproval {
		o.status, requestStatus = "needs_approval", "pending"
	}
	s.orders = append(s.orders, o)
	if s.dropped > 0 {
		s.dropped--
		// The server drops the connection without a word.
		panic(http.ErrAbortHandler)
	}
	body := map[string]any{"id": o.id, "certificate_id": o.certificateID, "requests": []any{map[string]any{"id": o.id + 1, "status": requestStatus}}}
	if request.product == ProductDV {
		body["dcv_random_value"] = "_fake" + o.mark
	}
	answer(w, http.StatusCreated, body)
}

// issue makes the certificate of an order, of its fields and the request's key.
func (s *Server) issue(o *order) error {
	days := o.request.Validity.Days
	if days == 0 {
		days = 365 * o.request.Validity.Years
	}
	from := time.Now().UTC().Truncate(24 * time.Hour)
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 126))
	if err != nil {
		return err
	}
	serial.SetBit(serial, 120, 1)
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: o.request.Certificate.CommonName},
		NotBefore: from, NotAfter: from.AddDate(0, 0, min(days, maxDays)).Add(-time.Second), BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		PolicyIdentifiers:     []asn1.ObjectIdentifier{{2, 23, 140, 1, 2, 1}},
		CRLDistributionPoints: []string{"http://crl.example.com/fake.crl"}, OCSPServer: []string{"http://ocsp.example.com"},
		IssuingCertificateURL: []string{"http://cacerts.example.com/fake.crt"},
	}
	if o.request.product == ProductOV {
		t.Subject.Organization, t.Subject.Country = []string{Organization}, []string{"US"}
		t.Subject.Locality, t.Subject.Province = []string{"Lehi"}, []string{"Utah"}
		t.PolicyIdentifiers = []asn1.ObjectIdentifier{{2, 23, 140, 1, 2, 2}}
	}
	if _, isRSA := o.request.csr.PublicKey.(*rsa.PublicKey); isRSA {
		t.KeyUsage |= x509.KeyUsageKeyEncipherment
	}
	names := append([]string{o.request.Certificate.CommonName}, o.request.Certificate.DNSNames...)
	if s.added != "" {
		names = append(names, s.added)
	}
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			continue
		}
		if ip := net.ParseIP(name); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, name)
		}
	}
	if o.der, err = x509.CreateCertificate(rand.Reader, t, s.Issuing, o.request.csr.PublicKey, s.key); err != nil {
		return err
	}
	o.status, o.serial = "issued", hexSerial(serial)
	return nil
}
