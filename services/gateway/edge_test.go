package gateway_test

import (
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/health"
	"github.com/certctl/certctl/libs/obs"
	"github.com/certctl/certctl/libs/service"
	"github.com/certctl/certctl/services/gateway"
)

// limited gives callers so many calls, and no more while a test runs.
func limited(calls int) gateway.Config {
	cfg := byKeys()
	cfg.RateLimitEnabled, cfg.RateLimitRPS, cfg.RateLimitBurst = true, 0.001, calls
	return cfg
}

func TestGateway_LimitsAKeyAndAnAddressAndSaysHowFarTheyHaveCome(t *testing.T) {
	w := newWorldWith(t, limited(3))
	w.own("issuer", echo)
	for left := 2; left >= 0; left-- {
		res, body := w.get("/api/v1/certificates")
		if res.StatusCode != http.StatusAccepted || !strings.HasPrefix(res.Header.Get("RateLimit"), `"key";r=`+strconv.Itoa(left)+";t=") {
			t.Fatalf("%d %v %s", res.StatusCode, res.Header, body)
		}
	}
	res, body := w.get("/api/v1/certificates")
	if res.StatusCode != http.StatusTooManyRequests || w.problem(body).Code != "rate_limited" ||
		res.Header.Get("Retry-After") == "" || res.Header.Get("RateLimit-Policy") != `"key";q=3;w=3000` {
		t.Errorf("%d %v %s", res.StatusCode, res.Header, body)
	}
	if c := w.recorded(res.Header.Get("X-Request-ID")); c.Status != 429 || c.Actor != "key-first-admin" {
		t.Errorf("on record: %+v", c)
	}
	// Whoever guesses keys is limited by the address; what the known key did is not counted there.
	guess := func() *http.Response {
		r := w.request(http.MethodGet, "/api/v1/certificates", "")
		r.Header.Set("Authorization", "Bearer cck_guessed")
		r.Header.Set("X-Forwarded-For", "198.51.100.7") // which nobody believes
		res, _ := w.do(r)
		return res
	}
	for range 3 {
		if res := guess(); res.StatusCode != http.StatusUnauthorized {
			t.Errorf("%d %v", res.StatusCode, res.Header)
		}
	}
	if res := guess(); res.StatusCode != http.StatusTooManyRequests || res.Header.Get("RateLimit-Policy") != `"address";q=3;w=3000` {
		t.Errorf("%d %v", res.StatusCode, res.Header)
	}
	for _, path := range []string{"/health", "/api/v1/health", "/ready"} {
		if res, _ := w.do(w.anonymous(path)); res.StatusCode == http.StatusTooManyRequests || res.Header.Get("RateLimit") != "" {
			t.Errorf("%s: %d %v", path, res.StatusCode, res.Header)
		}
	}
}

func TestGateway_SharesLimitsWithOtherReplicas(t *testing.T) {
	w := newWorldWith(t, limited(100))
	w.own("issuer", echo)
	other := w.another(limited(100))
	for range 40 {
		w.get("/api/v1/certificates")
	}
	w.await("the other replica to have heard of it", func() bool {
		res, _ := other.get("/api/v1/certificates")
		left, _, _ := strings.Cut(strings.TrimPrefix(res.Header.Get("RateLimit"), `"key";r=`), ";")
		n, err := strconv.Atoi(left)
		return err == nil && n < 60
	})
}

func TestGateway_HoldsRequestsToTheContractBeforeTheirOwnerSeesThem(t *testing.T) {
	w := newWorld(t)
	asked := make(chan string, 16)
	w.own("issuer", func(out http.ResponseWriter, r *http.Request) {
		asked <- r.RequestURI
		_, _ = io.WriteString(out, "{}")
	})
	for _, c := range []struct {
		method, path, body string
		status             int
		says               string
	}{
		{"GET", "/api/v1/certificates?page=x&sort_desc=maybe&perpage=1", "", 400, "page: must be an integer; sort_desc: must be true or false; perpage: is not"},
		{"GET", "/api/v1/certificates?perpage=1", "", 400, "did you mean per_page?"},
		{"GET", "/api/v1/certificates/%00", "", 404, "id"},
		{"POST", "/api/v1/certificates", `{"common_name":1}`, 400, "common_name: must be a string"},
		{"POST", "/api/v1/certificates", `{"common_name":"a\u0000"}`, 400, "common_name: must not hold a NUL"},
	} {
		res, body := w.do(w.request(c.method, c.path, c.body))
		if p := w.problem(body); res.StatusCode != c.status || !strings.Contains(p.Message, c.says) || p.RequestID == "" {
			t.Errorf("%s %s: %d %s", c.method, c.path, res.StatusCode, body)
		}
	}
	select {
	case uri := <-asked:
		t.Errorf("the owner was asked for %s", uri)
	default:
	}
	if res, body := w.get("/api/v1/certificates?per_page=100000&status="); res.StatusCode != http.StatusOK {
		t.Errorf("%d %s", res.StatusCode, body)
	}
}

func TestGateway_LetsOnlyListedOriginsIn(t *testing.T) {
	cfg := byKeys()
	cfg.CORSOrigins = []string{"https://ops.example.com"}
	w := newWorldWith(t, cfg)
	w.own("issuer", echo)
	for origin, allowed := range map[string]string{"https://ops.example.com": "https://ops.example.com", "https://evil.example.com": ""} {
		r := w.request(http.MethodGet, "/api/v1/certificates", "")
		r.Header.Set("Origin", origin)
		if res, _ := w.do(r); res.StatusCode != http.StatusAccepted || res.Header.Get("Access-Control-Allow-Origin") != allowed {
			t.Errorf("%s: %d %v", origin, res.StatusCode, res.Header)
		}
		r = w.request(http.MethodOptions, "/api/v1/certificates/mc-1", "")
		r.Header.Del("Authorization")
		r.Header.Set("Origin", origin)
		r.Header.Set("Access-Control-Request-Method", "PUT")
		if res, _ := w.do(r); (res.StatusCode == http.StatusNoContent) != (allowed != "") || res.Header.Get("Access-Control-Allow-Origin") != allowed {
			t.Errorf("preflight of %s: %d %v", origin, res.StatusCode, res.Header)
		}
	}
}

func TestGateway_RefusesToTakeKeysInPlainHTTPFromOtherMachines(t *testing.T) {
	w := newWorld(t)
	err := gateway.Run(t.Context(), gateway.Config{ServerHost: "0.0.0.0", AuthType: "api-key", AdminKeyFile: filepath.Join(t.TempDir(), "k")}, service.Deps{
		Log: w.log, DB: w.pool, Bus: w.conn, Metrics: obs.NewRegistry(), Health: health.New(w.log), Clock: clock.System,
	})
	if err == nil || !strings.Contains(err.Error(), "configure TLS") {
		t.Errorf("%v", err)
	}
}

func TestGateway_CarriesOutACallWithAKeyOnce(t *testing.T) {
	w := newWorld(t)
	asked := make(chan string, 8)
	leave := w.own("issuer", func(out http.ResponseWriter, r *http.Request) {
		asked <- r.Header.Get("Idempotency-Key")
		echo(out, r)
	})
	post := func(body string) (*http.Response, []byte) {
		r := w.request(http.MethodPost, "/api/v1/certificates", body)
		r.Header.Set("Idempotency-Key", "5e0e")
		return w.do(r)
	}
	_, first := post(valid)
	res, again := post(valid)
	if res.StatusCode != http.StatusAccepted || string(first) != string(again) || res.Header.Get("Idempotency-Replayed") != "true" || len(asked) != 1 {
		t.Errorf("%d %v\n%s\n%s", res.StatusCode, res.Header, first, again)
	}
	// What was repeated is on record too.
	if c := w.recorded(res.Header.Get("X-Request-ID")); c.Status != http.StatusAccepted {
		t.Errorf("on record: %+v", c)
	}
	if res, body := post(`{"common_name":"b.example"}`); res.StatusCode != http.StatusConflict {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	leave()
	r := w.request(http.MethodPost, "/api/v1/certificates", valid)
	r.Header.Set("Idempotency-Key", "other")
	if res, body := w.do(r); res.StatusCode != http.StatusServiceUnavailable {
		t.Fatalf("%d %s", res.StatusCode, body)
	}
	w.own("issuer", echo)
	r = w.request(http.MethodPost, "/api/v1/certificates", valid)
	r.Header.Set("Idempotency-Key", "other")
	if res, body := w.do(r); res.StatusCode != http.StatusAccepted {
		t.Errorf("after a call that found nobody: %d %s", res.StatusCode, body)
	}
}

func TestGateway_KeepsViewsAndHoldsTheirUpdatesToWhatWasSeen(t *testing.T) {
	w := newWorld(t)
	res, body := w.do(w.request(http.MethodPost, "/api/v1/views", `{"name":"mine","resource":"jobs","query":{"status":"Failed"}}`))
	var v struct{ ID, Name string }
	if err := json.Unmarshal(body, &v); err != nil || res.StatusCode != http.StatusCreated || res.Header.Get("ETag") != `"1"` {
		t.Fatalf("%d %v %s", res.StatusCode, res.Header, body)
	}
	put := func(tag string) (*http.Response, []byte) {
		r := w.request(http.MethodPut, "/api/v1/views/"+v.ID, `{"name":"renamed"}`)
		r.Header.Set("If-Match", tag)
		return w.do(r)
	}
	if res, body := put(`"1"`); res.StatusCode != http.StatusOK || res.Header.Get("ETag") != `"2"` || !strings.Contains(string(body), `"status":"Failed"`) {
		t.Errorf("%d %v %s", res.StatusCode, res.Header, body)
	}
	if res, body := put(`"1"`); res.StatusCode != http.StatusPreconditionFailed || w.problem(body).Code != "precondition" {
		t.Errorf("a lost update: %d %s", res.StatusCode, body)
	}
	for path, want := range map[string]int{
		"/api/v1/views?resource=jobs": 200, "/api/v1/views?resource=teams": 400, "/api/v1/views?cursor=AA": 400, "/api/v1/views/" + v.ID: 200, "/api/v1/views/view-x": 404,
	} {
		if res, body := w.get(path); res.StatusCode != want {
			t.Errorf("%s: %d %s", path, res.StatusCode, body)
		}
	}
	if res, body := w.do(w.request(http.MethodDelete, "/api/v1/views/"+v.ID, "")); res.StatusCode != http.StatusNoContent {
		t.Errorf("%d %s", res.StatusCode, body)
	}
}
