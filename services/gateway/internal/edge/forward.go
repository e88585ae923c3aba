package edge

import (
	"errors"
	"io"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/certctl/certctl/contracts/httpapi"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/httpx"
	"github.com/certctl/certctl/libs/natshttp"
)

// Forward has the owner of an operation answer.
func Forward(owners http.RoundTripper, service, operation string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		res, err := Ask(owners, service, operation, r)
		if err != nil {
			if n, ok := w.(interface{ Undelivered() }); ok && errors.Is(err, natshttp.ErrUndelivered) {
				n.Undelivered()
			}
			httpx.WriteProblem(w, r, err)
			return
		}
		defer res.Body.Close()
		maps.Copy(w.Header(), res.Header)
		w.WriteHeader(res.StatusCode)
		if _, err := io.Copy(patient{w, http.NewResponseController(w)}, res.Body); err != nil {
			// Half an answer was sent; only a broken connection can say so.
			panic(http.ErrAbortHandler)
		}
	})
}

// Ask sends a request to a service as the principal of its context. The caller closes
// the answer's body.
func Ask(owners http.RoundTripper, service, operation string, r *http.Request) (*http.Response, error) {
	ctx := natshttp.WithRoute(r.Context(), natshttp.Route{Service: service, Operation: operation, Patience: httpapi.Patience(operation)})
	out := r.Clone(ctx)
	out.RequestURI = ""
	for name := range out.Header {
		// The credential stays here, and nobody outside may speak as a principal.
		if strings.HasPrefix(name, "Certctl-") || name == "Authorization" || name == "Cookie" {
			out.Header.Del(name)
		}
	}
	out.Header.Set(authn.Header, authn.ToHeader(authn.FromContext(r.Context())))
	return owners.RoundTrip(out)
}

// writeWithin bounds how long a client may take for one piece of an answer.
const writeWithin = 2 * time.Minute

// patient gives each piece of an answer its own time, since an export may take longer in
// all than the server allows one answer.
type patient struct {
	http.ResponseWriter
	connection *http.ResponseController
}

// Write implements [io.Writer].
func (p patient) Write(b []byte) (int, error) {
	// An answer that is held back has no connection yet, and takes no time.
	_ = p.connection.SetWriteDeadline(time.Now().Add(writeWithin))
	return p.ResponseWriter.Write(b)
}
