package compress

import (
	"bytes"
	"compress/gzip"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func serve(method, accept string, h http.HandlerFunc) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "/", nil)
	if accept != "" {
		r.Header.Set("Accept-Encoding", accept)
	}
	w := httptest.NewRecorder()
	Middleware(h).ServeHTTP(w, r)
	return w
}

func unzip(t *testing.T, b []byte) string {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestMiddleware_CompressesWhatIsLargeAndTextForThoseWhoTakeIt(t *testing.T) {
	large, small := strings.Repeat(`{"a":1}`, 1000), `{"a":1}`
	for _, c := range []struct {
		name, accept, kind, body string
		status                   int
		header                   http.Header
		compressed, varies       bool
	}{
		{"large JSON", "gzip, deflate, br", "application/json", large, 200, nil, true, true},
		{"a large problem", "gzip", "application/problem+json", large, 400, nil, true, true},
		{"CSV", "br;q=1, gzip;q=0.5", "text/csv; charset=utf-8", large, 200, nil, true, true},
		{"anything is welcome", "*", "application/json", large, 200, nil, true, true},
		{"small", "gzip", "application/json", small, 200, nil, false, true},
		{"small, and said so", "gzip", "application/json", small, 200, http.Header{"Content-Length": {"7"}}, false, true},
		{"not accepted", "br", "application/json", large, 200, nil, false, true},
		{"refused", "gzip;q=0, *", "application/json", large, 200, nil, false, true},
		{"nothing said", "", "application/json", large, 200, nil, false, true},
		{"binary", "gzip", "application/pkix-crl", large, 200, nil, false, false},
		{"compressed already", "gzip", "application/json", large, 200, http.Header{"Content-Encoding": {"br"}}, false, false},
		{"a part", "gzip", "text/plain", large, 206, nil, false, false},
	} {
		w := serve("GET", c.accept, func(w http.ResponseWriter, _ *http.Request) {
			maps.Copy(w.Header(), c.header)
			w.Header().Set("Content-Type", c.kind)
			w.Header().Set("ETag", `"7"`)
			w.WriteHeader(c.status)
			for part := range strings.SplitAfterSeq(c.body, "}") {
				_, _ = io.WriteString(w, part)
			}
		})
		body := w.Body.String()
		if compressed := w.Header().Get("Content-Encoding") == "gzip"; compressed != c.compressed {
			t.Errorf("%s: compressed: %v", c.name, compressed)
			continue
		}
		if c.compressed {
			body = unzip(t, w.Body.Bytes())
		}
		if body != c.body || w.Code != c.status || w.Header().Get("ETag") != `"7"` || (w.Header().Get("Vary") == "Accept-Encoding") != c.varies {
			t.Errorf("%s: %d %v, %d bytes", c.name, w.Code, w.Header(), len(body))
		}
		if c.compressed && w.Header().Get("Content-Length") != "" {
			t.Errorf("%s: the length is that of the plain answer", c.name)
		}
	}
}

func TestMiddleware_SendsAStreamAsItComes(t *testing.T) {
	var first int
	w := serve("GET", "gzip", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/csv")
		_, _ = io.WriteString(w, "a,b\n")
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		rec, ok := w.(*answer).ResponseWriter.(*httptest.ResponseRecorder)
		if ok {
			first = rec.Body.Len()
		}
		_, _ = io.WriteString(w, "1,2\n")
	})
	if first == 0 || unzip(t, w.Body.Bytes()) != "a,b\n1,2\n" {
		t.Errorf("%d bytes at first, %q", first, w.Body)
	}
}

func TestMiddleware_DoesNotFinishWhatBreaksOff(t *testing.T) {
	var w *httptest.ResponseRecorder
	func() {
		defer func() { _ = recover() }()
		w = httptest.NewRecorder()
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Accept-Encoding", "gzip")
		Middleware(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			_, _ = io.WriteString(w, strings.Repeat("a", 4000))
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		})).ServeHTTP(w, r)
	}()
	z, err := gzip.NewReader(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(z); err == nil {
		t.Error("half an answer passes for a whole one")
	}
}

func TestMiddleware_LeavesEmptyAnswersAlone(t *testing.T) {
	w := serve("DELETE", "gzip", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	if w.Code != http.StatusNoContent || w.Body.Len() != 0 || w.Header().Get("Content-Encoding") != "" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	w = serve("HEAD", "gzip", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(make([]byte, 4000))
	})
	if w.Header().Get("Content-Encoding") != "" {
		t.Errorf("HEAD: %v", w.Header())
	}
}

func BenchmarkMiddleware(b *testing.B) {
	row := []byte(`{"id":"mc-06h21ecxchyts2bj51srsmcdtw","name":"host-1","common_name":"host-1.bench.test","sans":["host-1.bench.test"],"environment":"production","owner_id":"o-default","team_id":"t-default","issuer_id":"iss-local","status":"Active","expires_at":"2026-12-01T00:00:00Z","fingerprint_sha256":"d41d8cd98f00b204e9800998ecf8427ed41d8cd98f00b204e9800998ecf8427e"},`)
	body := bytes.Repeat(row, 50)
	h := Middleware(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(body)
	}))
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Accept-Encoding", "gzip")
	for b.Loop() {
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
}
