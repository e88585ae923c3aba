package httpx

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

const (
	readHeaderTimeout   = 10 * time.Second
	readTimeout         = time.Minute
	writeTimeout        = 2 * time.Minute
	idleTimeout         = 2 * time.Minute
	maxHeaderBytes      = 64 << 10
	defaultDrainTimeout = 10 * time.Second
)

// Listener says where and how to listen.
type Listener struct {
	// Address is host:port. Port 0 takes a free one.
	Address string
	// TLS may be nil only if Address is on the loopback interface or the listener is Public. Versions before 1.3 are
	// refused in any case.
	TLS *tls.Config
	// Public says that nothing secret passes here, neither keys in requests nor data in responses, so that plain HTTP
	// will do on any address: probes, and what relying parties fetch.
	Public bool
	// Log takes what net/http has to say, at level debug. It must not be nil.
	Log *slog.Logger
	// DrainTimeout is how long requests may go on after the end has been announced. Zero means ten seconds.
	DrainTimeout time.Duration
}

// Server is a listening server. Open makes one.
type Server struct {
	listener net.Listener
	options  Listener
}

// Serve is Open followed by Serve.
func Serve(ctx context.Context, l Listener, h http.Handler) error {
	s, err := Open(ctx, l)
	if err != nil {
		return err
	}
	return s.Serve(ctx, h)
}

// Open listens, so that the port is known and taken before anybody is told of it. It refuses to listen without TLS on
// an address that other machines can reach: keys travel in the requests.
func Open(ctx context.Context, l Listener) (*Server, error) {
	addr, err := net.ResolveTCPAddr("tcp", l.Address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", l.Address, err)
	}
	if l.TLS == nil && !l.Public && !addr.IP.IsLoopback() {
		return nil, fmt.Errorf("listen on %s: plain HTTP is served on loopback (127.0.0.1 or ::1) only; configure TLS for any other address", l.Address)
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", addr.String())
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", l.Address, err)
	}
	return &Server{listener: ln, options: l}, nil
}

// Addr returns the address that the server listens on.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// URL returns the root of what the server serves.
func (s *Server) URL() string {
	if s.options.TLS != nil {
		return "https://" + s.Addr().String()
	}
	return "http://" + s.Addr().String()
}

// Serve serves h until ctx ends, then lets the requests that are under way finish, and returns nil. Requests do not
// inherit the end of ctx. It may be called once.
func (s *Server) Serve(ctx context.Context, h http.Handler) error {
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.options.Log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
	}
	served := make(chan error, 1)
	go func() { served <- s.run(srv) }()

	select {
	case err := <-served:
		return fmt.Errorf("serve on %s: %w", s.Addr(), err)
	case <-ctx.Done():
	}
	drain := s.options.DrainTimeout
	if drain == 0 {
		drain = defaultDrainTimeout
	}
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	err := srv.Shutdown(limit)
	if err != nil {
		err = errors.Join(fmt.Errorf("drain %s: %w", s.Addr(), err), srv.Close())
	}
	if serveErr := <-served; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}
	return err
}

func (s *Server) run(srv *http.Server) error {
	if s.options.TLS == nil {
		return srv.Serve(s.listener)
	}
	srv.TLSConfig = s.options.TLS.Clone()
	srv.TLSConfig.MinVersion = tls.VersionTLS13
	return srv.ServeTLS(s.listener, "", "")
}

// Streaming lifts the time limits off a response that takes as long as it takes, such as a stream of events or a large
// export.
func Streaming(w http.ResponseWriter) error {
	c := http.NewResponseController(w)
	return errors.Join(c.SetReadDeadline(time.Time{}), c.SetWriteDeadline(time.Time{}))
}
