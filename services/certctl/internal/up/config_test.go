package up

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

func TestLoad_WarnsOfATypoAndNotOfWhatTheSignerReads(t *testing.T) {
	for _, name := range []string{"MODULE", "TOKEN", "PIN_FILE", "CLIENT", "SESSIONS", "LABEL_PREFIX", "SOKET"} {
		t.Setenv("CERTCTL_SIGNER_"+name, "x")
	}
	var log bytes.Buffer
	if _, err := Load(slog.New(slog.NewTextHandler(&log, nil))); err != nil {
		t.Fatal(err)
	}
	if said := log.String(); strings.Count(said, "nothing reads") != 1 || !strings.Contains(said, "CERTCTL_SIGNER_SOKET") {
		t.Errorf("it says\n%s", said)
	}
}

func TestPublicURL_IsWhereTheGatewayListensOnLoopbackUnlessSaidOtherwise(t *testing.T) {
	const usual = "http://127.0.0.1:8080"
	for _, tt := range []struct {
		name, host, said, cert, want string
		port                         int
	}{
		{"another port", "127.0.0.1", "", "", "http://127.0.0.1:9000", 9000},
		{"with TLS", "127.0.0.1", "", "tls.crt", "https://127.0.0.1:9000", 9000},
		{"IPv6", "::1", "", "", "http://[::1]:9000", 9000},
		{"a free port, which is another one each time", "127.0.0.1", "", "", usual, 0},
		{"all addresses", "0.0.0.0", "", "tls.crt", usual, 9000},
		{"said by the operator", "127.0.0.1", "http://pki.example.com", "", usual, 9000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var c Config
			c.Gateway.ServerHost, c.Gateway.ServerPort, c.Gateway.ServerTLSCertFile, c.Issuer.PublicURL = tt.host, tt.port, tt.cert, usual
			c.beReachedAt(func(string) (string, bool) { return tt.said, tt.said != "" })
			if c.Issuer.PublicURL != tt.want {
				t.Errorf("got %s, want %s", c.Issuer.PublicURL, tt.want)
			}
		})
	}
}
