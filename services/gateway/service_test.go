package gateway_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/httpx"
	"github.com/certctl/certctl/libs/obs"
	"github.com/certctl/certctl/services/gateway"
)

// valid is a body that the contract allows for a certificate.
const valid = `{"common_name":"a.example"}`

// echo answers with what it was asked.
func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("X-Owner", "yes")
	httpx.WriteJSON(w, http.StatusAccepted, map[string]any{
		"method": r.Method, "uri": r.RequestURI, "body": string(body), "as": authn.FromContext(r.Context()).ID,
		"request": obs.RequestID(r.Context()), "secrets": r.Header.Get("Authorization") + r.Header.Get("Cookie"),
	})
}

func TestGateway_HasTheOwnerAnswerAndPutsTheCallOnRecord(t *testing.T) {
	w := newWorld(t)
	w.own("issuer", echo)
	r := w.request(http.MethodPost, "/api/v1/certificates", `{"common_name":"a b","x":1}`)
	r.Header.Set("Cookie", "a=b")
	r.Header.Set(authn.Header, authn.ToHeader(authn.System("issuer")))
	res, body := w.do(r)
	var got map[string]string
	if err := json.Unmarshal(body, &got); err != nil || res.StatusCode != http.StatusAccepted || res.Header.Get("X-Owner") != "yes" {
		t.Fatalf("%d %s", res.StatusCode, body)
	}
	id := res.Header.Get("X-Request-ID")
	for what, want := range map[string]string{
		"method": "POST", "uri": "/api/v1/certificates", "body": `{"common_name":"a b","x":1}`, "as": "key-first-admin", "request": id, "secrets": "",
	} {
		if got[what] != want {
			t.Errorf("%s is %q, want %q", what, got[what], want)
		}
	}
	c := w.recorded(id)
	if c.Actor != "key-first-admin" || c.Operation != "createCertificate" || c.Status != 202 || c.Path != "/api/v1/certificates" || len(c.BodyHash) != 16 {
		t.Errorf("on record: %+v", c)
	}
	// A read and a refusal are on record too.
	res, _ = w.get("/api/v1/certificates/mc-1")
	if c := w.recorded(res.Header.Get("X-Request-ID")); c.Operation != "getCertificate" || c.Status != 202 {
		t.Errorf("on record: %+v", c)
	}
	stranger := w.request(http.MethodDelete, "/api/v1/certificates/mc-1", "")
	stranger.Header.Set("Authorization", "Bearer cck_guessed")
	res, body = w.do(stranger)
	if res.StatusCode != http.StatusUnauthorized {
		t.Fatalf("%d %s", res.StatusCode, body)
	}
	if c := w.recorded(res.Header.Get("X-Request-ID")); c.Actor != "anonymous" || c.Status != 401 {
		t.Errorf("on record: %+v", c)
	}
}

func TestGateway_PutsNoHashOfAPasswordOnRecord(t *testing.T) {
	w := newWorld(t)
	w.own("issuer", echo)
	for operation, call := range map[string][2]string{
		"exportCertificateWithKey": {"/api/v1/certificates/mc-1/export", `{"format":"pkcs12","password":"correct horse"}`},
		"importCertificates":       {"/api/v1/certificates/import", `{"file":"AAAA","password":"correct horse"}`},
	} {
		res, body := w.do(w.request(http.MethodPost, call[0], call[1]))
		if res.StatusCode != http.StatusAccepted {
			t.Fatalf("%d %s", res.StatusCode, body)
		}
		if c := w.recorded(res.Header.Get("X-Request-ID")); c.Operation != operation || c.BodyHash != "" {
			t.Errorf("on record: %+v", c)
		}
	}
}

func TestGateway_SaysAtOnceThatAnOwnerIsAway(t *testing.T) {
	w := newWorld(t)
	leave := w.own("issuer", echo)
	if res, body := w.get("/api/v1/certificates"); res.StatusCode != http.StatusAccepted {
		t.Fatalf("%d %s", res.StatusCode, body)
	}
	leave()
	for _, r := range []*http.Request{
		w.request(http.MethodGet, "/api/v1/certificates", ""), w.request(http.MethodPost, "/api/v1/certificates", valid),
		w.request(http.MethodGet, "/api/v1/jobs", ""), w.request(http.MethodGet, "/api/v1/jobs/job-i-1", ""),
	} {
		start := time.Now()
		res, body := w.do(r)
		if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" || w.problem(body).Code != "unavailable" {
			t.Errorf("%s: %d %v %s", r.URL.Path, res.StatusCode, res.Header, body)
		}
		if took := time.Since(start); took >= 2*time.Second { // what it waits for an owner that hangs
			t.Errorf("%s: it took %v", r.URL.Path, took)
		}
	}
	w.own("issuer", echo)
	if res, body := w.get("/api/v1/certificates"); res.StatusCode != http.StatusAccepted {
		t.Errorf("when it is back: %d %s", res.StatusCode, body)
	}
}

func TestGateway_DoesNotWaitForeverForAnOwnerThatHangs(t *testing.T) {
	w := newWorld(t)
	release := make(chan struct{})
	w.own("issuer", func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-release:
		}
	})
	defer close(release)
	start := time.Now()
	res, body := w.get("/api/v1/certificates")
	if res.StatusCode != http.StatusServiceUnavailable || !strings.Contains(w.problem(body).Message, "issuer") {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	if took := time.Since(start); took > patience {
		t.Errorf("it took %v", took)
	}
}

func TestGateway_StreamsWhatIsLargerThanAMessage(t *testing.T) {
	w := newWorld(t)
	const size = 12 << 20
	block := bytes.Repeat([]byte("0123456789abcdef"), 1024)
	want := sha256.New()
	for n := 0; n < size; n += len(block) {
		want.Write(block)
	}
	w.own("audit", func(out http.ResponseWriter, _ *http.Request) {
		for n := 0; n < size; n += len(block) {
			if _, err := out.Write(block); err != nil {
				return
			}
		}
	})
	res, err := w.client.Do(w.request(http.MethodGet, "/api/v1/audit", ""))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	got := sha256.New()
	if n, err := io.Copy(got, res.Body); err != nil || n != size || !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
		t.Errorf("%d bytes, %v", n, err)
	}
}

func TestGateway_BreaksOffWhatItsOwnerBreaksOff(t *testing.T) {
	w := newWorld(t)
	w.own("audit", func(out http.ResponseWriter, _ *http.Request) {
		_, _ = out.Write(make([]byte, 2<<20))
		panic("half-way")
	})
	res, err := w.client.Do(w.request(http.MethodGet, "/api/v1/audit", ""))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if n, err := io.Copy(io.Discard, res.Body); err == nil {
		t.Errorf("%d bytes pass for the whole answer", n)
	}
	if c := w.recorded(res.Header.Get("X-Request-ID")); c.Operation != "listAuditEvents" {
		t.Errorf("on record: %+v", c)
	}
	// What breaks before it has begun is an error like any other.
	w.own("issuer", func(http.ResponseWriter, *http.Request) { panic("at once") })
	for _, r := range []*http.Request{
		w.request(http.MethodGet, "/api/v1/certificates", ""), w.request(http.MethodPost, "/api/v1/certificates", valid),
	} {
		res, body := w.do(r)
		if res.StatusCode < 500 || strings.Contains(string(body), "at once") {
			t.Errorf("%d %s", res.StatusCode, body)
		}
		if c := w.recorded(res.Header.Get("X-Request-ID")); c.Status != res.StatusCode {
			t.Errorf("answered with %d, on record with %d", res.StatusCode, c.Status)
		}
	}
}

func TestGateway_IsReadyWhenItsOwnersAreAndNamesThoseThatAreNot(t *testing.T) {
	w := newWorld(t)
	leave := w.own("issuer", echo)
	w.own("deployment", echo)
	ready := func() (int, map[string]string) {
		res, body := w.do(w.anonymous("/ready"))
		var got struct{ Checks map[string]string }
		if err := json.Unmarshal(body, &got); err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		return res.StatusCode, got.Checks
	}
	status, checks := ready()
	if status != http.StatusServiceUnavailable || checks["audit"] == "" || checks["issuer"] != "" || checks["deployment"] != "" {
		t.Errorf("without audit: %d %v", status, checks)
	}
	w.own("audit", echo)
	w.await("readiness", func() bool { status, _ := ready(); return status == http.StatusOK })
	leave()
	w.await("the issuer to be missed", func() bool {
		status, checks := ready()
		return status == http.StatusServiceUnavailable && strings.Contains(checks["issuer"], "issuer") && checks["audit"] == ""
	})
	// It lives all the same.
	for _, path := range []string{"/health", "/api/v1/health"} {
		if res, body := w.do(w.anonymous(path)); res.StatusCode != http.StatusOK || !strings.Contains(string(body), "healthy") {
			t.Errorf("%s: %d %s", path, res.StatusCode, body)
		}
	}
}

func (w *world) anonymous(path string) *http.Request {
	r := w.request(http.MethodGet, path, "")
	r.Header.Del("Authorization")
	return r
}

func TestGateway_AnswersWhatIsItsOwn(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		path, contains string
		status         int
		withKey        bool
	}{
		{"/api/v1/auth/info", `"api-key"`, 200, false},
		{"/api/v1/auth/check", `key-first-admin`, 200, true},
		{"/api/v1/auth/check", `unauthenticated`, 401, false},
		{"/api/v1/openapi.yaml", "openapi: 3.1", 200, false},
		{"/metrics", `not_found`, 404, true},
	} {
		r := w.request(http.MethodGet, c.path, "")
		if !c.withKey {
			r.Header.Del("Authorization")
		}
		res, body := w.do(r)
		if res.StatusCode != c.status || !strings.Contains(string(body), c.contains) {
			t.Errorf("%s: %d %.300s", c.path, res.StatusCode, body)
		}
	}
}

func TestGateway_FinishesTheCallsInHandWhenItIsTold(t *testing.T) {
	w := newWorld(t)
	begun, release := make(chan struct{}), make(chan struct{})
	w.own("issuer", func(out http.ResponseWriter, r *http.Request) {
		close(begun)
		<-release
		echo(out, r)
	})
	answered := make(chan error, 1)
	r := w.request(http.MethodPost, "/api/v1/certificates", valid)
	go func() {
		res, err := w.client.Do(r)
		if err == nil {
			defer res.Body.Close()
			if res.StatusCode != http.StatusAccepted {
				err = errors.New(res.Status)
			}
		}
		answered <- err
	}()
	select {
	case <-begun:
	case err := <-answered:
		t.Fatalf("answered without its owner: %v", err)
	}
	ended := make(chan struct{})
	go func() { w.end(); close(ended) }()
	w.await("the door to be closed", func() bool {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(w.url, "http://"))
		if err != nil {
			return true
		}
		return conn.Close() != nil
	})
	close(release)
	if err := <-answered; err != nil {
		t.Error(err)
	}
	<-ended
}

// TestGateway_SurvivesWhatNoClientSends speaks to the port directly.
func TestGateway_SurvivesWhatNoClientSends(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"issuer", "deployment", "audit"} {
		w.own(name, func(out http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/api/v1/jobs" { // the gateway reads these answers
				httpx.WriteJSON(out, http.StatusOK, map[string]any{"data": []any{}})
				return
			}
			echo(out, r)
		})
	}
	auth := "Host: x\r\nAuthorization: Bearer " + w.key + "\r\n"
	line := func(method, target string) string { return method + " " + target + " HTTP/1.1\r\n" + auth + "\r\n" }
	for name, raw := range map[string]string{
		"NUL in the path":         line("GET", "/api/v1/certificates/%00"),
		"NUL in the query":        line("GET", "/api/v1/jobs?cursor=%00&status=%00"),
		"raw NUL":                 line("GET", "/api/v1/certificates/\x00"),
		"bad escape":              line("GET", "/api/v1/certificates/%zz"),
		"bad escape in the query": line("GET", "/api/v1/certificates?a=%zz;b"),
		"no UTF-8":                line("GET", "/api/v1/certificates/\xff\xfe"),
		"escaped no UTF-8":        line("GET", "/api/v1/certificates/%ff%fe"),
		"dots":                    line("GET", "/api/v1/../../etc/passwd"),
		"escaped dots":            line("GET", "/api/v1/certificates/%2e%2e%2f%2e%2e"),
		"slashes":                 line("GET", "////api//v1"),
		"wildcards":               line("GET", "/api/v1/certificates/*.%3e"),
		"a whole URL":             line("GET", "http://elsewhere/api/v1/certificates"),
		"an opaque URL":           line("GET", "mailto:x"),
		"a star":                  line("OPTIONS", "*"),
		"a tunnel":                line("CONNECT", "elsewhere:443"),
		"a method of nobody":      line("BREW", "/api/v1/certificates"),
		"a long method":           line(strings.Repeat("M", 9000), "/api/v1/certificates"),
		"a long path":             line("GET", "/api/v1/certificates/"+strings.Repeat("a", 30_000)),
		"a long query":            line("GET", "/api/v1/certificates?x="+strings.Repeat("%00", 9000)),
		"headers of 100 KiB":      "GET /api/v1/certificates HTTP/1.1\r\n" + auth + "X-A: " + strings.Repeat("a", 100<<10) + "\r\n\r\n",
		"headers of the bus":      "GET /api/v1/certificates HTTP/1.1\r\n" + auth + "Nats-Msg-Id: x\r\nNatshttp-Status: 200\r\nStatus: 503\r\n\r\n",
		"500 headers":             "GET /api/v1/certificates HTTP/1.1\r\n" + auth + strings.Repeat("X-A: b\r\n", 500) + "\r\n",
		"a header of controls":    "GET /api/v1/certificates HTTP/1.1\r\n" + auth + "X-A: \x01\x7f\r\n\r\n",
		"no host":                 "GET /api/v1/certificates HTTP/1.1\r\n\r\n",
		"two lengths":             "POST /api/v1/certificates HTTP/1.1\r\n" + auth + "Content-Length: 3\r\nContent-Length: 5\r\n\r\nabcde",
		"length and chunks":       "POST /api/v1/certificates HTTP/1.1\r\n" + auth + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"a negative length":       "POST /api/v1/certificates HTTP/1.1\r\n" + auth + "Content-Length: -1\r\n\r\n",
		"broken chunks":           "POST /api/v1/certificates HTTP/1.1\r\n" + auth + "Transfer-Encoding: chunked\r\n\r\nzz\r\n",
		"an upgrade":              "GET /api/v1/certificates HTTP/1.1\r\n" + auth + "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		"a body of NULs":          "POST /api/v1/certificates HTTP/1.1\r\n" + auth + "Content-Length: 3\r\n\r\n\x00\x00\x00",
		"no HTTP":                 "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello",
	} {
		status := w.say(raw)
		if status == http.StatusInternalServerError || status != 0 && (status < 200 || status > 599) {
			t.Errorf("%s: status %d", name, status)
		}
		if res, _ := w.do(w.anonymous("/health")); res.StatusCode != http.StatusOK {
			t.Fatalf("%s: the gateway is not well", name)
		}
	}
}

// say sends bytes and returns the status of the answer, 0 without one.
func (w *world) say(raw string) int {
	w.Helper()
	u, err := url.Parse(w.url)
	if err != nil {
		w.Fatal(err)
	}
	conn, err := new(net.Dialer).DialContext(w.Context(), "tcp", u.Host)
	if err != nil {
		w.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		w.Fatal(err)
	}
	if _, err := io.WriteString(conn, raw); err != nil {
		return 0 // it was cut off before it was through
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0
	}
	defer res.Body.Close()
	return res.StatusCode
}

func TestConfig_RefusesWhatCannotWork(t *testing.T) {
	for _, c := range []struct {
		cfg  gateway.Config
		want string
	}{
		{gateway.Config{AuthType: "api-key"}, ""},
		{gateway.Config{AuthType: "kerberos"}, "it can be api-key, jwt or none"},
		{gateway.Config{AuthType: "api-key", AuthSecret: "change-me"}, "openssl rand"},
		{gateway.Config{AuthType: "api-key", AuthSecret: "change-me-to-this"}, ""},
		{gateway.Config{AuthType: "jwt"}, "CERTCTL_JWT_JWKS_URL"},
		{gateway.Config{AuthType: "none", ServerHost: "127.0.0.1"}, "CERTCTL_AUTH_NONE_ACKNOWLEDGED=yes"},
		{gateway.Config{AuthType: "none", ServerHost: "127.0.0.1", AuthNoneAcknowledged: "true"}, "CERTCTL_AUTH_NONE_ACKNOWLEDGED=yes"},
		{gateway.Config{AuthType: "none", ServerHost: "0.0.0.0", AuthNoneAcknowledged: "yes"}, "CERTCTL_SERVER_HOST"},
		{gateway.Config{AuthType: "none", ServerHost: "certctl.example.org", AuthNoneAcknowledged: "yes"}, "CERTCTL_SERVER_HOST"},
		{gateway.Config{AuthType: "none", ServerHost: "localhost", AuthNoneAcknowledged: "yes"}, ""},
		{gateway.Config{AuthType: "api-key", ServerTLSCertFile: "x"}, "CERTCTL_SERVER_TLS_KEY_FILE"},
		{gateway.Config{AuthType: "api-key", ServerTLSKeyFile: "x"}, "CERTCTL_SERVER_TLS_CERT_FILE"},
		{gateway.Config{AuthType: "api-key", RateLimitEnabled: true, RateLimitRPS: 50}, "CERTCTL_RATE_LIMIT_BURST"},
		{gateway.Config{AuthType: "api-key", RateLimitEnabled: true, RateLimitBurst: 1}, "CERTCTL_RATE_LIMIT_RPS"},
		{gateway.Config{AuthType: "api-key", CORSOrigins: []string{"ops.example.com"}}, "CERTCTL_CORS_ORIGINS"},
		{gateway.Config{AuthType: "api-key", TrustedProxies: []string{"proxy"}}, "CERTCTL_TRUSTED_PROXIES"},
	} {
		if got := fmt.Sprint(c.cfg.Validate()); c.want != "" && !strings.Contains(got, c.want) || c.want == "" && got != "<nil>" {
			t.Errorf("%+v: %s", c.cfg, got)
		}
	}
}
