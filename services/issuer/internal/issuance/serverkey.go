package issuance

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"net/url"
	"time"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/profile"
)

// ServerKeyWarning is what everybody is told whose key is made here.
const ServerKeyWarning = "CERTCTL_KEYGEN_MODE=server: the private key is made by the server, lies in its database until it is fetched, and travels over the network. " +
	"This is for demonstrations; for anything else let an agent make the key, or send a signing request."

// makesKey reports whether the server makes the key of a job: nobody else will.
func (s *Service) makesKey(w *Work) bool { return s.settings.ServerKeys && len(w.Targets) == 0 }

// warning is what the requester of a job is told of its key, if there is anything to beware of.
func (s *Service) warning(w *Work, csr string) string {
	if csr == "" && s.makesKey(w) {
		return ServerKeyWarning
	}
	return ""
}

// awaitKey is the change of a new job that has no request: the requester sends one, or a worker makes the key.
func (s *Service) awaitKey(w *Work, now time.Time) Change {
	if !s.makesKey(w) {
		return awaitRequest(w, now)
	}
	c := w.change(JobPending, now)
	c.NextActionAt, c.Reason = now, waitsForWorker
	return c
}

const (
	waitsForWorker = "waits for the server to make its key, and to have it certified"
	waitsForFetch  = "its key waits to be fetched, once: POST /api/v1/certificates/{id}/key"
)

// keyed is the change of a job that is to be given a key here, nil for any other. The key is stored with its request before
// any CA is asked, so that no crash leaves a certificate behind whose key is nowhere.
func (s *Service) keyed(ctx context.Context, w *Work, step next, claimed time.Time) *Change {
	if !s.makesKey(w) || step != awaitRequester && step != signNow {
		return nil
	}
	needed, err := s.needsKey(ctx, w, step)
	if err == nil && !needed {
		return nil
	}
	now := s.clock.Now()
	// Large RSA keys take their time, and the lease of the whole batch must outlast them.
	if err == nil && now.Sub(claimed) < lease/3 {
		err = s.makeKey(ctx, w)
	}
	if err != nil {
		w.Attempts++
		c := s.setback(w, err, now, "")
		return &c
	}
	c := w.change(JobPending, now)
	c.NextActionAt, c.Reason = now, waitsForWorker
	return &c
}

// needsKey reports whether a job has no request yet, or one whose key was made here and has gone since.
func (s *Service) needsKey(ctx context.Context, w *Work, step next) (bool, error) {
	if step == awaitRequester {
		return true, nil
	}
	k, err := s.keyOfRequest(ctx, w)
	if err != nil || k == nil || !k.Made {
		return false, err
	}
	w.made = true
	return k.Sealed == nil, nil
}

func (s *Service) makeKey(ctx context.Context, w *Work) error {
	rules, err := s.profile(ctx, w.ProfileID)
	if err != nil {
		return err
	}
	key, err := newKey(rules.AgentKey())
	if err != nil {
		return err
	}
	request, err := requestFor(w, key)
	if err != nil {
		return err
	}
	if w.key, err = s.seal(key, w.CertificateID, s.clock.Now()); err != nil {
		return err
	}
	w.CSRPEM, w.key.Made, w.made = request, true, true
	return nil
}

// keyOfRequest is the stored key of a job's request, nil if that was not made here.
func (s *Service) keyOfRequest(ctx context.Context, w *Work) (*StoredKey, error) {
	csr, err := x509x.ParseCSR([]byte(w.CSRPEM))
	if err != nil {
		return nil, err
	}
	return s.store.Key(ctx, w.CertificateID, x509x.SPKIHash(csr.RawSubjectPublicKeyInfo))
}

// ownRequest is the request of a job that is done again, if it came from outside. One that was made here has lost its key.
func (s *Service) ownRequest(ctx context.Context, w *Work) (string, error) {
	if len(w.Targets) > 0 || w.CSRPEM == "" {
		return "", nil
	}
	k, err := s.keyOfRequest(ctx, w)
	if err != nil || k != nil && k.Made {
		return "", err
	}
	return w.CSRPEM, nil
}

func newKey(kind profile.Key) (crypto.Signer, error) {
	switch kind.Algorithm {
	case x509x.ECDSA:
		curve := elliptic.P521()
		switch {
		case kind.MinSize <= 256:
			curve = elliptic.P256()
		case kind.MinSize <= 384:
			curve = elliptic.P384()
		}
		return ecdsa.GenerateKey(curve, rand.Reader)
	case x509x.RSA:
		return rsa.GenerateKey(rand.Reader, max(kind.MinSize, x509x.MinRSABits))
	case x509x.Ed25519:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	default:
		return nil, fault.New(fault.Invalid, "no key of %s can be made here", kind.Algorithm)
	}
}

// maxSubject is the longest common name of RFC 5280, appendix A.1.
const maxSubject = 64

// requestFor is a signing request for the names of a job's record.
func requestFor(w *Work, key crypto.Signer) (string, error) {
	names, err := x509x.ParseNames(w.CommonName, w.SANs)
	if err != nil {
		return "", err
	}
	r := x509.CertificateRequest{DNSNames: names.Values(x509x.DNS)}
	if len(w.CommonName) <= maxSubject {
		r.Subject = pkix.Name{CommonName: w.CommonName}
	}
	for _, ip := range names.Values(x509x.IP) {
		r.IPAddresses = append(r.IPAddresses, net.ParseIP(ip))
	}
	for _, text := range names.Values(x509x.URI) {
		u, err := url.Parse(text)
		if err != nil {
			return "", fault.New(fault.Invalid, "the name %s is no URI", text)
		}
		r.URIs = append(r.URIs, u)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &r, key)
	if err != nil {
		return "", fault.Wrap(err, fault.Internal, "a signing request for %s cannot be made", w.CertificateID)
	}
	return string(x509x.EncodeCSR(der)), nil
}
