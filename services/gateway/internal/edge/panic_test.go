package edge

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestEdge_RecordsCallsWhoseAnswerPanics(t *testing.T) {
	cases := []struct {
		name, method string
		answer       http.HandlerFunc
		status       int
	}{
		{"before it has begun", http.MethodGet, func(http.ResponseWriter, *http.Request) { panic("oh") }, 500},
		{"half-way", http.MethodGet, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusAccepted)
			panic(http.ErrAbortHandler)
		}, 202},
		{"a change that is held back", http.MethodPost, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusCreated)
			panic("oh")
		}, 500},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			e, rec, _ := newEdge()
			e.Answer["listCertificates"], e.Answer["createCertificate"] = c.answer, c.answer
			r := httptest.NewRequest(c.method, "/api/v1/certificates", strings.NewReader("{}"))
			r.Header.Set("Authorization", "Bearer "+goodKey)
			w := httptest.NewRecorder()
			func() {
				defer func() {
					if p := recover(); p != nil && p != http.ErrAbortHandler {
						t.Errorf("the panic %v went through", p)
					}
				}()
				e.Handler().ServeHTTP(w, r)
			}()
			if w.Code != c.status {
				t.Errorf("answered with %d, want %d", w.Code, c.status)
			}
			if got := rec.last(t); got.Status != c.status || got.Actor != "key-1" {
				t.Errorf("on record: %+v", got)
			}
		})
	}
}
