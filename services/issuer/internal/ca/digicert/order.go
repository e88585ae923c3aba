package digicert

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca"
)

// maxSubject is X.520's upper bound of a common name.
const maxSubject = 64

// order is what is kept of an order.
type order struct {
	// Mark is the order's alternative_order_id, by which it is found if its number was not heard.
	Mark string `json:"mark"`
	// ID is CertCentral's number of the order, zero while that has not been heard.
	ID int64 `json:"id,omitempty"`
	// At is when it was first tried to place it.
	At time.Time `json:"at"`
	// Token is what a domain is to show if its control has to be proven.
	Token string `json:"token,omitempty"`
}

func (o *order) keep(ctx context.Context, r ca.Request) error {
	text, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("encode an order: %w", err)
	}
	return r.Kept(ctx, text)
}

// body is a request as CertCentral takes it. Its error is Invalid for what no product of CertCentral's can hold, before
// anything is paid for.
func (a *Authority) body(r ca.Request) (map[string]any, error) {
	commonName, others := "", []string{}
	for _, n := range r.Names {
		if n.Kind != x509x.DNS && n.Kind != x509x.IP {
			return nil, fault.New(fault.Invalid, "%s: CertCentral issues for host names and addresses only", n.Value)
		}
		// A common name is required there, and is one of the names; one that is too long gives way to the first that is not.
		if len(n.Value) <= maxSubject && (commonName == "" || n.Value == r.CommonName) {
			commonName = n.Value
		}
	}
	if commonName == "" {
		return nil, fault.New(fault.Invalid, "CertCentral needs a common name of at most %d characters, and no name is that short", maxSubject)
	}
	for _, n := range r.Names {
		if n.Value != commonName {
			others = append(others, n.Value)
		}
	}
	certificate := map[string]any{
		"common_name": commonName, "dns_names": others, "csr": string(x509x.EncodeCSR(r.CSR.Raw)), "signature_hash": "sha256",
	}
	if a.config.CACertID != "" {
		certificate["ca_cert_id"] = a.config.CACertID
	}
	body := map[string]any{
		"certificate": certificate, "payment_method": a.config.PaymentMethod, "skip_approval": a.config.SkipApproval,
		"disable_renewal_notifications": true, "comments": "ordered by certctl",
	}
	validity, err := validity(r.Within(a.config.Lifetime).Lifetime)
	if err != nil {
		return nil, err
	}
	body["order_validity"] = validity
	if a.config.OrganizationID != 0 {
		body["organization"] = map[string]any{"id": a.config.OrganizationID}
	}
	if a.config.ContainerID != 0 {
		body["container"] = map[string]any{"id": a.config.ContainerID}
	}
	if a.config.DCVMethod != "" {
		body["dcv_method"] = a.config.DCVMethod
	}
	return body, nil
}

// validity is a lifetime in whole days, or the year that every product has.
func validity(lifetime time.Duration) (map[string]any, error) {
	const day = 24 * time.Hour
	switch {
	case lifetime == 0:
		return map[string]any{"years": 1}, nil
	case lifetime < day:
		return nil, fault.New(fault.Invalid, "CertCentral counts validity in days, and %s are less than one", lifetime)
	default:
		return map[string]any{"days": int(lifetime / day)}, nil
	}
}

// placed returns the order of a request: the one that was placed for it, or else a new one.
func (a *Authority) placed(ctx context.Context, r ca.Request, body map[string]any) (order, error) {
	var o order
	if r.Order != nil {
		if err := json.Unmarshal(r.Order, &o); err != nil {
			return o, fmt.Errorf("read the order that was kept: %w", err)
		}
	}
	if o.ID != 0 {
		return o, nil
	}
	if o.Mark != "" {
		// It was going to be placed. If it was, its number has been lost.
		if found, err := a.find(ctx, r, &o); found || err != nil {
			return o, err
		}
	} else {
		o = order{Mark: newMark(), At: a.clock.Now()}
		if err := o.keep(ctx, r); err != nil {
			return o, err
		}
	}
	return o, a.place(ctx, r, body, &o)
}

func newMark() string {
	mark := make([]byte, 16)
	_, _ = rand.Read(mark) // never fails
	return "certctl" + hex.EncodeToString(mark)
}

// find looks for the order that bears the mark, and has its number kept.
func (a *Authority) find(ctx context.Context, r ca.Request, o *order) (bool, error) {
	var list struct {
		Orders []struct {
			ID     int64  `json:"order_id"`
			Status string `json:"status"`
		} `json:"orders"`
	}
	err := a.api.call(ctx, http.MethodGet, "order/alternate/"+o.Mark, nil, &list)
	if answered(err, http.StatusNotFound) {
		return false, nil
	}
	if err != nil || len(list.Orders) == 0 {
		return false, err
	}
	o.ID = list.Orders[0].ID
	for _, found := range list.Orders {
		if !turnedDown(found.Status) {
			o.ID = found.ID
			break
		}
	}
	return true, o.keep(ctx, r)
}

// place places the order and has its number kept before anything else is done. If the answer was lost, the order may have
// been taken: it is looked for, now and, if that fails too, at the next attempt.
func (a *Authority) place(ctx context.Context, r ca.Request, body map[string]any, o *order) error {
	body["alternative_order_id"] = o.Mark
	var answer struct {
		ID    int64  `json:"id"`
		Token string `json:"dcv_random_value"`
	}
	err := a.api.call(ctx, http.MethodPost, "order/certificate/"+a.config.Product, body, &answer)
	switch {
	case fault.CodeOf(err) == fault.Invalid || answered(err, http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests):
		return err
	case err != nil:
		if found, lookErr := a.find(ctx, r, o); found {
			return lookErr
		}
		return err
	case answer.ID == 0:
		return fault.New(fault.Unavailable, "CertCentral at %s took an order and gave it no number", a.api.base.Host)
	}
	o.ID, o.Token = answer.ID, answer.Token
	return o.keep(ctx, r)
}

// info is what CertCentral says of an order.
type info struct {
	Status      string `json:"status"`
	Certificate struct {
		ID     int64  `json:"id"`
		Status string `json:"status"`
	} `json:"certificate"`
	Requests []struct {
		Status           string `json:"status"`
		ProcessorComment string `json:"processor_comment"`
	} `json:"requests"`
}

// goOn asks what has become of an order, and fetches its certificate if there is one.
func (a *Authority) goOn(ctx context.Context, r ca.Request, o order) (ca.Issued, error) {
	var i info
	id := strconv.FormatInt(o.ID, 10)
	err := a.api.call(ctx, http.MethodGet, "order/certificate/"+id, nil, &i)
	if fault.CodeOf(err) == fault.Invalid || answered(err, http.StatusNotFound) {
		// The order is paid for, and another would be paid for again.
		return ca.Issued{}, fault.Wrap(err, fault.Unavailable, "CertCentral at %s does not know order %s any more; is the API key of the same account?", a.api.base.Host, id)
	}
	if err != nil {
		return ca.Issued{}, err
	}
	issued, err := i.decided(&o, a.clock.Now())
	if !issued || err != nil {
		return ca.Issued{}, err
	}
	return a.fetch(ctx, r, &o, i.Certificate.ID)
}

// decided reports whether the certificate of an order is there. Else its error says what is waited for, or why there will
// be none.
func (i *info) decided(o *order, now time.Time) (bool, error) {
	waits := func(format string, args ...any) error {
		return &ca.Pending{Says: fmt.Sprintf("order %d of CertCentral ", o.ID) + fmt.Sprintf(format, args...), Again: again(now.Sub(o.At))}
	}
	switch {
	case i.Status == "issued":
		return true, nil
	case turnedDown(i.Status):
		return false, fault.New(fault.Invalid, "order %d of CertCentral was %s%s", o.ID, i.Status, i.because())
	case i.Status == "needs_approval":
		return false, waits("waits for an administrator to approve it there")
	case slices.Contains([]string{"pending", "processing", "waiting_pickup", "reissue_pending"}, i.Status):
		if o.Token != "" {
			return false, waits("is %s: its domains have to show the value %s", strings.ReplaceAll(i.Status, "_", " "), o.Token)
		}
		return false, waits("is %s: domains or organization are being validated", strings.ReplaceAll(i.Status, "_", " "))
	default:
		return false, waits("is in state %q", i.Status)
	}
}

// turnedDown reports whether nothing will come of an order in a state, or nothing is left of it.
func turnedDown(status string) bool {
	return slices.Contains([]string{"rejected", "canceled", "cancelled", "revoked", "expired"}, status)
}

// because is what whoever processed the order said about it.
func (i *info) because() string {
	for _, r := range i.Requests {
		if r.ProcessorComment != "" {
			return ": " + spoken([]string{r.ProcessorComment}, http.StatusOK)
		}
	}
	return ""
}

const (
	soonest = 5 * time.Second
	latest  = time.Hour
)

// again is when to ask about an order of some age: soon at first, and never less often than every hour.
func again(age time.Duration) time.Duration { return min(max(age/4, soonest), latest) }

// fetch fetches a certificate with its chain, and holds it against what was asked for.
func (a *Authority) fetch(ctx context.Context, r ca.Request, o *order, certificateID int64) (ca.Issued, error) {
	var chain []byte
	path := "certificate/" + strconv.FormatInt(certificateID, 10) + "/download/format/pem_all"
	if err := a.api.call(ctx, http.MethodGet, path, nil, &chain); err != nil {
		if fault.CodeOf(err) == fault.Invalid {
			return ca.Issued{}, fault.Wrap(err, fault.Unavailable, "the certificate was issued and cannot be fetched: %s", fault.From(err).Message)
		}
		return ca.Issued{}, err
	}
	certs, err := x509x.ParseCertificates(chain)
	if err == nil {
		if err := asOrdered(r, o, certs[0]); err != nil {
			return ca.Issued{}, err
		}
	}
	issued, err := ca.Accept(r, chain, a.config.Roots, a.clock.Now())
	if err != nil {
		return ca.Issued{}, err
	}
	if len(certs) > 1 {
		above := certs[1:]
		a.shown.Store(&above)
	}
	return issued, nil
}

// asOrdered refuses for good a certificate that is not the one that was ordered: whoever asks again is given the same one.
func asOrdered(r ca.Request, o *order, leaf *x509.Certificate) error {
	const advice = "; revoke it there"
	if got := x509x.CertificateNames(leaf); !got.Equal(r.Names) {
		return fault.New(fault.Invalid, "order %d of CertCentral was issued for %v, and %v was ordered"+advice+", and have the product add no names by itself",
			o.ID, got.Values(), r.Names.Values())
	}
	if !x509x.SameKey(leaf.PublicKey, r.CSR.PublicKey) {
		return fault.New(fault.Invalid, "order %d of CertCentral was issued for another key"+advice, o.ID)
	}
	return nil
}
