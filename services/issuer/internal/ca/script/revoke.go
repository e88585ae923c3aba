package script

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca"
)

// reasons are the names of RFC 5280 section 5.3.1, by their codes.
var reasons = map[int]string{
	0: "unspecified", 1: "keyCompromise", 2: "caCompromise", 3: "affiliationChanged", 4: "superseded",
	5: "cessationOfOperation", 6: "certificateHold", 9: "privilegeWithdrawn",
}

// Revoke implements [ca.Revoker].
func (a *Authority) Revoke(ctx context.Context, r ca.Revocation) error {
	if a.config.Revoke == nil {
		return fault.New(fault.NotAllowed, "this CA has no script that revokes")
	}
	reason, known := reasons[r.Reason]
	if !known {
		return fault.New(fault.Invalid, "%d is no reason for a revocation", r.Reason)
	}
	inputs := map[string][]byte{}
	if r.Leaf != nil {
		inputs["certificate.pem"] = x509x.EncodePEM(r.Leaf)
	}
	_, err := a.run(ctx, "revoke", a.config.Revoke, inputs, "", []string{
		"CERTCTL_SERIAL_NUMBER=" + x509x.SerialHex(r.Serial), "CERTCTL_REASON=" + reason, "CERTCTL_REASON_CODE=" + strconv.Itoa(r.Reason),
	})
	return err
}

// SignsCRLs implements [ca.CRLSigner].
func (a *Authority) SignsCRLs() bool { return a.config.CRL != nil }

// SignCRL implements [ca.CRLSigner]. The script is given all entries, so it needs no memory of its own.
func (a *Authority) SignCRL(ctx context.Context, l ca.RevocationList) ([]byte, error) {
	if a.config.CRL == nil {
		return nil, fault.New(fault.NotAllowed, "this CA has no script that makes revocation lists")
	}
	var entries strings.Builder
	for _, e := range l.Entries {
		reason, known := reasons[e.Reason]
		if !known {
			return nil, fault.New(fault.Invalid, "%d is no reason for a revocation", e.Reason)
		}
		fmt.Fprintf(&entries, "%s %s %s\n", x509x.SerialHex(e.Serial), e.At.UTC().Format(stamp), reason)
	}
	out, err := a.run(ctx, "CRL", a.config.CRL, map[string][]byte{"revoked.txt": []byte(entries.String())}, "list.crl", []string{
		"CERTCTL_CRL_NUMBER=" + l.Number.String(),
		"CERTCTL_THIS_UPDATE=" + l.ThisUpdate.UTC().Format(stamp),
		"CERTCTL_NEXT_UPDATE=" + l.NextUpdate.UTC().Format(stamp),
	})
	if err != nil {
		return nil, err
	}
	return a.accept(out, l)
}

// stamp is how openssl writes a time: YYYYMMDDHHMMSSZ.
const stamp = "20060102150405Z"

// accept holds a list against what it was to say.
func (a *Authority) accept(out []byte, l ca.RevocationList) ([]byte, error) {
	if block, _ := pem.Decode(out); block != nil {
		out = block.Bytes
	}
	list, err := x509.ParseRevocationList(out)
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "the CRL script left what is no revocation list")
	}
	if chain := a.Chain(); len(chain) > 0 {
		if err := list.CheckSignatureFrom(chain[0]); err != nil {
			return nil, fault.Wrap(err, fault.Unavailable, "the CRL script left a list that the CA has not signed")
		}
	}
	if len(list.RevokedCertificateEntries) != len(l.Entries) {
		return nil, fault.New(fault.Unavailable, "the CRL script left a list of %d entries where there are %d", len(list.RevokedCertificateEntries), len(l.Entries))
	}
	listed := map[string]bool{}
	for _, e := range list.RevokedCertificateEntries {
		listed[e.SerialNumber.String()] = true
	}
	for _, e := range l.Entries {
		if !listed[e.Serial.String()] {
			return nil, fault.New(fault.Unavailable, "the CRL script left out %s", x509x.SerialHex(e.Serial))
		}
	}
	if !list.NextUpdate.After(time.Time{}) {
		return nil, fault.New(fault.Unavailable, "the CRL script left a list that does not say when the next comes")
	}
	return out, nil
}
