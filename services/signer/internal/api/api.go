// Package api answers the operations of contracts/signer. Whoever can connect may ask for all of them: see package door.
package api

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"

	"github.com/certctl/certctl/contracts/signer"
	"github.com/certctl/certctl/libs/fault"
)

// Token has the keys.
type Token interface {
	Keys(label string) (signer.Keys, error)
	Generate(g signer.Generate) (signer.Key, error)
	Sign(s signer.Sign) ([]byte, error)
}

// New returns the handler of all operations.
func New(t Token, log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	a := &api{log: log}
	mux.HandleFunc("GET "+signer.PathKeys, func(w http.ResponseWriter, r *http.Request) {
		keys, err := t.Keys(r.URL.Query().Get("label"))
		a.answer(w, r, keys, err)
	})
	mux.HandleFunc("POST "+signer.PathKeys, func(w http.ResponseWriter, r *http.Request) {
		var g signer.Generate
		if !a.read(w, r, &g) {
			return
		}
		key, err := t.Generate(g)
		if err == nil {
			log.InfoContext(r.Context(), "a key was made", "label", key.Label, "algorithm", g.Algorithm, "bits", g.Bits)
		}
		a.answer(w, r, key, err)
	})
	mux.HandleFunc("POST "+signer.PathSign, func(w http.ResponseWriter, r *http.Request) {
		var s signer.Sign
		if !a.read(w, r, &s) {
			return
		}
		signature, err := t.Sign(s)
		if err == nil {
			log.DebugContext(r.Context(), "a digest was signed", "label", s.Label)
		}
		a.answer(w, r, signer.Signature{Signature: signature}, err)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		a.answer(w, r, nil, fault.New(fault.NotFound, "this signer has no operation %s %s; the issuer may be of another version", r.Method, r.URL.Path))
	})
	return mux
}

type api struct{ log *slog.Logger }

// read reads a request, strictly: what it asks for beyond what is known here would be left out in silence.
func (a *api) read(w http.ResponseWriter, r *http.Request, into any) bool {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, signer.MaxRequest))
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if err == nil {
		if _, err = d.Token(); errors.Is(err, io.EOF) {
			return true
		}
	}
	a.answer(w, r, nil, fault.Wrap(err, fault.Invalid, "the request is not what this operation takes, or is larger than %d bytes", signer.MaxRequest))
	return false
}

func (a *api) answer(w http.ResponseWriter, r *http.Request, body any, err error) {
	status := http.StatusOK
	if err != nil {
		f := fault.From(err)
		status, body = fault.HTTPStatus(f.Code), f
		a.log.WarnContext(r.Context(), "a request was refused", "path", r.URL.Path, "error", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// The issuer is gone when this fails; there is nobody left to tell.
	_ = json.NewEncoder(w).Encode(body)
}
