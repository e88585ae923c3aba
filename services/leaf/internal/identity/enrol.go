package identity

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/nats-io/jwt/v2"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/natsauth"
)

const (
	enrolTimeout  = 15 * time.Second
	maxEnrolReply = 256 << 10
)

// Gateway is where a leaf exchanges its one-time token for an identity.
type Gateway struct {
	// URL of the gateway; plain HTTP only on the loopback interface.
	URL    *url.URL
	Client *http.Client
}

type enrolRequest struct {
	Token     string `json:"token"`
	PublicKey string `json:"public_key"`
}

type enrolReply struct {
	SiteID      string   `json:"site_id"`
	UserJWT     string   `json:"user_jwt"`
	RelayJWT    string   `json:"relay_jwt"`
	OperatorJWT string   `json:"operator_jwt"`
	AccountJWT  string   `json:"account_jwt"`
	AccountKey  string   `json:"account_key"`
	HubURLs     []string `json:"hub_urls"`
}

// Enrol exchanges a one-time token for an identity and stores it. An error with a code
// that VerdictOf calls permanent will not go away by trying again.
func (g Gateway) Enrol(ctx context.Context, s *Store, token string) error {
	if g.URL.Scheme != "https" && !loopback(g.URL.Hostname()) {
		return fault.New(fault.Precondition, "a token is not sent to %s: it is neither HTTPS nor on this host", g.URL.Host)
	}
	public, err := s.Current().PublicKey()
	if err != nil {
		return fmt.Errorf("enrol: %w", err)
	}
	reply, err := g.ask(ctx, s.Current().SiteID, enrolRequest{Token: token, PublicKey: public})
	if err != nil {
		return fmt.Errorf("enrol: %w", err)
	}
	if err := reply.check(s.Current().SiteID, public); err != nil {
		return fault.Wrap(err, fault.Precondition, "the gateway's answer to the enrolment is no identity: %v", err)
	}
	return s.Update(func(i *Identity) error {
		i.LeafJWT, i.RelayJWT, i.OperatorJWT = reply.UserJWT, reply.RelayJWT, reply.OperatorJWT
		i.AccountJWT, i.AccountKey, i.HubURLs = reply.AccountJWT, reply.AccountKey, reply.HubURLs
		return nil
	})
}

func (g Gateway) ask(ctx context.Context, siteID string, body enrolRequest) (enrolReply, error) {
	ctx, cancel := context.WithTimeout(ctx, enrolTimeout)
	defer cancel()
	data, err := json.Marshal(body)
	if err != nil {
		return enrolReply{}, err
	}
	where := g.URL.JoinPath("api/v1/sites", siteID, "enrol").String()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, where, bytes.NewReader(data))
	if err != nil {
		return enrolReply{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := g.Client.Do(req)
	if err != nil {
		return enrolReply{}, fault.Wrap(err, fault.Unavailable, "the gateway cannot be reached")
	}
	defer resp.Body.Close()
	data, err = io.ReadAll(io.LimitReader(resp.Body, maxEnrolReply))
	if err != nil {
		return enrolReply{}, fault.Wrap(err, fault.Unavailable, "the gateway's answer broke off")
	}
	if resp.StatusCode != http.StatusOK {
		return enrolReply{}, refusal(resp.StatusCode, data)
	}
	var reply enrolReply
	if err := json.Unmarshal(data, &reply); err != nil {
		return enrolReply{}, fault.Wrap(err, fault.Unavailable, "the gateway's answer is not JSON")
	}
	return reply, nil
}

func refusal(status int, body []byte) error {
	var problem struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(body, &problem) != nil || problem.Message == "" {
		problem.Message = http.StatusText(status)
	}
	code := fault.Precondition
	if status >= 500 || status == http.StatusTooManyRequests {
		code = fault.Unavailable
	}
	return fault.New(code, "the gateway refuses: %s (%d)", problem.Message, status)
}

// check takes nothing on trust that can be checked: the JWTs must be for this leaf's
// key and site, and the account signed by the operator.
func (r enrolReply) check(siteID, public string) error {
	if r.SiteID != siteID {
		return fmt.Errorf("it is for site %q", r.SiteID)
	}
	account, err := natsauth.Newer(r.OperatorJWT, "", r.AccountJWT)
	if err != nil {
		return err
	}
	if account.Subject != r.AccountKey {
		return errors.New("its account JWT is for another account")
	}
	for _, token := range []string{r.UserJWT, r.RelayJWT} {
		if _, err := CheckUser(token, public, r.AccountKey); err != nil {
			return err
		}
	}
	if len(r.HubURLs) == 0 {
		return errors.New("it names no hub")
	}
	return nil
}

// ReadUser reads a user JWT without asking whether it is still valid.
func ReadUser(token string) (*jwt.UserClaims, error) {
	claims, err := jwt.DecodeUserClaims(token)
	if err != nil {
		return nil, fmt.Errorf("user JWT: %w", err)
	}
	return claims, nil
}

// CheckUser reads a user JWT that must be valid now, for this key, in this account.
func CheckUser(token, public, account string) (*jwt.UserClaims, error) {
	claims, err := ReadUser(token)
	if err != nil {
		return nil, err
	}
	results := jwt.CreateValidationResults()
	claims.Validate(results)
	switch {
	case results.IsBlocking(true):
		return nil, fmt.Errorf("user JWT: %w", errors.Join(results.Errors()...))
	case claims.Subject != public:
		return nil, errors.New("user JWT is for another key")
	case claims.IssuerAccount != account:
		return nil, errors.New("user JWT is for another account")
	}
	return claims, nil
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
