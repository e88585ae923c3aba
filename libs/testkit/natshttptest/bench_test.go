package natshttptest

import (
	"io"
	"net/http"
	"testing"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/libs/natshttp"
	"github.com/certctl/certctl/libs/obs"
	"github.com/certctl/certctl/libs/testkit/natstest"
)

// BenchmarkRoundTrip is the time that the bus adds to a request: a GET of a certificate's size, one caller at a time.
func BenchmarkRoundTrip(b *testing.B) {
	s := natstest.Start(b)
	caller, service := s.Connect(bus.Options{Name: "gateway"}), s.Connect(bus.Options{Name: "issuer"})
	answer := make([]byte, 1500)
	started := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = natshttp.Serve(b.Context(), service.NC, natshttp.Options{
			Service: "issuer", Operations: []string{"getCertificate"}, Started: func() { close(started) },
		}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Write(answer)
		}))
	}()
	b.Cleanup(func() { <-ended })
	<-started
	ctx := natshttp.WithRoute(b.Context(), natshttp.Route{Service: "issuer", Operation: "getCertificate"})
	ctx = authn.NewContext(obs.WithRequestID(ctx, "0198c1a2"), authn.Principal{ID: "u-1", Kind: authn.KindUser, Roles: []string{"admin"}})
	transport := natshttp.NewTransport(caller.NC)
	once := func() {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://issuer/api/v1/certificates/mc-1", http.NoBody)
		if err != nil {
			b.Fatal(err)
		}
		req.Header.Set("Accept", "application/json")
		resp, err := transport.RoundTrip(req)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			b.Fatal(err)
		}
		resp.Body.Close()
	}
	b.Run("one", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			once()
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.SetParallelism(16)
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				once()
			}
		})
	})
}
