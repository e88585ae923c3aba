// Package natstest runs NATS servers inside a test.
//
// A server has JetStream in a temporary folder and no network listener: clients connect in process. It can be stopped
// and started again over the same store, and its clients find it again, as they would a server on a network. It is
// gone, its store with it, when the test ends. For an option that is not here give Start a function over server.Options.
package natstest

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/certctl/certctl/libs/bus"
)

const patience = 10 * time.Second

// Option changes the options of a server before it starts. It is called again at each restart, because a server keeps
// its options and they cannot be used twice.
type Option func(*server.Options)

// Listen makes the server listen on a free port of the loopback interface; see Server.URL.
func Listen(o *server.Options) { o.DontListen, o.Host, o.Port = false, "127.0.0.1", server.RANDOM_PORT }

// Server is a NATS server in this process that can be restarted. It is a nats.InProcessConnProvider.
type Server struct {
	t       testing.TB
	store   string
	options []Option

	mu  sync.Mutex
	srv *server.Server // nil while stopped
}

// Start starts a server that ends with the test.
func Start(t testing.TB, options ...Option) *Server {
	t.Helper()
	s := &Server{t: t, store: t.TempDir(), options: options}
	s.Restart()
	t.Cleanup(s.Stop)
	return s
}

// Restart stops the server if it runs and starts it over the same store.
func (s *Server) Restart() {
	s.t.Helper()
	s.Stop()
	o := &server.Options{
		ServerName:         "test",
		DontListen:         true,
		NoLog:              true,
		NoSigs:             true,
		JetStream:          true,
		JetStreamDomain:    "hub",
		JetStreamMaxMemory: 64 << 20,
		JetStreamMaxStore:  4 << 30,
		StoreDir:           s.store,
	}
	for _, option := range s.options {
		option(o)
	}
	srv, err := server.NewServer(o)
	if err != nil {
		s.t.Fatalf("make NATS server: %v", err)
	}
	srv.Start()
	if !srv.ReadyForConnections(patience) {
		srv.Shutdown()
		s.t.Fatal("NATS server is not ready")
	}
	s.mu.Lock()
	s.srv = srv
	s.mu.Unlock()
}

// Stop shuts the server down. Its store stays until the test ends.
func (s *Server) Stop() {
	s.mu.Lock()
	srv := s.srv
	s.srv = nil
	s.mu.Unlock()
	if srv != nil {
		srv.Shutdown()
		srv.WaitForShutdown()
	}
}

// Running returns the server itself, nil while it is stopped.
func (s *Server) Running() *server.Server {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.srv
}

// URL returns the address of a server started with Listen.
func (s *Server) URL() string { return s.Running().ClientURL() }

// InProcessConn connects to the server that runs at the moment.
func (s *Server) InProcessConn() (net.Conn, error) {
	srv := s.Running()
	if srv == nil {
		return nil, errors.New("server is stopped")
	}
	return srv.InProcessConn()
}

// Connect returns a connection that is up and is closed when the test ends, before the server is stopped. Options may
// be left zero; Server is set, and without Log nothing is logged.
func (s *Server) Connect(o bus.Options) *bus.Conn {
	s.t.Helper()
	if o.Name == "" {
		o.Name = s.t.Name()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Server = s
	c, err := bus.Connect(o)
	if err != nil {
		s.t.Fatalf("connect to test server: %v", err)
	}
	s.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := c.Close(ctx); err != nil {
			s.t.Logf("close connection to test server: %v", err)
		}
	})
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	if err := c.Ready(ctx); err != nil {
		s.t.Fatalf("connect to test server: %v", err)
	}
	return c
}
