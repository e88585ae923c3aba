package issuance

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"runtime"
	"sync"
	"time"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/id"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca"
	"github.com/certctl/certctl/services/issuer/internal/profile"
)

// signing is one certificate to be made for a job.
type signing struct {
	certificateID, jobID, issuerID string
	profileID                      string
	commonName                     string
	sans                           []string
	csr                            string
	// previousID is the version before, agentID who looks after the first target; empty if there is none.
	previousID, agentID string
	ca                  ca.Issuer
	// order and keep are those of [ca.Request].
	order []byte
	keep  func(ctx context.Context, order []byte) error
}

func (w *Work) signing(csr string) signing {
	what := signing{
		certificateID: w.CertificateID, jobID: w.ID, issuerID: w.IssuerID, profileID: w.ProfileID,
		commonName: w.CommonName, sans: w.SANs, csr: csr, ca: w.ca, previousID: w.CurrentVersionID,
	}
	if len(w.Targets) > 0 {
		what.agentID = w.Targets[0].AgentID
	}
	return what
}

// examine checks a request against its record, its profile and the keys that are blocked.
func (s *Service) examine(ctx context.Context, what signing) (*x509.CertificateRequest, x509x.Names, *profile.Profile, error) {
	csr, names, err := checkRequest(what.csr, what.commonName, what.sans)
	if err != nil {
		return nil, nil, nil, err
	}
	if err := s.blocked.Check(ctx, csr); err != nil {
		return nil, nil, nil, err
	}
	rules, err := s.profile(ctx, what.profileID)
	if err != nil {
		return nil, nil, nil, err
	}
	if err := rules.CheckKey(csr.PublicKey); err != nil {
		return nil, nil, nil, err
	}
	return csr, names, rules, rules.CheckNames(names)
}

// sign checks a request against its record and its profile and has it signed by the CA that is given. Every certificate is signed here, on
// whichever way its request came. An Invalid error means that it never can be.
func (s *Service) sign(ctx context.Context, what signing) (*Version, error) {
	csr, names, rules, err := s.examine(ctx, what)
	if err != nil {
		return nil, err
	}
	request := ca.Request{
		CSR: csr, CommonName: what.commonName, Names: names,
		Lifetime: rules.Lifetime(), Usages: rules.Usages(), ShortLived: rules.IsShortLived(),
		Order: what.order, Keep: what.keep,
	}
	s.outside(ctx, &what, &request)
	proposed, err := s.propose(ctx, what.issuerID, what.ca, request, rules)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	issued, err := proposed.issue(ctx)
	if _, pending := errors.AsType[*ca.Pending](err); !pending {
		s.settings.Asked(what.issuerID, time.Since(began), err)
	}
	if err != nil {
		return nil, err
	}
	if err := rules.CheckIssued(issued.DER, s.clock.Now()); err != nil {
		return nil, err
	}
	findings, err := s.accept(&proposed, issued, rules)
	if err != nil {
		return nil, err
	}
	algorithm, size, _ := x509x.KeyAlgorithm(csr.PublicKey)
	return &Version{
		ID: id.New(versionPrefix), CertificateID: what.certificateID, JobID: what.jobID, IssuerID: what.issuerID,
		SerialNumber: x509x.SerialHex(issued.Serial),
		Fingerprint:  x509x.Fingerprint(issued.DER),
		SPKI:         x509x.SPKIHash(csr.RawSubjectPublicKeyInfo),
		NotBefore:    issued.NotBefore, NotAfter: issued.NotAfter,
		PEMChain: string(issued.ChainPEM), AuthorityKeyID: hex.EncodeToString(issued.AuthorityKeyID),
		// Encoded anew: around the block that was sent there may be anything.
		CSRPEM:       string(x509x.EncodeCSR(csr.Raw)),
		KeyAlgorithm: algorithm, KeySize: size, CreatedAt: s.clock.Now(), ShortLived: rules.IsShortLived(),
		CAKeyID: issued.KeyID, EndsWithCA: issued.EndsWithCA, Findings: findings,
	}, nil
}

type signed struct {
	version *Version
	err     error
}

// signAll signs side by side, on as many processors as there are.
func (s *Service) signAll(ctx context.Context, what []signing) []signed {
	out := make([]signed, len(what))
	next := make(chan int, len(what))
	for i := range what {
		next <- i
	}
	close(next)
	var wg sync.WaitGroup
	for range min(len(what), runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			for i := range next {
				out[i].version, out[i].err = s.sign(ctx, what[i])
			}
		})
	}
	wg.Wait()
	return out
}

func (v *Version) event() event.Version {
	var findings []event.LintFinding
	for _, f := range v.Findings {
		findings = append(findings, event.LintFinding{Lint: f.Lint, Level: string(f.Level), Detail: f.Detail})
	}
	return event.Version{
		VersionID: v.ID, SerialNumber: v.SerialNumber, FingerprintSHA256: v.Fingerprint,
		NotBefore: v.NotBefore, NotAfter: v.NotAfter, PEMChain: v.PEMChain, SPKISHA256: v.SPKI, AuthorityKeyID: v.AuthorityKeyID,
		ShortLived: v.ShortLived, EndsWithCA: v.EndsWithCA, LintFindings: findings,
	}
}

// issuedEvent tells of the version that a job made.
func issuedEvent(w *Work, v *Version) event.Event {
	issued := event.CertificateIssued{
		CertificateID: w.CertificateID, JobID: w.ID, IssuerID: w.IssuerID, CommonName: w.CommonName, SANs: w.SANs,
		TargetIDs: w.targetIDs(), KeyAgentID: w.AgentID, FallbackFor: w.fallbackFor, FallbackReason: w.fallbackWhy, Version: v.event(),
	}
	if w.Type == Renewal {
		return event.CertificateRenewed{CertificateIssued: issued, PreviousVersionID: w.CurrentVersionID}
	}
	return issued
}

// complete is the change of a job that has made its version. Without targets there is nothing left to do.
func complete(w *Work, v *Version, now time.Time, causation string) Change {
	c := w.change(JobCompleted, now)
	c.CSRPEM, c.LastError = v.CSRPEM, ""
	c.Version, c.Renewal = v, w.Type == Renewal
	c.Fact = w.fact(issuedEvent(w, v), now, causation)
	if v.EndsWithCA {
		c.Reason = endsWithCA
	}
	if len(w.Targets) == 0 {
		c.CertificateStatus = Active
		if w.made {
			c.Reason = waitsForFetch
		}
		return c
	}
	c.Reason = waitsForDeployment
	return c
}

const (
	waitsForApproval   = "waits for somebody to approve it, until "
	endsWithCA         = "it ends together with its CA's own certificate, sooner than it would otherwise: give the issuer another (rollover)"
	waitsForDeployment = "issued; waits to be installed on its targets"
	waitsForAgent      = "waits for the agent of its target to make a key"
)
