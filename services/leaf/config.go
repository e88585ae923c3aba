package leaf

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/services/leaf/internal/broker"
)

// Config is what a leaf is told; with prefix CERTCTL_LEAF the fields are its
// environment variables.
type Config struct {
	SiteID         string        `split_words:"true" desc:"Id of the site. Empty takes it from the token."`
	Token          string        `split_words:"true" secret:"true" desc:"One-time token of the site. Needed only until the leaf has enrolled."`
	GatewayURL     string        `split_words:"true" default:"http://127.0.0.1:8080" desc:"Gateway to enrol at. HTTPS, except on this host."`
	GatewayCAFile  string        `split_words:"true" desc:"PEM file with the CA of the gateway's certificate. Empty trusts the system's."`
	HubURL         []string      `split_words:"true" desc:"Addresses of the hub's leaf port, nats://, tls:// or wss://. Empty takes those that enrolment gave."`
	HubCAFile      string        `split_words:"true" desc:"PEM file with the CA of the hub's certificate. Empty trusts the system's."`
	DataDir        string        `split_words:"true" default:"/var/lib/certctl-leaf" desc:"Where the leaf keeps its key, its JWTs and its messages."`
	Listen         string        `split_words:"true" default:"127.0.0.1:4223" desc:"Address for agents. Any but a loopback address needs TLS. Port 0 takes a free one."`
	TLSCertFile    string        `split_words:"true" desc:"PEM file with the certificate chain for agents."`
	TLSKeyFile     string        `split_words:"true" desc:"PEM file with its key."`
	MaxAgents      int           `split_words:"true" default:"500" desc:"How many agents the leaf serves."`
	CommandBytes   int64         `split_words:"true" default:"268435456" desc:"Disk for orders to agents; the oldest give way."`
	ReportBytes    int64         `split_words:"true" default:"1073741824" desc:"Disk for reports that the hub has not taken yet; when it is full, agents keep theirs."`
	ReconnectDelay time.Duration `split_words:"true" default:"2s" desc:"Wait between attempts to reach the hub, before jitter."`
	ProbeInterval  time.Duration `split_words:"true" default:"20s" desc:"How often the hub is asked for a sign of life. After two silences the link is made anew."`
	StatusListen   string        `split_words:"true" desc:"Loopback address for /metrics, /health and /ready. Empty serves none."`
	LogLevel       string        `split_words:"true" default:"info" desc:"debug, info, warn or error."`
	LogFormat      string        `split_words:"true" default:"json" desc:"json or text."`

	// Adopt, if set, gives the leaf its identity in place of a token and a gateway: a
	// process that holds the signing keys does so for the leaf inside it, at each start.
	Adopt func(publicKey string) (Grant, error) `ignored:"true"`
	// Log overrides LogLevel and LogFormat.
	Log *slog.Logger `ignored:"true"`
	// Ready, if set, is called once, when agents can connect, with their URL.
	Ready func(agentURL string) `ignored:"true"`
}

// Grant is what a leaf is given for its key.
type Grant struct {
	// LeafJWT is for the link to the hub, RelayJWT for the leaf's own server.
	LeafJWT, RelayJWT      string
	OperatorJWT            string
	AccountKey, AccountJWT string
	HubURLs                []string
}

// Validate completes the configuration and tells what is wrong with it.
func (c *Config) Validate() error {
	c.complete()
	if err := c.validateSite(); err != nil {
		return err
	}
	switch {
	case c.DataDir == "":
		return errors.New("CERTCTL_LEAF_DATA_DIR is needed")
	case (c.TLSCertFile == "") != (c.TLSKeyFile == ""):
		return errors.New("CERTCTL_LEAF_TLS_CERT_FILE and CERTCTL_LEAF_TLS_KEY_FILE go together")
	case c.MaxAgents < 1 || c.CommandBytes < minStream || c.ReportBytes < minStream:
		return fmt.Errorf("CERTCTL_LEAF_MAX_AGENTS must be positive, and the streams have at least %d bytes", minStream)
	case c.ProbeInterval <= 0 || c.ReconnectDelay <= 0:
		return errors.New("CERTCTL_LEAF_PROBE_INTERVAL and CERTCTL_LEAF_RECONNECT_DELAY must be positive")
	}
	return c.validateListeners()
}

func (c *Config) validateSite() error {
	if c.SiteID == "" && c.Token != "" {
		token, err := parseToken(c.Token)
		if err != nil {
			return err
		}
		c.SiteID = token.SiteID
	}
	switch {
	case c.SiteID == "":
		return errors.New("CERTCTL_LEAF_SITE_ID or CERTCTL_LEAF_TOKEN is needed")
	case !subject.Token(c.SiteID) || c.SiteID == subject.AgentSite || c.SiteID == subject.AgentEnrol || c.SiteID == subject.DomainHub:
		return errors.New("CERTCTL_LEAF_SITE_ID cannot be the id of a site")
	}
	return nil
}

func (c *Config) validateListeners() error {
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return fmt.Errorf("CERTCTL_LEAF_LISTEN: %w", err)
	}
	if c.TLSCertFile == "" && !loopback(host) {
		return errors.New("CERTCTL_LEAF_LISTEN is not a loopback address, so CERTCTL_LEAF_TLS_CERT_FILE is needed")
	}
	if c.StatusListen == "" {
		return nil
	}
	if host, _, err = net.SplitHostPort(c.StatusListen); err != nil || !loopback(host) {
		return errors.New("CERTCTL_LEAF_STATUS_LISTEN must be a loopback address")
	}
	return nil
}

// complete gives fields that are zero the values of their default tags, for those who
// make a Config by hand.
func (c *Config) complete() {
	c.GatewayURL = cmp.Or(c.GatewayURL, "http://127.0.0.1:8080")
	c.Listen = cmp.Or(c.Listen, "127.0.0.1:4223")
	c.MaxAgents = cmp.Or(c.MaxAgents, 500)
	c.CommandBytes = cmp.Or(c.CommandBytes, 256<<20)
	c.ReportBytes = cmp.Or(c.ReportBytes, 1<<30)
	c.ReconnectDelay = cmp.Or(c.ReconnectDelay, 2*time.Second)
	c.ProbeInterval = cmp.Or(c.ProbeInterval, 20*time.Second)
}

// minStream holds the largest batch many times over.
const minStream = 16 << 20

const tokenPrefix = "cet_"

func parseToken(s string) (command.EnrolmentToken, error) {
	var t command.EnrolmentToken
	data, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(strings.TrimPrefix(s, tokenPrefix), "="))
	if err == nil {
		err = json.Unmarshal(data, &t)
	}
	if err != nil || !strings.HasPrefix(s, tokenPrefix) {
		return t, errors.New("CERTCTL_LEAF_TOKEN is not a token of a site")
	}
	return t, nil
}

// broker is the configuration of the embedded server. Hubs are those of the
// environment or else those that enrolment gave.
func (c *Config) broker(enrolled []string, dir string) (broker.Config, error) {
	out := broker.Config{
		Site: c.SiteID, Dir: dir, MaxAgents: c.MaxAgents, Reconnect: c.ReconnectDelay,
		// Messages and their indexes, and what compaction needs meanwhile.
		MaxStore: (c.CommandBytes + c.ReportBytes) / 4 * 5,
	}
	var err error
	if out.Host, out.Port, err = hostPort(c.Listen); err != nil {
		return out, fmt.Errorf("CERTCTL_LEAF_LISTEN: %w", err)
	}
	if out.TLS, err = serverTLS(c.TLSCertFile, c.TLSKeyFile); err != nil {
		return out, fmt.Errorf("CERTCTL_LEAF_TLS_CERT_FILE: %w", err)
	}
	if c.HubCAFile != "" {
		roots, err := readCAs(c.HubCAFile)
		if err != nil {
			return out, fmt.Errorf("CERTCTL_LEAF_HUB_CA_FILE: %w", err)
		}
		out.HubTLS = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	}
	urls := c.HubURL
	if len(urls) == 0 {
		urls = enrolled
	}
	for _, s := range urls {
		u, err := url.Parse(s)
		if err != nil || u.Hostname() == "" {
			return out, fmt.Errorf("hub URL %q is not one", s)
		}
		if u.Scheme != "tls" && u.Scheme != "wss" && !loopback(u.Hostname()) {
			return out, fmt.Errorf("hub URL %s is neither TLS nor on this host", u.Redacted())
		}
		out.Hubs = append(out.Hubs, u)
	}
	return out, nil
}

func hostPort(address string) (string, int, error) {
	a, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return "", 0, err
	}
	host, _, err := net.SplitHostPort(address)
	if a.Port == 0 {
		a.Port = server.RANDOM_PORT
	}
	return host, a.Port, err
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

func readCAs(file string) (*x509.CertPool, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, errors.New("it holds no certificate")
	}
	return pool, nil
}
