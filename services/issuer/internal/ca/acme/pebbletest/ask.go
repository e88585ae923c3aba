package pebbletest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/certctl/certctl/libs/x509x"
)

// client trusts the directory.
func (s *Server) client() *http.Client {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.TLSRoot)
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
	}}
}

func (s *Server) await(url string) {
	s.t.Helper()
	client := s.client()
	ctx, cancel := context.WithTimeout(s.t.Context(), startWithin)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			s.t.Fatal(err)
		}
		res, err := client.Do(req)
		if err == nil {
			_ = res.Body.Close()
			return
		}
		if ctx.Err() != nil {
			s.t.Fatalf("%s does not answer: %v", url, err)
		}
	}
}

// Tell tells the DNS something, such as that /set-servfail a host.
func (s *Server) Tell(path string, what map[string]any) {
	s.t.Helper()
	body, err := json.Marshal(what)
	if err != nil {
		s.t.Fatal(err)
	}
	s.post(s.Records+path, body)
}

func (s *Server) post(url string, body []byte) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	res, err := s.client().Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	if said, err := io.ReadAll(res.Body); err != nil || res.StatusCode != http.StatusOK {
		s.t.Fatalf("%s: HTTP %d %s %v", url, res.StatusCode, said, err)
	}
}

// Suggest sets what the CA says about the renewal of a certificate, given in PEM: any text, though RFC 9773 wants JSON.
func (s *Server) Suggest(certificatePEM, text string) {
	s.t.Helper()
	body, err := json.Marshal(map[string]string{"Certificate": certificatePEM, "ARIResponse": text})
	if err != nil {
		s.t.Fatal(err)
	}
	s.post("https://"+s.management+"/set-renewal-info/", body)
}

// OtherRoots are the common names of the roots that the alternative chains lead to.
func (s *Server) OtherRoots() (names []string) {
	s.t.Helper()
	for i := range s.options.Roots {
		names = append(names, s.Root(i+1).Subject.CommonName)
	}
	return names
}

// Root is what a chain leads to, 0 the one that is served unless another is asked for. It is another one after each Run.
func (s *Server) Root(i int) *x509.Certificate {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, "https://"+s.management+"/roots/"+strconv.Itoa(i), http.NoBody)
	if err != nil {
		s.t.Fatal(err)
	}
	res, err := s.client().Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	text, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if err != nil {
		s.t.Fatal(err)
	}
	certs, err := x509x.ParseCertificates(text)
	if err != nil {
		s.t.Fatal(err)
	}
	return certs[0]
}

// Between stands between client and server until the test ends: what answer does not take is handed on. It returns the
// directory there.
func (s *Server) Between(answer func(http.ResponseWriter, *http.Request) bool) string {
	s.t.Helper()
	return s.front(func(behind http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !answer(w, r) {
				behind.ServeHTTP(w, r)
			}
		})
	})
}

// Behind stands between client and server until the test ends, and changes what the server has answered; a panic with
// [http.ErrAbortHandler] cuts the connection. It returns the directory there.
func (s *Server) Behind(change func(r *http.Request, answer *httptest.ResponseRecorder)) string {
	s.t.Helper()
	return s.front(func(behind http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			answer := httptest.NewRecorder()
			behind.ServeHTTP(answer, r)
			change(r, answer)
			maps.Copy(w.Header(), answer.Header())
			w.Header().Del("Content-Length")
			w.WriteHeader(answer.Code)
			_, _ = w.Write(answer.Body.Bytes())
		})
	})
}

func (s *Server) front(handler func(behind http.Handler) http.Handler) string {
	s.t.Helper()
	behind, err := url.Parse(s.Directory)
	if err != nil {
		s.t.Fatal(err)
	}
	own, err := tls.LoadX509KeyPair(filepath.Join(s.dir, "tls.crt"), filepath.Join(s.dir, "tls.key"))
	if err != nil {
		s.t.Fatal(err)
	}
	// The server names its places, and checks signatures over them, by the host that it is asked for.
	proxy := &httputil.ReverseProxy{Transport: s.client().Transport, Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = behind.Scheme, behind.Host, r.In.Host
	}}
	// Connections are cut on purpose.
	proxy.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	front := httptest.NewUnstartedServer(handler(proxy))
	front.Config.ErrorLog = proxy.ErrorLog
	front.TLS = &tls.Config{Certificates: []tls.Certificate{own}, MinVersion: tls.VersionTLS12}
	front.StartTLS()
	s.t.Cleanup(front.Close)
	return front.URL + behind.Path
}

// Scripts writes the two programs that set and remove a record of the server's DNS. Both keep a diary of what they were
// told, in the file that is returned last.
func (s *Server) Scripts() (present, cleanUp, diary string) {
	s.t.Helper()
	diary = filepath.Join(s.dir, "diary")
	write := func(name, path, body string) string {
		file := filepath.Join(s.dir, name)
		text := "#!/bin/sh\nset -eu\necho " + name + " $CERTCTL_DNS_DOMAIN $CERTCTL_DNS_FQDN $CERTCTL_DNS_VALUE $CERTCTL_DNS_TOKEN >>" + diary +
			"\ncurl -sSf -d \"" + body + "\" " + s.Records + path + "\n"
		if err := os.WriteFile(file, []byte(text), 0o755); err != nil {
			s.t.Fatal(err)
		}
		return file
	}
	present = write("present", "/set-txt", `{\"host\":\"$CERTCTL_DNS_FQDN.\",\"value\":\"$CERTCTL_DNS_VALUE\"}`)
	cleanUp = write("cleanup", "/clear-txt", `{\"host\":\"$CERTCTL_DNS_FQDN.\"}`)
	return present, cleanUp, diary
}
