package bundle

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"slices"

	"github.com/certctl/certctl/libs/x509x"
)

// Leaf is a certificate that no other of the file was issued by.
type Leaf struct {
	Certificate *x509.Certificate
	// Chain is what vouches for it, nearest first, without the root, as far as the file has it.
	Chain []*x509.Certificate
	// Key is its private key, nil if none was read.
	Key crypto.Signer
}

const (
	// maxChain bounds how far up is looked, maxParents how many of one name are tried.
	maxChain   = 10
	maxParents = 8
)

// Leaves returns the leaves of the file in its order, and those CA certificates that stand above none of them.
func (c *Content) Leaves() (leaves []Leaf, rest []*x509.Certificate) {
	p := pedigree{named: map[string][]*x509.Certificate{}, of: map[*x509.Certificate]*x509.Certificate{}}
	for _, cert := range c.Certificates {
		if mayIssue(cert) {
			p.named[string(cert.RawSubject)] = append(p.named[string(cert.RawSubject)], cert)
		}
	}
	above := map[*x509.Certificate]bool{}
	for _, cert := range c.Certificates {
		if parent := p.parent(cert); parent != nil && parent != cert {
			above[parent] = true
		}
	}
	used := map[*x509.Certificate]bool{}
	for _, cert := range c.Certificates {
		if cert.IsCA || above[cert] {
			continue
		}
		leaf := Leaf{Certificate: cert, Key: c.keyOf(cert)}
		for at := p.parent(cert); at != nil && len(leaf.Chain) < maxChain && !slices.Contains(leaf.Chain, at); at = p.parent(at) {
			used[at] = true
			if p.parent(at) == at {
				break // the root, which stays out
			}
			leaf.Chain = append(leaf.Chain, at)
		}
		leaves = append(leaves, leaf)
	}
	for _, cert := range c.Certificates {
		if (cert.IsCA || above[cert]) && !used[cert] {
			rest = append(rest, cert)
		}
	}
	return leaves, rest
}

// mayIssue reports whether a certificate may be an issuer: a CA, or one from before certificates said so. A key that is so
// large that to verify with it is how to keep us busy issues nothing here.
func mayIssue(cert *x509.Certificate) bool {
	if k, ok := cert.PublicKey.(*rsa.PublicKey); ok && k.N.BitLen() > x509x.MaxRSABits {
		return false
	}
	return cert.IsCA || cert.Version < 3
}

// pedigree finds which certificate of a file was issued by which, each once.
type pedigree struct {
	named map[string][]*x509.Certificate
	of    map[*x509.Certificate]*x509.Certificate
}

// parent is the certificate whose key has signed this one: itself if it is a root, nil if the file has none. Of several with one
// key, as cross-signed CAs have, it is the one that holds longest.
func (p *pedigree) parent(cert *x509.Certificate) *x509.Certificate {
	if found, done := p.of[cert]; done {
		return found
	}
	var best *x509.Certificate
	tried := 0
	for _, candidate := range p.named[string(cert.RawIssuer)] {
		if len(cert.AuthorityKeyId) > 0 && len(candidate.SubjectKeyId) > 0 && !bytes.Equal(cert.AuthorityKeyId, candidate.SubjectKeyId) {
			continue
		}
		if tried++; tried > maxParents {
			break
		}
		if cert.CheckSignatureFrom(candidate) != nil {
			continue
		}
		if candidate == cert {
			best = cert
			break
		}
		if best == nil || candidate.NotAfter.After(best.NotAfter) {
			best = candidate
		}
	}
	p.of[cert] = best
	return best
}

// keyOf is the private key of a certificate, nil if the file has none.
func (c *Content) keyOf(cert *x509.Certificate) crypto.Signer {
	for _, key := range c.Keys {
		if x509x.SameKey(key.Public(), cert.PublicKey) {
			return key
		}
	}
	return nil
}
