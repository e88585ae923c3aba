package edge

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/httpx"
)

// refusing is an owner that refuses, or that is away.
type refusing struct{ err error }

func (o refusing) RoundTrip(r *http.Request) (*http.Response, error) {
	if f, ok := errors.AsType[*fault.Error](o.err); !ok || f.Code == fault.Unavailable {
		return nil, o.err
	}
	w := httptest.NewRecorder()
	httpx.WriteProblem(w, r, o.err)
	return w.Result(), nil
}

// broken is a body that does not arrive.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("connection reset") }

// Trap 76: whatever was refused is on record once, with who asked as far as that is known,
// also what never reached an operation.
func TestEdge_RecordsEveryRefusalOnce(t *testing.T) {
	const key = "Bearer " + goodKey
	for name, c := range map[string]struct {
		method, path, credential string
		body                     io.Reader
		owner                    error
		status                   int
		actor, operation         string
	}{
		"no credential":        {"GET", "/api/v1/certificates", "", nil, nil, 401, "anonymous", "listCertificates"},
		"another scheme":       {"DELETE", "/api/v1/agents/x", "Basic YTpi", nil, nil, 401, "anonymous", "retireAgent"},
		"a broken credential":  {"POST", "/api/v1/certificates", "Bearer", strings.NewReader("{}"), nil, 401, "anonymous", "createCertificate"},
		"an unknown key":       {"GET", "/api/v1/audit", "Bearer cck_bad", nil, nil, 401, "anonymous", "listAuditEvents"},
		"no permission":        {"GET", "/api/v1/audit/export", "Bearer cck_powerless", nil, nil, 403, "key-2", "exportAuditEvents"},
		"no such path":         {"GET", "/api/v2/certificates", key, nil, nil, 404, "anonymous", ""},
		"a path of attackers":  {"POST", "/wp-login.php", "", strings.NewReader("log=admin"), nil, 404, "anonymous", ""},
		"no such method":       {"PATCH", "/api/v1/certificates", key, nil, nil, 405, "anonymous", ""},
		"a body that breaks":   {"POST", "/api/v1/certificates", key, broken{}, nil, 400, "key-1", "createCertificate"},
		"a body too large":     {"POST", "/api/v1/certificates", key, strings.NewReader(strings.Repeat("x", MaxBody+1)), nil, 413, "key-1", "createCertificate"},
		"a malformed body":     {"POST", "/api/v1/certificates", key, strings.NewReader("{"), fault.New(fault.Invalid, "no JSON"), 400, "key-1", "createCertificate"},
		"a wrong parameter":    {"GET", "/api/v1/certificates?page=0", key, nil, fault.New(fault.Invalid, "page"), 400, "key-1", "listCertificates"},
		"something not there":  {"GET", "/api/v1/certificates/x", key, nil, fault.New(fault.NotFound, "none"), 404, "key-1", "getCertificate"},
		"too many":             {"GET", "/api/v1/certificates/x", key, nil, fault.New(fault.RateLimited, "slow down"), 429, "key-1", "getCertificate"},
		"an owner that is off": {"DELETE", "/api/v1/certificates/x", key, nil, fault.New(fault.Unavailable, "away"), 503, "key-1", "archiveCertificate"},
		"an owner that errs":   {"GET", "/api/v1/certificates/x", key, nil, errors.New("a bug"), 500, "key-1", "getCertificate"},
	} {
		t.Run(name, func(t *testing.T) {
			e, rec, _ := newEdge()
			e.Owners = refusing{c.owner}
			r := httptest.NewRequestWithContext(t.Context(), c.method, c.path, c.body)
			if c.credential != "" {
				r.Header.Set("Authorization", c.credential)
			}
			w := httptest.NewRecorder()
			e.Handler().ServeHTTP(w, r)
			got := rec.last(t)
			if w.Code != c.status || got.Status != c.status || len(rec.calls) != 1 {
				t.Errorf("answered with %d, on record %d times, with %d", w.Code, len(rec.calls), got.Status)
			}
			path, _, _ := strings.Cut(c.path, "?")
			if got.Actor != c.actor || got.Operation != c.operation || got.Method != c.method || got.Path != path ||
				got.RequestID != w.Header().Get("X-Request-ID") || got.RequestID == "" || got.RemoteAddress == "" {
				t.Errorf("on record: %+v", got)
			}
		})
	}
}
