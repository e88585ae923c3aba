package digicert

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca"
)

// reasons are the CRLReasons that CertCentral takes for server certificates, by number (RFC 5280 section 5.3.1). Others
// are told as unspecified.
var reasons = map[int]string{1: "keyCompromise", 3: "affiliationChanged", 4: "superseded", 5: "cessationOfOperation"}

// Revoke implements [ca.Revoker]. A revocation that an administrator has to approve first is not done, and is Unavailable
// until it is.
func (a *Authority) Revoke(ctx context.Context, r ca.Revocation) error {
	reason, ok := reasons[r.Reason]
	if !ok {
		reason = "unspecified"
	}
	serial := strings.ToUpper(x509x.SerialHex(r.Serial))
	if len(serial)%2 == 1 {
		serial = "0" + serial
	}
	var request struct {
		ID     int64  `json:"id"`
		Status string `json:"status"`
	}
	err := a.api.call(ctx, http.MethodPut, "certificate/"+serial+"/revoke",
		map[string]any{"revocation_reason": reason, "comments": "revoked by certctl", "skip_approval": a.config.SkipApproval}, &request)
	if refused, ok := errors.AsType[*refusal](err); ok && refused.status >= 400 && refused.status < 500 && a.isRevoked(ctx, serial, refused) {
		return nil
	}
	if err != nil {
		return err
	}
	if request.ID != 0 && request.Status != "approved" {
		return fault.New(fault.Unavailable, "the revocation waits for an administrator to approve it in CertCentral (request %d)", request.ID)
	}
	return nil
}

// isRevoked reports whether a revocation was refused because there is nothing left to revoke.
func (a *Authority) isRevoked(ctx context.Context, serial string, refused *refusal) bool {
	said := strings.ToLower(refused.code + " " + refused.message)
	if strings.Contains(said, "already") && strings.Contains(said, "revoked") {
		return true
	}
	var i info
	err := a.api.call(ctx, http.MethodGet, "order/certificate/"+serial, nil, &i)
	return err == nil && (i.Status == "revoked" || i.Certificate.Status == "revoked")
}
