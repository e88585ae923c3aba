package demo

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/certctl/certctl/libs/x509x"
)

const dialTimeout = 5 * time.Second

// insecure is for the question what is served, not whether it is good.
func insecure() *tls.Config {
	return &tls.Config{ServerName: commonName, InsecureSkipVerify: true} //nolint:gosec // see above
}

// leaf connects and returns the certificate that is served, good or not.
func (n *nginx) leaf(ctx context.Context) (*x509.Certificate, error) {
	certs, err := n.chain(ctx, insecure())
	if err != nil {
		return nil, err
	}
	return certs[0], nil
}

// chain connects with a new connection and returns all certificates that are served.
func (n *nginx) chain(ctx context.Context, config *tls.Config) ([]*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := (&tls.Dialer{NetDialer: &net.Dialer{}, Config: config}).DialContext(ctx, "tcp", n.address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	t := conn.(*tls.Conn)
	deadline, _ := ctx.Deadline()
	if err := t.SetDeadline(deadline); err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintf(t, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", commonName); err != nil {
		return nil, err
	}
	answer := make([]byte, 15)
	if _, err := t.Read(answer); err != nil {
		return nil, err
	}
	if string(answer) != "HTTP/1.1 200 OK" {
		return nil, fmt.Errorf("the site answered %q", answer)
	}
	return t.ConnectionState().PeerCertificates, nil
}

// visitors connect over and over, each time anew, trusting only the CA given.
type visitors struct {
	stop    context.CancelFunc
	group   *errgroup.Group
	served  atomic.Int64
	serials atomic.Pointer[string] // the serial number seen last
	trust   *x509.CertPool
	nginx   *nginx
}

// visit sends visitors until halt is called. The first failure ends them.
func (n *nginx) visit(ctx context.Context, trust *x509.CertPool, number int) *visitors {
	ctx, stop := context.WithCancel(ctx)
	g, ctx := errgroup.WithContext(ctx)
	v := &visitors{stop: stop, group: g, trust: trust, nginx: n}
	for range number {
		g.Go(func() error { return v.run(ctx) })
	}
	return v
}

func (v *visitors) run(ctx context.Context) error {
	for ctx.Err() == nil {
		certs, err := v.nginx.chain(context.WithoutCancel(ctx), &tls.Config{ServerName: commonName, RootCAs: v.trust, MinVersion: tls.VersionTLS12})
		if err != nil {
			return fmt.Errorf("a visitor was turned away after %d requests: %w", v.served.Load(), err)
		}
		serial := x509x.SerialHex(certs[0].SerialNumber)
		v.serials.Store(&serial)
		v.served.Add(1)
	}
	return nil
}

// halt ends the visits and returns how many there were, or the first failure.
func (v *visitors) halt() (int64, error) {
	v.stop()
	err := v.group.Wait()
	return v.served.Load(), err
}
