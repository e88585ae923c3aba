package httpx

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// TLSFromFiles returns a server's TLS configuration with the certificate chain and key of two PEM files. When either
// file changes, the handshakes that follow use the new pair; a pair that does not load or does not match leaves the
// one before it in use.
func TLSFromFiles(certFile, keyFile string) (*tls.Config, error) {
	p := &pair{certFile: certFile, keyFile: keyFile}
	if err := p.load(); err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:     tls.VersionTLS13,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return p.current(), nil },
	}, nil
}

type pair struct {
	certFile, keyFile string

	mu      sync.Mutex
	cert    *tls.Certificate // guarded by mu
	changed time.Time        // guarded by mu; of the files when cert was read
}

// current looks at the files at each handshake, which costs little beside the handshake's signature.
func (p *pair) current() *tls.Certificate {
	p.mu.Lock()
	defer p.mu.Unlock()
	if changed, err := p.lastChange(); err == nil && !changed.Equal(p.changed) {
		// The files are replaced one after the other: between the two this fails and is tried again.
		_ = p.read(changed)
	}
	return p.cert
}

func (p *pair) load() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	changed, err := p.lastChange()
	if err != nil {
		return fmt.Errorf("load TLS certificate: %w", err)
	}
	return p.read(changed)
}

func (p *pair) read(changed time.Time) error {
	cert, err := tls.LoadX509KeyPair(p.certFile, p.keyFile)
	if err != nil {
		return fmt.Errorf("load TLS certificate %s with key %s: %w", p.certFile, p.keyFile, err)
	}
	p.cert, p.changed = &cert, changed
	return nil
}

func (p *pair) lastChange() (time.Time, error) {
	cert, certErr := os.Stat(p.certFile)
	key, keyErr := os.Stat(p.keyFile)
	if err := errors.Join(certErr, keyErr); err != nil {
		return time.Time{}, err
	}
	if key.ModTime().After(cert.ModTime()) {
		return key.ModTime(), nil
	}
	return cert.ModTime(), nil
}
