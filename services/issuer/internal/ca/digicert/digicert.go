// Package digicert issues certificates by DigiCert's CertCentral (Services API v2).
//
// Each certificate is an order of its own, of a product that the account has. An order may be decided at once or after
// days, while an administrator, a domain or an organisation is waited for; Issue then answers with a *ca.Pending, and goes
// on with the same order when it is asked again. An order is paid for, so none is placed twice: before one is placed, the
// mark that it will bear (alternative_order_id) is kept, and whoever does not know whether an order was taken looks for
// that mark first. The mark is random and not made from the request, because the request of a key that is certified again
// is the same, and would find the order of the certificate that is to be replaced.
//
// A renewal is a new order, and no reissue of the old one: the certificate that is replaced has to stay good until the new
// one is installed. How a certificate looks beyond its names and key is the product's, and so is the longest validity.
package digicert

import (
	"context"
	"crypto/x509"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/ca"
)

// DefaultBaseURL is the API of accounts that are not European ones.
const DefaultBaseURL = "https://www.digicert.com/services/v2"

// Config says which account orders what.
type Config struct {
	// BaseURL is the API's, of TLS or on this machine.
	BaseURL string
	// APIKey is whose orders these are.
	APIKey string
	// Product is the name_id of what is ordered, such as ssl_basic.
	Product string
	// OrganizationID is whom certificates are for; zero for a product that validates domains only.
	OrganizationID int
	// ContainerID is the division that pays; zero is the key's own.
	ContainerID int
	// CACertID chooses the issuing CA of a product that has several; empty is its default.
	CACertID string
	// DCVMethod is how the control of domains is proven that have not been validated yet; empty is the account's default.
	DCVMethod string
	// PaymentMethod is how orders are paid.
	PaymentMethod string
	// SkipApproval spares orders and revocations the approval by an administrator, if the key may do that.
	SkipApproval bool
	// Lifetime is the most that is asked for; zero leaves it to the request, and then to the product.
	Lifetime time.Duration
	// Roots are where chains must lead to; nil checks only each step of them.
	Roots []*x509.Certificate
	// Chain is the chain that an earlier answer has shown, nil if there was none.
	Chain []*x509.Certificate
}

// Authority is an account of CertCentral. It is safe for concurrent use.
type Authority struct {
	api    *api
	config Config
	clock  clock.Clock
	shown  atomic.Pointer[[]*x509.Certificate] // the chain that an answer has shown
}

// Open proves that the key is accepted, and that product and organisation are there to be ordered for. It orders nothing.
// Its error says in words for an operator what is wrong: Invalid if the configuration is, Unavailable if CertCentral is
// away.
func Open(ctx context.Context, cfg Config, c clock.Clock) (*Authority, error) {
	base, err := url.Parse(strings.TrimSuffix(cfg.BaseURL, "/"))
	if err != nil || !acceptable(base) {
		return nil, fault.InvalidFields(fault.Field{Name: SettingBaseURL, Reason: notABase})
	}
	a := &Authority{api: newAPI(base, cfg.APIKey), config: cfg, clock: c}
	if cfg.Chain != nil {
		a.shown.Store(&cfg.Chain)
	}
	for _, look := range []func(context.Context) error{a.lookUpKey, a.lookUpProduct, a.lookUpOrganization} {
		if err := look(ctx); err != nil {
			a.api.client.CloseIdleConnections()
			return nil, err
		}
	}
	return a, nil
}

// lookUpKey asks who the key is. A key may be restricted to orders, and then may not know that; such a one is asked
// whether it may see orders.
func (a *Authority) lookUpKey(ctx context.Context) error {
	err := a.api.call(ctx, http.MethodGet, "user/me", nil, nil)
	if answered(err, http.StatusForbidden, http.StatusNotFound) {
		err = a.api.call(ctx, http.MethodGet, "order/certificate?limit=1", nil, nil)
	}
	if answered(err, http.StatusUnauthorized, http.StatusForbidden) {
		return fault.Wrap(err, fault.Invalid, "%s: is not accepted by CertCentral at %s, or may not see orders", SettingAPIKey, a.api.base.Host)
	}
	return err
}

// lookUpProduct asks for the product. What a restricted key may not see shows when it is ordered.
func (a *Authority) lookUpProduct(ctx context.Context) error {
	err := a.api.call(ctx, http.MethodGet, "product/"+url.PathEscape(a.config.Product), nil, nil)
	switch {
	case answered(err, http.StatusForbidden):
		return nil
	case answered(err, http.StatusNotFound, http.StatusBadRequest):
		return fault.Wrap(err, fault.Invalid, "%s: the account has no product %s; CertCentral lists them at /product", SettingProduct, a.config.Product)
	default:
		return err
	}
}

func (a *Authority) lookUpOrganization(ctx context.Context) error {
	if a.config.OrganizationID == 0 {
		return nil
	}
	var o struct {
		Status string `json:"status"`
		Active *bool  `json:"is_active"`
	}
	err := a.api.call(ctx, http.MethodGet, "organization/"+strconv.Itoa(a.config.OrganizationID), nil, &o)
	switch {
	case answered(err, http.StatusForbidden):
		return nil
	case answered(err, http.StatusNotFound, http.StatusBadRequest):
		return fault.Wrap(err, fault.Invalid, "%s: the account has no organization %d", SettingOrganization, a.config.OrganizationID)
	case err == nil && (o.Active != nil && !*o.Active || o.Status == "inactive"):
		return fault.New(fault.Invalid, "%s: organization %d is not active; activate it in CertCentral", SettingOrganization, a.config.OrganizationID)
	default:
		return err
	}
}

// Chain implements [ca.Issuer]. It is what the newest answer has shown; CertCentral may issue by several CAs.
func (a *Authority) Chain() []*x509.Certificate {
	if shown := a.shown.Load(); shown != nil {
		return *shown
	}
	return nil
}

// Issue implements [ca.Issuer]. An order that was rejected or cancelled is Invalid.
func (a *Authority) Issue(ctx context.Context, r ca.Request) (ca.Issued, error) {
	body, err := a.body(r)
	if err != nil {
		return ca.Issued{}, err
	}
	o, err := a.placed(ctx, r, body)
	if err != nil {
		return ca.Issued{}, err
	}
	return a.goOn(ctx, r, o)
}
