package work

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"net"
	"net/url"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/agent/internal/keystore"
	"github.com/certctl/certctl/services/agent/internal/order"
)

// keyRequest makes a key, or takes the one that it is asked to use again, and makes a request
// for its certificate. Only the request is told.
func (w *Worker) keyRequest(o order.Order) command.AgentReport {
	var body command.KeyRequest
	if err := json.Unmarshal(o.Body, &body); err != nil {
		return w.failure(o, fmt.Errorf("the order cannot be read: %w", err), true)
	}
	names, err := x509x.ParseNames(body.CommonName, body.SANs)
	if err == nil && len(names) == 0 {
		err = fault.New(fault.Invalid, "the order names nothing to certify")
	}
	if err != nil {
		return w.failure(o, err, true)
	}
	key, err := w.key(o, body)
	if err != nil {
		return w.failure(o, err, fault.CodeOf(err) == fault.Invalid)
	}
	csr, err := request(body, names, key)
	if err != nil {
		return w.failure(o, err, true)
	}
	r := o.Report(command.OutcomeCSR, w.Clock.Now())
	r.CSRPEM = string(csr)
	return r
}

// key is the key that an order is about. One that is to be used again and is not there, or
// cannot be read, is no reason for having none.
func (w *Worker) key(o order.Order, body command.KeyRequest) (keystore.Key, error) {
	if body.ReuseSPKISHA256 != "" {
		key, err := w.Keys.FindHash(body.CertificateID, body.ReuseSPKISHA256)
		if err == nil {
			return key, nil
		}
		w.log(o).Warn("the key that was to be used again is not at hand; making a new one", "error", err)
	}
	return w.Keys.Make(body.CertificateID, o.JobID, o.Attempt, keystore.Spec{Algorithm: body.KeyAlgorithm, Bits: body.KeySize})
}

// request builds the certificate request. Every name stands in the part of the
// alternative names that is for its kind, the common name among them: clients look at
// nothing else.
func request(body command.KeyRequest, names x509x.Names, key keystore.Key) ([]byte, error) {
	template := x509.CertificateRequest{
		DNSNames:       names.Values(x509x.DNS),
		EmailAddresses: names.Values(x509x.Email),
	}
	// RFC 5280 bounds a common name; a longer one stands among the alternative names.
	if len(body.CommonName) <= 64 {
		template.Subject = pkix.Name{CommonName: body.CommonName}
	}
	for _, ip := range names.Values(x509x.IP) {
		template.IPAddresses = append(template.IPAddresses, net.ParseIP(ip))
	}
	for _, text := range names.Values(x509x.URI) {
		uri, err := url.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("the name %q: %w", text, err)
		}
		template.URIs = append(template.URIs, uri)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &template, key.Signer)
	if err != nil {
		return nil, fmt.Errorf("make the certificate request: %w", err)
	}
	return x509x.EncodeCSR(der), nil
}
