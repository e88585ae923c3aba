// Package gateway is the one door of certctl's HTTP API.
//
// It recognises the caller, checks the permission, bounds the request, sends it over
// the bus to the service that owns the operation, and puts the call on record. It holds
// no business rule: what it composes of several owners is in internal/jobs and internal/stats.
//
// Its schema holds API keys, and an outbox for records that the bus could not take.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/certctl/certctl/contracts/httpapi"
	"github.com/certctl/certctl/contracts/openapi"
	"github.com/certctl/certctl/libs/httpx"
	"github.com/certctl/certctl/libs/natshttp"
	"github.com/certctl/certctl/libs/service"
	"github.com/certctl/certctl/services/gateway/internal/address"
	"github.com/certctl/certctl/services/gateway/internal/apikey"
	"github.com/certctl/certctl/services/gateway/internal/cors"
	"github.com/certctl/certctl/services/gateway/internal/dashboard"
	"github.com/certctl/certctl/services/gateway/internal/edge"
	"github.com/certctl/certctl/services/gateway/internal/idempotency"
	"github.com/certctl/certctl/services/gateway/internal/identity"
	"github.com/certctl/certctl/services/gateway/internal/jobs"
	"github.com/certctl/certctl/services/gateway/internal/jwt"
	"github.com/certctl/certctl/services/gateway/internal/own"
	"github.com/certctl/certctl/services/gateway/internal/ratelimit"
	"github.com/certctl/certctl/services/gateway/internal/record"
	"github.com/certctl/certctl/services/gateway/internal/stats"
	"github.com/certctl/certctl/services/gateway/internal/validation"
	"github.com/certctl/certctl/services/gateway/internal/view"
	"github.com/certctl/certctl/web"
)

// Config is read from CERTCTL_*.
type Config struct {
	ServerHost string `split_words:"true" default:"127.0.0.1" desc:"Address to listen on. Any other than loopback needs TLS."`
	ServerPort int    `split_words:"true" default:"8080" desc:"Port to listen on; 0 takes a free one."`
	// TLS files are read again when they change.
	ServerTLSCertFile string `split_words:"true" desc:"Certificate chain in PEM for HTTPS."`
	ServerTLSKeyFile  string `split_words:"true" desc:"Key in PEM for HTTPS."`
	AuthType          string `split_words:"true" default:"api-key" desc:"How callers prove who they are: api-key, jwt (and API keys beside it), or none."`
	// AuthSecret is what the older server knew under this name.
	AuthSecret           string     `split_words:"true" secret:"true" desc:"With api-key: one more key of an admin, named configured, of 16 characters at least. With jwt: the secret that tokens are signed with (HS256)."`
	AuthNoneAcknowledged string     `split_words:"true" desc:"Must be yes for CERTCTL_AUTH_TYPE=none: whoever reaches the address, which must be loopback, is an admin."`
	JWT                  jwt.Config `split_words:"true"`
	AdminKeyFile         string     `split_words:"true" default:"admin.key" desc:"Where the first admin key is left, mode 0600, if no admin key exists."`

	RateLimitEnabled bool     `split_words:"true" default:"true" desc:"Whether calls are limited, by key, and by address where no key is known yet."`
	RateLimitRPS     float64  `split_words:"true" default:"50" desc:"Calls a second that a key, or an address, may make in the long run."`
	RateLimitBurst   int      `split_words:"true" default:"100" desc:"Calls that it may make at once."`
	CORSOrigins      []string `split_words:"true" desc:"Origins, separated by commas, whose web pages may use the API from a browser; * for all. None without it."`
	TrustedProxies   []string `split_words:"true" desc:"Addresses and networks, separated by commas, of proxies whose X-Forwarded-For is believed."`

	// RelyingParty answers the paths of relying parties (CRL, OCSP, CA certificates)
	// when the revocation service runs in this process; nil leaves them to its own
	// listener.
	RelyingParty http.Handler `ignored:"true"`
	// Listening is called once with the URL of the API.
	Listening func(url string) `ignored:"true"`
	// Metrics shows the metrics of this process, served at /metrics to admins.
	Metrics http.Handler `ignored:"true"`
}

// Validate implements the check of libs/config.
func (c *Config) Validate() error {
	if err := c.validateAuth(); err != nil {
		return err
	}
	if (c.ServerTLSCertFile == "") != (c.ServerTLSKeyFile == "") {
		return errors.New("CERTCTL_SERVER_TLS_CERT_FILE and CERTCTL_SERVER_TLS_KEY_FILE belong together; set both or none")
	}
	if c.RateLimitEnabled && (c.RateLimitRPS <= 0 || c.RateLimitBurst < 1) {
		return errors.New("CERTCTL_RATE_LIMIT_RPS must be above 0 and CERTCTL_RATE_LIMIT_BURST at least 1; CERTCTL_RATE_LIMIT_ENABLED=false limits nobody")
	}
	if _, err := cors.Parse(c.CORSOrigins); err != nil {
		return fmt.Errorf("CERTCTL_CORS_ORIGINS: %w", err)
	}
	if _, err := address.ParseProxies(c.TrustedProxies); err != nil {
		return fmt.Errorf("CERTCTL_TRUSTED_PROXIES: %w", err)
	}
	return nil
}

// Run answers the API until ctx ends, then finishes the calls in hand.
func Run(ctx context.Context, cfg Config, deps service.Deps) error {
	keys := apikey.NewStore(deps.DB, deps.Clock)
	made, err := keys.First(ctx, cfg.AdminKeyFile)
	if err != nil {
		return err
	}
	if made {
		deps.Log.Info("made the first admin key", "file", cfg.AdminKeyFile)
	}
	callers, err := cfg.callers(keys, deps)
	if err != nil {
		return err
	}
	if err := keys.Share(deps.Bus.NC, deps.Log); err != nil {
		return err
	}
	relay := deps.Bus.OutboxRelay(deps.DB, deps.Metrics)
	keys.Committed = relay.Wake
	records := record.New(deps.DB, relay, deps.Clock, deps.Log)
	watchOwners(deps)
	door, err := newEdge(cfg, deps, callers, keys, records)
	if err != nil {
		return err
	}

	server, err := listen(ctx, cfg, deps.Log)
	if err != nil {
		return err
	}
	if cfg.Listening != nil {
		cfg.Listening(server.URL())
	}
	deps.Log.Info("listening", "url", server.URL())

	// The recorder must outlive the last call, and the relay the last record.
	recording, stopRecording := context.WithCancel(context.WithoutCancel(ctx))
	relaying, stopRelaying := context.WithCancel(context.WithoutCancel(ctx))
	var g errgroup.Group
	g.Go(func() error {
		defer stopRelaying()
		return records.Run(recording)
	})
	g.Go(func() error { return relay.Run(relaying) })
	g.Go(func() error {
		keys.Run(recording, deps.Log)
		return nil
	})
	g.Go(func() error { return door.Repeats.Run(ctx) })
	if door.Limits != nil {
		g.Go(func() error { return door.Limits.Share(ctx, deps.Bus.NC, deps.Clock, deps.Log) })
	}
	answer := door.Handler()
	if cfg.AuthType == authNone {
		answer = identity.Warn(answer)
	}
	serveErr := server.Serve(ctx, answer)
	stopRecording()
	return errors.Join(serveErr, g.Wait())
}

func newEdge(cfg Config, deps service.Deps, callers edge.Recogniser, keys *apikey.Store, records *record.Recorder) (*edge.Edge, error) {
	requests, err := validation.Compile(openapi.Document)
	if err != nil {
		return nil, err
	}
	proxies, err := address.ParseProxies(cfg.TrustedProxies)
	if err != nil {
		return nil, err
	}
	origins, err := cors.Parse(cfg.CORSOrigins)
	if err != nil {
		return nil, err
	}
	pages, err := dashboard.Read(web.Files())
	if err != nil {
		return nil, err
	}
	var limits *ratelimit.Limiter
	if cfg.RateLimitEnabled {
		limits = ratelimit.New(ratelimit.Limit{Rate: cfg.RateLimitRPS, Burst: cfg.RateLimitBurst})
	}
	owners := natshttp.NewTransport(deps.Bus.NC)
	figures := stats.New(owners, deps.Clock)
	ours := own.Answers{
		Health: deps.Health, Clock: deps.Clock, Keys: keys, AuthType: cfg.AuthType,
		Views: &view.Store{Pool: deps.DB, Clock: deps.Clock},
	}.Handler()
	e := &edge.Edge{
		Keys: callers, Records: records, Owners: owners, Clock: deps.Clock, Log: deps.Log,
		RelyingParty: cfg.RelyingParty, Metrics: cfg.Metrics, Dashboard: pages,
		Proxies: proxies, Limits: limits, Origins: origins,
		Repeats:  &idempotency.Desk{Pool: deps.DB, Sealer: deps.Sealer, Clock: deps.Clock, Log: deps.Log},
		Requests: requests,
		Answer: map[string]http.Handler{
			"listJobs":   jobs.List(owners),
			"getJob":     jobs.ByID(owners, "getJob"),
			"cancelJob":  jobs.ByID(owners, "cancelJob"),
			"approveJob": jobs.ByID(owners, "approveJob"),
			"rejectJob":  jobs.ByID(owners, "rejectJob"),
			"retryJob":   jobs.ByID(owners, "retryJob"),

			"getStatsSummary":   figures.Summary(),
			"getStatsJobTrends": figures.JobTrends(),
			"getFleetMetrics":   figures.Metrics(),
		},
	}
	for _, id := range httpapi.OperationsOf("gateway") {
		e.Answer[id] = ours
	}
	return e, nil
}

func listen(ctx context.Context, cfg Config, log *slog.Logger) (*httpx.Server, error) {
	l := httpx.Listener{Address: net.JoinHostPort(cfg.ServerHost, strconv.Itoa(cfg.ServerPort)), Log: log}
	if cfg.ServerTLSCertFile != "" {
		t, err := httpx.TLSFromFiles(cfg.ServerTLSCertFile, cfg.ServerTLSKeyFile)
		if err != nil {
			return nil, err
		}
		l.TLS = t
	}
	return httpx.Open(ctx, l)
}

// watchOwners makes readiness depend on an answer from each service that owns
// operations.
func watchOwners(deps service.Deps) {
	seen := map[string]bool{"gateway": true, "revocation": true}
	for _, op := range httpapi.Operations {
		for _, s := range op.Services {
			if seen[s] {
				continue
			}
			seen[s] = true
			deps.Health.Add(s, func(ctx context.Context) error { return edge.Ping(ctx, deps.Bus.NC, s) })
		}
	}
}
