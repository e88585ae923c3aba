package api_test

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/certctl/certctl/contracts/signer"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/signer/internal/api"
)

// fake has one key, and signs with its digest.
type fake struct{}

func (fake) Keys(label string) (signer.Keys, error) {
	return signer.Keys{Token: "t", Keys: []signer.Key{{Label: label}}}, nil
}

func (fake) Generate(g signer.Generate) (signer.Key, error) {
	return signer.Key{}, fault.New(fault.Conflict, "there is a key %s", g.Label)
}

func (fake) Sign(s signer.Sign) ([]byte, error) { return s.Digest, nil }

func call(t *testing.T, method, path, body string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	api.New(fake{}, slog.New(slog.DiscardHandler)).ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
	return w.Code, w.Body.String()
}

func TestAPI_AnswersItsOperations(t *testing.T) {
	if status, body := call(t, http.MethodGet, "/v1/keys?label=ca", ""); status != http.StatusOK || !strings.Contains(body, `"label":"ca"`) {
		t.Errorf("%d %s", status, body)
	}
	if status, body := call(t, http.MethodPost, "/v1/sign", `{"label":"ca","id":"AQ==","hash":"SHA-256","digest":"Ag=="}`); status != http.StatusOK || !strings.Contains(body, `"Ag=="`) {
		t.Errorf("%d %s", status, body)
	}
	status, body := call(t, http.MethodPost, "/v1/keys", `{"label":"ca","algorithm":"ECDSA","bits":256}`)
	var f fault.Error
	if err := json.Unmarshal([]byte(body), &f); err != nil || status != http.StatusConflict || f.Code != fault.Conflict || f.Message != "there is a key ca" {
		t.Errorf("%d %s: %v", status, body, err)
	}
}

func TestAPI_RefusesWhatItDoesNotKnow(t *testing.T) {
	for name, tt := range map[string]struct {
		method, path, body string
		want               int
	}{
		"another version":  {http.MethodPost, "/v2/sign", "{}", http.StatusNotFound},
		"another method":   {http.MethodDelete, "/v1/keys", "", http.StatusNotFound},
		"no JSON":          {http.MethodPost, "/v1/sign", "x", http.StatusBadRequest},
		"nothing":          {http.MethodPost, "/v1/sign", "", http.StatusBadRequest},
		"more than one":    {http.MethodPost, "/v1/sign", "{}{}", http.StatusBadRequest},
		"an unknown field": {http.MethodPost, "/v1/sign", `{"raw":"x"}`, http.StatusBadRequest},
		"too much":         {http.MethodPost, "/v1/sign", `{"label":"` + strings.Repeat("a", signer.MaxRequest) + `"}`, http.StatusBadRequest},
	} {
		if status, body := call(t, tt.method, tt.path, tt.body); status != tt.want {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
}
