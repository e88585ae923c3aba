package digicert_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/ca"
	"github.com/certctl/certctl/services/issuer/internal/ca/catest"
	"github.com/certctl/certctl/services/issuer/internal/ca/digicert"
	"github.com/certctl/certctl/services/issuer/internal/ca/digicert/digicertfake"
	"github.com/certctl/certctl/services/issuer/internal/registry"
)

func start(t *testing.T) *digicertfake.Server {
	t.Helper()
	s, err := digicertfake.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func config(s *digicertfake.Server) map[string]any {
	return map[string]any{"base_url": s.BaseURL(), "api_key": digicertfake.APIKey, "organization_id": float64(digicertfake.OrganizationID)}
}

func try(t *testing.T, c map[string]any) (ca.Issuer, error) {
	t.Helper()
	k := &digicert.Kind{Clock: clock.System}
	a, _, err := k.Open(t.Context(), registry.Issuer{ID: "iss-digicert", Type: registry.TypeDigiCert, Config: c})
	return a, err
}

func open(t *testing.T, c map[string]any) ca.Issuer {
	t.Helper()
	a, err := try(t, c)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func request(t *testing.T, names ...string) ca.Request {
	t.Helper()
	return catest.NewRequest(t, catest.NewKey(t, "ECDSA P-256"), names...)
}

// kept is a request with a place where its order is kept.
func kept(r ca.Request, order *[]byte) ca.Request {
	r.Order = *order
	r.Keep = func(_ context.Context, o []byte) error {
		*order = append([]byte{}, o...)
		return nil
	}
	return r
}

func pending(t *testing.T, a ca.Issuer, r ca.Request) *ca.Pending {
	t.Helper()
	_, err := a.Issue(t.Context(), r)
	p, ok := errors.AsType[*ca.Pending](err)
	if !ok {
		t.Fatalf("got %v", err)
	}
	return p
}

func TestDigiCert_ConformsAgainstAFake(t *testing.T) {
	s := start(t)
	a := open(t, config(s))
	// CertCentral shows its chain only in what it issues.
	if _, err := catest.Await(t, a, request(t, "www.example.com")); err != nil {
		t.Fatal(err)
	}
	catest.ConformsWithin(t, "DigiCert", "a fake that speaks its protocol", a, catest.Bounds{
		Names: []string{"www.example.com", "*.example.com", "example.com"}, Keys: []string{"ECDSA P-256", "ECDSA P-384", "RSA 2048"},
		OwnTemplate: true, Orders: s.Orders,
	})
}

// A broken connection says nothing about whether the order was taken, and it is paid for.
func TestDigiCert_PlacesNoSecondOrderWhenTheAnswerToTheFirstIsLost(t *testing.T) {
	s := start(t)
	a := open(t, config(s))
	for name, tt := range map[string]struct {
		lookups int // how many look-ups after it fail as well
		first   bool
	}{
		"and the look-up after it succeeds": {0, true},
		"and the look-up after it fails":    {1, false},
	} {
		t.Run(name, func(t *testing.T) {
			before := s.Orders()
			s.Drop(1)
			failing := tt.lookups
			s.Meddle(func(w http.ResponseWriter, r *http.Request) bool {
				if failing > 0 && strings.Contains(r.URL.Path, "/order/alternate/") {
					failing--
					digicertfake.Refuse(w, http.StatusServiceUnavailable, "maintenance", "Down for maintenance")
					return true
				}
				return false
			})
			var order []byte
			r := request(t, "www.example.com")
			_, err := a.Issue(t.Context(), kept(r, &order))
			if _, ok := errors.AsType[*ca.Pending](err); ok != tt.first || !tt.first && fault.CodeOf(err) != fault.Unavailable {
				t.Fatalf("at first: %v", err)
			}
			for range 3 {
				if _, err = a.Issue(t.Context(), kept(r, &order)); err == nil {
					break
				}
			}
			if placed := s.Orders() - before; err != nil || placed != 1 {
				t.Errorf("%d orders, %v", placed, err)
			}
		})
	}
}

// An order that can be found only later may have been placed twice. What goes on is the one that is still alive.
func TestDigiCert_GoesOnWithTheOrderThatIsAliveIfTwoBearItsMark(t *testing.T) {
	s := start(t)
	a := open(t, config(s))
	s.Drop(2)
	blind := 2
	s.Meddle(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/order/alternate/") || blind == 0 {
			return false
		}
		blind--
		_, _ = w.Write([]byte(`{"orders":[],"page":{"total":0}}`))
		return true
	})
	var order []byte
	r := request(t, "www.example.com")
	if _, err := a.Issue(t.Context(), kept(r, &order)); fault.CodeOf(err) != fault.Unavailable {
		t.Fatalf("at first: %v", err)
	}
	s.Decide("canceled", "")
	pending(t, a, kept(r, &order))
	if _, err := a.Issue(t.Context(), kept(r, &order)); err != nil || s.Orders() != 2 {
		t.Errorf("%d orders, %v", s.Orders(), err)
	}
}

// The request of a key that is certified again may be the same one, and is a matter of its own.
func TestDigiCert_OrdersAnewForTheSameRequestOfAnotherJob(t *testing.T) {
	s := start(t)
	s.DecideAfter(1)
	a := open(t, config(s))
	r := request(t, "www.example.com")
	serials := map[string]bool{}
	for range 2 {
		var order []byte
		issued, err := a.Issue(t.Context(), kept(r, &order))
		if err != nil {
			t.Fatal(err)
		}
		serials[issued.Serial.String()] = true
	}
	if len(serials) != 2 || s.Orders() != 2 {
		t.Errorf("%d certificates of %d orders", len(serials), s.Orders())
	}
}

func TestDigiCert_WaitsForApprovalAndSaysSo(t *testing.T) {
	s := start(t)
	s.NeedApproval()
	a := open(t, config(s))
	var order []byte
	r := request(t, "www.example.com")
	for range 3 {
		if p := pending(t, a, kept(r, &order)); !strings.Contains(p.Says, "administrator") {
			t.Errorf("waits for %q", p.Says)
		}
	}
	s.Approve()
	if p := pending(t, a, kept(r, &order)); !strings.Contains(p.Says, "validated") {
		t.Errorf("waits for %q", p.Says)
	}
	if _, err := a.Issue(t.Context(), kept(r, &order)); err != nil || s.Orders() != 1 {
		t.Errorf("%d orders, %v", s.Orders(), err)
	}
}

func TestDigiCert_TellsWhatADomainHasToShow(t *testing.T) {
	s := start(t)
	c := config(s)
	delete(c, "organization_id")
	c["product"], c["dcv_method"] = digicertfake.ProductDV, "dns-txt-token"
	a := open(t, c)
	var order []byte
	if p := pending(t, a, kept(request(t, "www.example.com"), &order)); !strings.Contains(p.Says, "_fakecertctl") {
		t.Errorf("waits for %q", p.Says)
	}
}

func TestDigiCert_GivesUpAnOrderThatWasTurnedDownWithTheReason(t *testing.T) {
	for _, status := range []string{"rejected", "canceled"} {
		s := start(t)
		a := open(t, config(s))
		var order []byte
		r := request(t, "www.example.com")
		pending(t, a, kept(r, &order))
		s.Decide(status, "no such organization")
		for range 2 {
			_, err := a.Issue(t.Context(), kept(r, &order))
			if fault.CodeOf(err) != fault.Invalid || !strings.Contains(err.Error(), status) || !strings.Contains(err.Error(), "no such organization") {
				t.Errorf("%s: %v", status, err)
			}
		}
		if s.Orders() != 1 {
			t.Errorf("%s: %d orders", status, s.Orders())
		}
	}
}

// at is a clock that stands still.
type at time.Time

func (a at) Now() time.Time { return time.Time(a) }

func TestDigiCert_AsksLessOftenTheOlderAnOrderIs(t *testing.T) {
	s := start(t)
	s.DecideAfter(1000)
	var order []byte
	r := request(t, "www.example.com")
	for _, tt := range []struct{ age, again time.Duration }{
		{0, 5 * time.Second},
		{10 * time.Second, 5 * time.Second},
		{time.Minute, 15 * time.Second},
		{time.Hour, 15 * time.Minute},
		{72 * time.Hour, time.Hour},
	} {
		k := &digicert.Kind{Clock: at(time.Now().Add(tt.age))}
		if tt.age == 0 {
			k.Clock = at(time.Now())
		}
		a, _, err := k.Open(t.Context(), registry.Issuer{Type: registry.TypeDigiCert, Config: config(s)})
		if err != nil {
			t.Fatal(err)
		}
		if p := pending(t, a, kept(r, &order)); p.Again.Round(time.Second) != tt.again {
			t.Errorf("after %s again in %s, want %s", tt.age, p.Again, tt.again)
		}
	}
}

func TestDigiCert_AsksForWholeDaysWithinWhatIsAskedForAndConfigured(t *testing.T) {
	s := start(t)
	s.DecideAfter(1)
	c := config(s)
	c["validity_days"] = 30.0
	a := open(t, c)
	for name, tt := range map[string]struct{ asked, want time.Duration }{
		"nothing is asked for": {0, 30 * 24 * time.Hour},
		"less":                 {47 * time.Hour, 24 * time.Hour},
		"more":                 {1000 * time.Hour, 30 * 24 * time.Hour},
	} {
		r := request(t, "www.example.com")
		r.Lifetime = tt.asked
		issued, err := a.Issue(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if life := issued.NotAfter.Sub(issued.NotBefore) + time.Second; life != tt.want {
			t.Errorf("%s: valid for %s", name, life)
		}
	}
	r := request(t, "www.example.com")
	r.Lifetime = time.Hour
	if _, err := a.Issue(t.Context(), r); fault.CodeOf(err) != fault.Invalid || s.Orders() != 3 {
		t.Errorf("for an hour: %v, %d orders", err, s.Orders())
	}
}

func TestDigiCert_TellsOperatorsWhatIsWrong(t *testing.T) {
	with := func(setting string, v any) func(*digicertfake.Server, map[string]any) {
		return func(_ *digicertfake.Server, c map[string]any) { c[setting] = v }
	}
	for says, change := range map[string]func(*digicertfake.Server, map[string]any){
		"api_key: is not accepted":        with("api_key", "wrong"),
		"the account has no product":      with("product", "ssl_plus"),
		"the account has no organization": with("organization_id", 5.0),
		"is not active":                   func(s *digicertfake.Server, _ map[string]any) { s.Deactivate() },
		"asks to slow down":               func(s *digicertfake.Server, _ map[string]any) { s.Limit(1, "") },
		"cannot be reached":               func(s *digicertfake.Server, _ map[string]any) { s.Close() },
	} {
		s := start(t)
		c := config(s)
		change(s, c)
		if _, err := try(t, c); err == nil || !strings.Contains(fault.From(err).Message, says) || strings.Contains(err.Error(), "wrong") {
			t.Errorf("want %q, got %v", says, err)
		}
	}
}

// A key that is restricted to orders may not look at what is not one.
func TestDigiCert_DoesWithAKeyThatMayOnlyOrder(t *testing.T) {
	s := start(t)
	s.DecideAfter(1)
	s.Meddle(func(w http.ResponseWriter, r *http.Request) bool {
		if p := r.URL.Path; strings.Contains(p, "/order/") || strings.Contains(p, "/certificate/") {
			return false
		}
		digicertfake.Refuse(w, http.StatusForbidden, "access_denied", "You do not have permission.")
		return true
	})
	if _, err := open(t, config(s)).Issue(t.Context(), request(t, "www.example.com")); err != nil {
		t.Error(err)
	}
}

func TestDigiCert_TellsWhatMayPassFromWhatWillNot(t *testing.T) {
	refuse := func(status int, code, message string) digicertfake.Meddler {
		return func(w http.ResponseWriter, _ *http.Request) bool {
			digicertfake.Refuse(w, status, code, message)
			return true
		}
	}
	for name, tt := range map[string]struct {
		meddle digicertfake.Meddler
		code   fault.Code
		says   string
		after  time.Duration
	}{
		"a refusal":         {refuse(400, "invalid_csr", "The CSR is not valid."), fault.Invalid, "refuses: The CSR is not valid.", 0},
		"a key taken away":  {refuse(401, "invalid_auth", "Invalid key"), fault.Unavailable, "does not accept the API key", 0},
		"a right taken":     {refuse(403, "access_denied", "No permission"), fault.Unavailable, "may not do this", 0},
		"one call too many": {refuse(429, "request_limit_exceeded", ""), fault.RateLimited, "slow down", time.Minute},
		"a fault":           {refuse(500, "internal", ""), fault.Unavailable, "HTTP 500: internal server error", 0},
		"a page": {func(w http.ResponseWriter, _ *http.Request) bool {
			_, _ = w.Write([]byte("<html>maintenance</html>"))
			return true
		}, fault.Unavailable, "not understood", 0},
		"a time to wait": {func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Retry-After", "7")
			digicertfake.Refuse(w, http.StatusServiceUnavailable, "maintenance", "")
			return true
		}, fault.Unavailable, "HTTP 503", 7 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			s.DecideAfter(1)
			a := open(t, config(s))
			s.Meddle(tt.meddle)
			var order []byte
			r := request(t, "www.example.com")
			_, err := a.Issue(t.Context(), kept(r, &order))
			if fault.CodeOf(err) != tt.code || !strings.Contains(err.Error(), tt.says) || fault.From(err).RetryAfter != tt.after {
				t.Errorf("got %v after %s", err, fault.From(err).RetryAfter)
			}
			if strings.Contains(err.Error(), digicertfake.APIKey) {
				t.Error("the key is in the error")
			}
			s.Meddle(nil)
			if _, err := a.Issue(t.Context(), kept(r, &order)); err != nil || s.Orders() != 1 {
				t.Errorf("afterwards: %d orders, %v", s.Orders(), err)
			}
		})
	}
}

func TestDigiCert_SpendsNothingOnWhatCannotBeIssued(t *testing.T) {
	s := start(t)
	a := open(t, config(s))
	for name, r := range map[string]ca.Request{
		"a URI":           request(t, "www.example.com", "spiffe://example.com/web"),
		"a name too long": request(t, strings.Repeat("long.", 12)+"example.com"),
	} {
		if _, err := a.Issue(t.Context(), r); fault.CodeOf(err) != fault.Invalid || s.Orders() != 0 {
			t.Errorf("%s: %v, %d orders", name, err, s.Orders())
		}
	}
}

func TestDigiCert_RevokesWithTheReasonOnceOnly(t *testing.T) {
	s := start(t)
	s.DecideAfter(1)
	a := open(t, config(s))
	issued, err := a.Issue(t.Context(), request(t, "www.example.com"))
	if err != nil {
		t.Fatal(err)
	}
	revoker := a.(ca.Revoker)
	for range 2 {
		if err := revoker.Revoke(t.Context(), ca.Revocation{Serial: issued.Serial, Leaf: issued.DER, Reason: 1}); err != nil {
			t.Fatal(err)
		}
	}
	if done := s.Revocations(); len(done) != 1 || done[0].Reason != "keyCompromise" {
		t.Errorf("revoked %+v", done)
	}
	stranger := ca.Revocation{Serial: issued.Serial.SetBit(issued.Serial, 0, issued.Serial.Bit(0)^1), Reason: 1}
	if err := revoker.Revoke(t.Context(), stranger); fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("what it has not issued: %v", err)
	}
}

func TestDigiCert_ARevocationThatWaitsForApprovalIsNotDone(t *testing.T) {
	s := start(t)
	s.DecideAfter(1)
	a := open(t, config(s))
	issued, err := a.Issue(t.Context(), request(t, "www.example.com"))
	if err != nil {
		t.Fatal(err)
	}
	c := config(s)
	c["skip_approval"] = false
	err = open(t, c).(ca.Revoker).Revoke(t.Context(), ca.Revocation{Serial: issued.Serial, Reason: 4})
	if fault.CodeOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "approve it in CertCentral") {
		t.Errorf("got %v", err)
	}
}

// The certificate stays as it is however often it is fetched, and nobody is to wait for another.
func TestDigiCert_GivesUpACertificateThatIsNotAsItWasOrdered(t *testing.T) {
	s := start(t)
	s.DecideAfter(1)
	s.AddName("www.example.com")
	_, err := open(t, config(s)).Issue(t.Context(), request(t, "example.com"))
	if fault.CodeOf(err) != fault.Invalid || !strings.Contains(err.Error(), "add no names by itself") {
		t.Errorf("got %v", err)
	}
}

func TestDigiCert_BelievesNoChainThatLeadsElsewhere(t *testing.T) {
	s, other := start(t), start(t)
	s.DecideAfter(1)
	c := config(s)
	c["ca_cert_pem"] = pem(other)
	if _, err := open(t, c).Issue(t.Context(), request(t, "www.example.com")); fault.CodeOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "does not lead") {
		t.Errorf("got %v", err)
	}
	c["ca_cert_pem"] = pem(s)
	if _, err := open(t, c).Issue(t.Context(), request(t, "www.example.com")); err != nil {
		t.Error(err)
	}
}
