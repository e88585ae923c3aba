package natshttptest

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/natshttp"
	"github.com/certctl/certctl/libs/obs"
	"github.com/certctl/certctl/libs/testkit/natstest"
)

func reader(b []byte) io.Reader {
	if b == nil {
		return http.NoBody
	}
	return bytes.NewReader(b)
}

func body(t *testing.T, resp *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("read body: %v", err)
	}
	return string(b)
}

func TestRoundTrip_CarriesRequestAndResponse(t *testing.T) {
	r := serve(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		b, _ := io.ReadAll(q.Body)
		w.Header().Add("Link", "<a>")
		w.Header().Add("Link", "<b>")
		w.Header().Set("X-Saw", strings.Join([]string{
			q.Method, q.URL.Path, q.URL.Query().Get("q"), q.Header.Get("Accept"), q.Host, string(b),
		}, "|"))
		w.WriteHeader(http.StatusCreated)
		io.WriteString(w, `{"id":"mc-1"}`)
	}))
	req := request(t.Context(), t, http.MethodPost, "/api/v1/certificates/a%2Fb?q=x+y", []byte("in")...)
	req.Header.Set("Accept", "application/json")
	resp := do(t, r, req)
	if resp.StatusCode != http.StatusCreated || resp.ContentLength != int64(len(`{"id":"mc-1"}`)) {
		t.Errorf("answered %s with %d bytes", resp.Status, resp.ContentLength)
	}
	if diff := cmp.Diff("POST|/api/v1/certificates/a/b|x y|application/json|issuer|in", resp.Header.Get("X-Saw")); diff != "" {
		t.Errorf("request as the handler saw it (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"<a>", "<b>"}, resp.Header.Values("Link")); diff != "" {
		t.Errorf("header with two values (-want +got):\n%s", diff)
	}
	if got := body(t, resp); got != `{"id":"mc-1"}` {
		t.Errorf("body is %q", got)
	}
	for name := range resp.Header {
		if strings.HasPrefix(name, "Natshttp-") {
			t.Errorf("response shows %s", name)
		}
	}
}

func TestRoundTrip_WorksUnderAReverseProxy(t *testing.T) {
	big := strings.Repeat("certificate ", 200_000)
	r := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, big) }))
	proxy := &httputil.ReverseProxy{
		Transport: r.client.Transport,
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host = "http", "issuer"
			p.Out = p.Out.WithContext(natshttp.WithRoute(p.Out.Context(), natshttp.Route{Service: "issuer", Operation: "listCertificates"}))
		},
	}
	front := httptest.NewServer(proxy)
	t.Cleanup(front.Close)
	t.Cleanup(front.Client().CloseIdleConnections)
	resp, err := front.Client().Get(front.URL + "/x")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got := body(t, resp); got != big {
		t.Errorf("body has %d bytes, want %d", len(got), len(big))
	}
}

func TestRoundTrip_AnswersWithoutBody(t *testing.T) {
	r := serve(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.Method == http.MethodDelete {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		w.Header().Set("Content-Length", "5")
		io.WriteString(w, "hello")
	}))
	if resp := do(t, r, request(t.Context(), t, http.MethodDelete, "/x")); resp.StatusCode != http.StatusNoContent || body(t, resp) != "" {
		t.Errorf("DELETE answered %s", resp.Status)
	}
	if resp := do(t, r, request(t.Context(), t, http.MethodHead, "/x")); resp.ContentLength != 5 || body(t, resp) != "" {
		t.Errorf("HEAD declared %d bytes", resp.ContentLength)
	}
}

func TestRoundTrip_CarriesPrincipalAndRequestIDOfTheContextOnly(t *testing.T) {
	type seen struct {
		Principal                            authn.Principal
		RequestID                            string
		Authorization, Cookie, Nats, Control string
	}
	got := make(chan seen, 1)
	r := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		got <- seen{
			authn.FromContext(q.Context()), obs.RequestID(q.Context()),
			q.Header.Get("Authorization"), q.Header.Get("Cookie"), q.Header.Get("Nats-Msg-Id"), q.Header.Get("Natshttp-Method"),
		}
	}))
	who := authn.Principal{ID: "u-1", Name: "Ada", Kind: authn.KindUser, Roles: []string{"admin"}}
	ctx := obs.WithRequestID(authn.NewContext(t.Context(), who), "req-1")
	forge := func(req *http.Request) {
		req.Header.Set(authn.Header, authn.ToHeader(authn.Principal{ID: "root", Kind: authn.KindSystem}))
		req.Header.Set("X-Request-Id", "forged")
		req.Header.Set("Authorization", "Bearer secret")
		req.Header.Set("Cookie", "session=secret")
		req.Header.Set("Nats-Msg-Id", "forged")
		req.Header.Set("Natshttp-Method", "DELETE")
	}
	req := request(ctx, t, http.MethodGet, "/x")
	forge(req)
	do(t, r, req)
	if diff := cmp.Diff(seen{Principal: who, RequestID: "req-1"}, <-got); diff != "" {
		t.Errorf("handler saw (-want +got):\n%s", diff)
	}
	req = request(t.Context(), t, http.MethodGet, "/x")
	forge(req)
	do(t, r, req)
	if diff := cmp.Diff(seen{}, <-got); diff != "" {
		t.Errorf("handler saw, without a principal (-want +got):\n%s", diff)
	}
}

func TestRoundTrip_RefusesLineBreaksInHeaders(t *testing.T) {
	r := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Echo", "a\r\nNatshttp-Status: 500")
		w.Header()["Bad\r\nName"] = []string{"x"}
		w.WriteHeader(http.StatusOK)
	}))
	for name, value := range map[string]string{"X-A": "1\r\nX-B: 2", "X-A\r\nX-B": "1", "X-C": "\x00"} {
		req := request(t.Context(), t, http.MethodGet, "/x")
		req.Header[name] = []string{value}
		if err := mustFail(t, r, req); fault.CodeOf(err) != fault.Invalid && !strings.Contains(err.Error(), "invalid header") {
			t.Errorf("header %q with %q: %v", name, value, err)
		}
	}
	// http.Client checks by itself; other users of the transport do not.
	req := request(t.Context(), t, http.MethodGet, "/x")
	req.Header["X-A"] = []string{"1\r\nX-B: 2"}
	resp, err := r.client.Transport.RoundTrip(req)
	if err == nil {
		resp.Body.Close()
	}
	if fault.CodeOf(err) != fault.Invalid {
		t.Errorf("transport took a line break in a header: %v", err)
	}
	resp = do(t, r, request(t.Context(), t, http.MethodGet, "/x"))
	if got := resp.Header.Get("X-Echo"); resp.StatusCode != http.StatusOK || got != "a  Natshttp-Status: 500" {
		t.Errorf("answered %s with %q", resp.Status, got)
	}
}

func TestRoundTrip_RefusesALargeBodyBeforeItIsSent(t *testing.T) {
	r := serve(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		n, _ := io.Copy(io.Discard, q.Body)
		if n != natshttp.MaxRequestBody {
			t.Errorf("handler got %d bytes", n)
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	if resp := do(t, r, request(t.Context(), t, http.MethodPost, "/x", make([]byte, natshttp.MaxRequestBody)...)); resp.StatusCode != http.StatusNoContent {
		t.Errorf("largest body answered %s", resp.Status)
	}
	over := make([]byte, natshttp.MaxRequestBody+1)
	if err := mustFail(t, r, request(t.Context(), t, http.MethodPost, "/x", over...)); fault.CodeOf(err) != fault.TooLarge {
		t.Errorf("declared length: %v", err)
	}
	req := request(t.Context(), t, http.MethodPost, "/x")
	req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(over)), -1
	if err := mustFail(t, r, req); fault.CodeOf(err) != fault.TooLarge {
		t.Errorf("undeclared length: %v", err)
	}
}

func TestRoundTrip_FailsAtOnceWhenNobodyAnswers(t *testing.T) {
	s := natstest.Start(t)
	nc := s.Connect(conn("gateway")).NC
	r := &rig{client: &http.Client{Transport: natshttp.NewTransport(nc)}}
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience) // not the two seconds that a call without one has
	defer cancel()
	begun := time.Now()
	err := mustFail(t, r, request(ctx, t, http.MethodGet, "/x"))
	if fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("error is %v", err)
	}
	if took := time.Since(begun); took > patience {
		t.Errorf("took %s", took)
	}
	lost := nc.StatusChanged(nats.RECONNECTING)
	defer nc.RemoveStatusListener(lost)
	s.Stop()
	select {
	case <-lost:
	case <-time.After(patience):
		t.Fatal("connection does not notice that its server is gone")
	}
	begun = time.Now()
	if err := mustFail(t, r, request(ctx, t, http.MethodGet, "/x")); fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("without a server: %v", err)
	}
	if took := time.Since(begun); took > patience {
		t.Errorf("without a server, took %s", took)
	}
}

func TestRoundTrip_WithoutARouteIsRefused(t *testing.T) {
	r := serve(t, http.NotFoundHandler())
	for _, route := range []natshttp.Route{{}, {Service: "issuer"}, {Service: "a.b", Operation: "c"}, {Service: "*", Operation: ">"}, {Service: "issuer", Operation: "_stream"}} {
		req, err := http.NewRequestWithContext(natshttp.WithRoute(t.Context(), route), http.MethodGet, "http://x/", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if err := mustFail(t, r, req); !strings.Contains(err.Error(), "route") {
			t.Errorf("route %+v: %v", route, err)
		}
	}
}

func TestRoundTrip_CallersDeadlineEndsTheHandler(t *testing.T) {
	ended := make(chan error, 1)
	r := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		<-q.Context().Done()
		ended <- context.Cause(q.Context())
	}))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	// The handler may notice first, and then its answer arrives.
	resp, err := r.client.Do(request(ctx, t, http.MethodGet, "/x"))
	if err == nil {
		resp.Body.Close()
		if resp.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("caller got %s", resp.Status)
		}
	} else if fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("caller got %v", err)
	}
	select {
	case err := <-ended:
		if err != context.DeadlineExceeded {
			t.Errorf("handler's context ended by %v", err)
		}
	case <-time.After(patience):
		t.Error("handler's context did not end")
	}
}

func TestRoundTrip_WaitsAsLongAsItsRouteSays(t *testing.T) {
	conn := natstest.Start(t).Connect(bus.Options{Name: "gateway"})
	// Somebody who takes the request and says nothing.
	if _, err := conn.NC.Subscribe("svc.silent.v1.listCertificates", func(*nats.Msg) {}); err != nil {
		t.Fatal(err)
	}
	ctx := natshttp.WithRoute(t.Context(), natshttp.Route{Service: "silent", Operation: "listCertificates", Patience: 50 * time.Millisecond})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://silent/x", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	err = mustFail(t, &rig{client: &http.Client{Transport: natshttp.NewTransport(conn.NC)}}, req)
	if fault.CodeOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "the silent service did not answer within 50ms") {
		t.Errorf("error %v", err)
	}
}

func TestRoundTrip_WithoutADeadlineWaitsTwoSeconds(t *testing.T) {
	ended := make(chan error, 1)
	r := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		<-q.Context().Done()
		ended <- context.Cause(q.Context())
	}))
	begun := time.Now()
	resp, err := r.client.Do(request(t.Context(), t, http.MethodGet, "/x"))
	if err == nil {
		resp.Body.Close()
		if resp.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("caller got %s", resp.Status)
		}
	} else if fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("caller got %v", err)
	}
	if took := time.Since(begun); took < 1900*time.Millisecond || took > patience {
		t.Errorf("waited %s", took)
	}
	if err := <-ended; err != context.DeadlineExceeded {
		t.Errorf("handler's context ended by %v", err)
	}
}
