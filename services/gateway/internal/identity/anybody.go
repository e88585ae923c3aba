package identity

import (
	"net"
	"net/http"
	"strings"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/gateway/internal/permission"
)

// Warning is what every answer says while nobody is asked who he is.
const Warning = "authentication is off: whoever reaches this address is an admin"

// Anybody takes everybody for an admin, but those who show a good credential, who are
// themselves. It is for trying things out on one's own machine.
//
// A browser on that machine runs what other sites tell it, so requests that another site
// has caused are refused: those that say so, and those that come by a name which is not
// the machine's own (DNS rebinding).
type Anybody struct{ Chain Chain }

// Recognise returns who sends a request.
func (a Anybody) Recognise(r *http.Request) (authn.Principal, error) {
	if err := own(r); err != nil {
		return authn.Principal{}, err
	}
	p, err := a.Chain.Recognise(r)
	if fault.CodeOf(err) == fault.Unauthenticated {
		return authn.Principal{ID: "anonymous-admin", Name: "anonymous-admin", Kind: authn.KindUser, Roles: []string{permission.Admin}}, nil
	}
	return p, err
}

func own(r *http.Request) error {
	if !Loopback(hostOf(r.Host)) {
		return fault.New(fault.Forbidden, "without authentication only this machine's own names are answered, such as localhost, and not %q", r.Host)
	}
	// Reads pass, as browsers keep their answers from other sites.
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		return fault.Wrap(err, fault.Forbidden, "without authentication other sites' requests are refused")
	}
	return nil
}

func hostOf(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return strings.Trim(host, "[]")
}

// Loopback reports whether a name or an address is that of the machine itself.
func Loopback(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

// Warn puts the warning on every answer.
func Warn(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Certctl-Warning", Warning)
		next.ServeHTTP(w, r)
	})
}
