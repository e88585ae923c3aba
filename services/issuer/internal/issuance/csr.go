package issuance

import (
	"crypto/x509"
	"encoding/pem"
	"strings"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/x509x"
)

// checkRequest parses a signing request and compares it with the record: it must be signed by its own key, which must
// be strong enough, and its names must be exactly those of the record. Whatever else the request asks for (extensions,
// other parts of a subject) has no effect on what is issued. The error is Invalid.
func checkRequest(text, commonName string, sans []string) (*x509.CertificateRequest, x509x.Names, error) {
	csr, err := x509x.ParseCSR([]byte(text))
	if err != nil {
		return nil, nil, err
	}
	want, err := x509x.ParseNames(commonName, sans)
	if err != nil {
		return nil, nil, err
	}
	got := x509x.RequestNames(csr)
	if got.Equal(want) {
		return csr, want, nil
	}
	var parts []string
	if missing := want.Minus(got).Values(); len(missing) > 0 {
		parts = append(parts, "lacks "+strings.Join(missing, ", "))
	}
	if extra := got.Minus(want).Values(); len(extra) > 0 {
		parts = append(parts, "asks for "+strings.Join(extra, ", ")+" besides")
	}
	return nil, nil, fault.New(fault.Invalid, "the certificate request does not fit the record: it %s", strings.Join(parts, " and "))
}

// canonical is a request that has passed checkRequest without whatever stands around its block.
func canonical(text string) string {
	block, _ := pem.Decode([]byte(text))
	return string(x509x.EncodeCSR(block.Bytes))
}
