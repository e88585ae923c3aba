package leaf

import (
	"crypto/tls"
	"os"
	"sync"
	"time"
)

// serverTLS serves the certificate of two files, and a renewed one as soon as it is
// there. It is nil without files.
func serverTLS(certFile, keyFile string) (*tls.Config, error) {
	if certFile == "" {
		return nil, nil
	}
	k := &keyPair{certFile: certFile, keyFile: keyFile}
	if _, err := k.get(nil); err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: k.get}, nil
}

type keyPair struct {
	certFile, keyFile string

	mu      sync.Mutex
	changed time.Time        // guarded by mu; of the certificate's file
	loaded  *tls.Certificate // guarded by mu
}

// get reads the files again when the certificate's has changed. While they do not fit
// together, as between two writes, the one before is served.
func (k *keyPair) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	info, err := os.Stat(k.certFile)
	if err == nil && (k.loaded == nil || !info.ModTime().Equal(k.changed)) {
		var pair tls.Certificate
		if pair, err = tls.LoadX509KeyPair(k.certFile, k.keyFile); err == nil {
			k.loaded, k.changed = &pair, info.ModTime()
		}
	}
	if k.loaded != nil {
		return k.loaded, nil
	}
	return nil, err
}
