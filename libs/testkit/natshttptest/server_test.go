package natshttptest

import (
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/micro"

	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/natshttp"
	"github.com/certctl/certctl/libs/testkit/natstest"
)

func conn(name string) bus.Options { return bus.Options{Name: name} }

func TestServe_RefusesAtOnceWhatIsTooMuch(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	r := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		entered <- struct{}{}
		<-release
		w.WriteHeader(http.StatusNoContent)
	}), func(o *natshttp.Options) { o.MaxInFlight = 1 })
	first := make(chan int, 1)
	go func() {
		resp, err := r.client.Do(request(t.Context(), t, http.MethodGet, "/x"))
		if err != nil {
			t.Error(err)
			first <- 0
			return
		}
		resp.Body.Close()
		first <- resp.StatusCode
	}()
	await(t, "the first request", entered)
	resp := do(t, r, request(t.Context(), t, http.MethodGet, "/x"))
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("second request answered %s, Retry-After %q", resp.Status, resp.Header.Get("Retry-After"))
	}
	close(release)
	if status := <-first; status != http.StatusNoContent {
		t.Errorf("first request answered %d", status)
	}
}

func TestServe_TurnsAPanicIntoAProblem(t *testing.T) {
	r := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/abort" {
			panic(http.ErrAbortHandler)
		}
		panic("secret detail")
	}))
	resp := do(t, r, request(t.Context(), t, http.MethodGet, "/x"))
	var problem struct{ Code, Message string }
	if err := json.NewDecoder(resp.Body).Decode(&problem); err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusInternalServerError || problem.Code != "internal" || problem.Message != "internal error" {
		t.Errorf("answered %s with %+v", resp.Status, problem)
	}
	if err := mustFail(t, r, request(t.Context(), t, http.MethodGet, "/abort")); fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("aborted handler: %v", err)
	}
}

func TestServe_FinishesRequestsInHandWhenItIsStopped(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	r := serve(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path != "/x" {
			return
		}
		close(entered)
		<-release
		io.WriteString(w, "done")
	}))
	got := make(chan string, 1)
	go func() {
		resp, err := r.client.Do(request(t.Context(), t, http.MethodGet, "/x"))
		if err != nil {
			got <- err.Error()
			return
		}
		defer resp.Body.Close()
		got <- body(t, resp)
	}()
	await(t, "the request", entered)
	stopped := make(chan error, 1)
	go func() { stopped <- r.stop() }()
	// The subscriptions are gone once nobody answers, and the request in hand is still open.
	deadline := time.Now().Add(patience)
	for {
		ctx := natshttp.WithRoute(t.Context(), natshttp.Route{Service: "issuer", Operation: "createCertificate"})
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://issuer/", http.NoBody)
		resp, err := r.client.Do(req)
		if err != nil && fault.CodeOf(err) == fault.Unavailable {
			break
		}
		if err == nil {
			resp.Body.Close()
		}
		if time.Now().After(deadline) {
			t.Fatal("a stopped server still takes requests")
		}
	}
	close(release)
	if body := <-got; body != "done" {
		t.Errorf("request in hand: %s", body)
	}
	if err := <-stopped; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

func TestServe_ShowsEachOperationToNATSMicro(t *testing.T) {
	r := serve(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/bad" {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	do(t, r, request(t.Context(), t, http.MethodGet, "/good"))
	do(t, r, request(t.Context(), t, http.MethodGet, "/bad"))
	var stats micro.Stats
	deadline := time.Now().Add(patience)
	for {
		reply, err := r.caller.NC.Request("$SRV.STATS.issuer", nil, patience)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(reply.Data, &stats); err != nil {
			t.Fatal(err)
		}
		// A request is counted when it has been answered, which the caller knows a moment earlier.
		if stats.Endpoints[0].NumRequests == 2 || time.Now().After(deadline) {
			break
		}
	}
	e := stats.Endpoints[0]
	if stats.Name != "issuer" || stats.Version != "1.2.3" || e.Subject != "svc.issuer.v1.listCertificates" ||
		e.NumRequests != 2 || e.NumErrors != 1 || e.AverageProcessingTime <= 0 {
		t.Errorf("stats are %+v, first endpoint %+v", stats.ServiceIdentity, e)
	}
	for _, subject := range []string{"$SRV.PING", "$SRV.INFO.issuer", "$SRV.PING.issuer." + stats.ID} {
		if _, err := r.caller.NC.Request(subject, nil, patience); err != nil {
			t.Errorf("%s: %v", subject, err)
		}
	}
}

// The permissions are those of the package's documentation; a wider or other set here would make that a lie.
func withPermissions(o *server.Options) {
	o.Users = []*server.User{
		{Username: "gateway", Password: "p", Permissions: &server.Permissions{
			Publish:   &server.SubjectPermission{Allow: []string{"svc.issuer.v1.>"}},
			Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX_gateway.>"}},
		}},
		{Username: "issuer", Password: "p", Permissions: &server.Permissions{
			Publish:   &server.SubjectPermission{Deny: []string{">"}},
			Subscribe: &server.SubjectPermission{Allow: []string{"svc.issuer.v1.>", "$SRV.>"}},
			Response:  &server.ResponsePermission{MaxMsgs: 1, Expires: 2 * time.Minute},
		}},
	}
}

func TestServe_NeedsOnlyTheDocumentedPermissions(t *testing.T) {
	s := natstest.Start(t, withPermissions)
	r := serveOn(t, s,
		bus.Options{Name: "gateway", URL: "nats://gateway:p@in-process", InboxPrefix: "_INBOX_gateway"},
		bus.Options{Name: "issuer", URL: "nats://issuer:p@in-process", InboxPrefix: "_INBOX_issuer"},
		http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			if q.URL.Path == "/big" {
				w.Write(make([]byte, 5<<20))
			}
			io.WriteString(w, "end")
		}))
	if got := body(t, do(t, r, request(t.Context(), t, http.MethodGet, "/small"))); got != "end" {
		t.Errorf("small response is %q", got)
	}
	if got := body(t, do(t, r, request(t.Context(), t, http.MethodGet, "/big"))); len(got) != 5<<20+3 {
		t.Errorf("streamed response has %d bytes", len(got))
	}
}
