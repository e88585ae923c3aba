package issuance

import (
	"context"
	"crypto"
	"crypto/x509"
	"strconv"
	"strings"
	"time"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/id"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/renewal"
)

// Arrival is a certificate that exists already, as it came in a file.
type Arrival struct {
	Certificate *x509.Certificate
	// Chain is what vouches for it, nearest first, without the root.
	Chain []*x509.Certificate
	// Key is its private key, nil if there is none.
	Key crypto.Signer
}

// ImportRequest says what is to be recorded of certificates that are imported together.
type ImportRequest struct {
	Environment               string
	OwnerID, TeamID           string
	IssuerID, RenewalPolicyID string
	ProfileID                 string
	Tags                      map[string]string
	// KeepKeys has private keys kept, sealed; Exportable lets them leave again.
	KeepKeys, Exportable bool
	// DryRun stores nothing.
	DryRun bool
}

// Outcome is what became of one certificate of an import.
type Outcome string

// The outcomes.
const (
	WasImported  Outcome = "imported"
	IsImportable Outcome = "importable"
	IsThere      Outcome = "existing"
	IsRefused    Outcome = "refused"
)

// Imported is what became of an arrival. Certificate has an id only if the certificate is stored and within the caller's scope.
type Imported struct {
	Outcome     Outcome
	Reason      string
	Certificate Certificate
}

// Import is a certificate that is stored as it came, with its key if that is kept, and the fact to be told.
type Import struct {
	Certificate Certificate
	Version     Version
	Key         *StoredKey
	Fact        Fact
}

// Import manages certificates that exist already. Each is stored by itself, whole or not at all, and what became of it is
// returned in the order of the arrivals. An Invalid or Forbidden error is about all of them, and none was stored; another may come
// in their midst, and to repeat the import does what is left.
//
// An imported version has no issuer here, even if its CA is one of ours by name: nobody here can say what that CA has
// issued. The certificate's issuer is the one that will renew it. Whether the profile and the policy rules like what
// arrives does not matter before that, but a profile whose names it could never keep refuses it.
func (s *Service) Import(ctx context.Context, p authn.Principal, o Origin, r ImportRequest, arrivals []Arrival) ([]Imported, error) {
	now := s.clock.Now()
	policy, err := s.importable(ctx, p, &r, now)
	if err != nil {
		return nil, err
	}
	out := make([]Imported, len(arrivals))
	for i := range arrivals {
		im, err := s.arrive(ctx, o, &r, &arrivals[i], &policy, now)
		switch {
		case fault.CodeOf(err) == fault.Invalid:
			out[i] = Imported{Outcome: IsRefused, Reason: reasonOf(err)}
			continue
		case err != nil:
			return out[:i], err
		}
		if out[i], err = s.takeIn(ctx, p, im, r.DryRun); err != nil {
			return out[:i], err
		}
		if out[i].Reason == "" {
			out[i].Reason = s.distrust(ctx, arrivals[i].Certificate)
		}
	}
	return out, nil
}

// importable refuses an import that is wrong whatever arrives, and returns the renewal policy of what does.
func (s *Service) importable(ctx context.Context, p authn.Principal, r *ImportRequest, now time.Time) (renewal.Policy, error) {
	// A name that is good stands for those to come.
	c, err := r.request("import.invalid", nil).draft(now)
	if err != nil {
		return renewal.Policy{}, err
	}
	if err := within(p, &c); err != nil {
		return renewal.Policy{}, err
	}
	if r.Exportable && !r.KeepKeys {
		return renewal.Policy{}, fault.InvalidFields(fault.Field{Name: "exportable", Reason: "means nothing without keep_key: a key that is not kept cannot leave"})
	}
	// A CA that is away for now will be back by the time that it is to renew.
	if _, err := s.usable(ctx, c.IssuerID); fault.CodeOf(err) == fault.Invalid {
		return renewal.Policy{}, err
	}
	if c.ProfileID != "" {
		rules, err := s.profile(ctx, c.ProfileID)
		if err != nil {
			return renewal.Policy{}, err
		}
		if !rules.Enabled {
			return renewal.Policy{}, fault.InvalidFields(fault.Field{Name: "certificate_profile_id", Reason: "profile " + rules.ID + " is disabled; enable it first"})
		}
	}
	if err := s.store.CheckReferences(ctx, &c); err != nil {
		return renewal.Policy{}, err
	}
	return s.policyOf(ctx, c.RenewalPolicyID, nil)
}

// request is what a request for a new certificate would say that is recorded alike.
func (r *ImportRequest) request(commonName string, sans []string) Request {
	return Request{
		CommonName: commonName, SANs: sans, Environment: r.Environment, OwnerID: r.OwnerID, TeamID: r.TeamID, IssuerID: r.IssuerID,
		RenewalPolicyID: r.RenewalPolicyID, ProfileID: r.ProfileID, Tags: r.Tags,
	}
}

// distrust says why the key of a certificate should not be relied upon; empty if nothing is known against it. What is in use
// is managed all the same: how else should it be replaced?
func (s *Service) distrust(ctx context.Context, cert *x509.Certificate) string {
	err := s.blocked.Check(ctx, &x509.CertificateRequest{PublicKey: cert.PublicKey, RawSubjectPublicKeyInfo: cert.RawSubjectPublicKeyInfo})
	if fault.CodeOf(err) != fault.Invalid {
		return ""
	}
	return fault.From(err).Message
}

// takeIn stores an import, unless the certificate is here already.
func (s *Service) takeIn(ctx context.Context, p authn.Principal, im Import, dryRun bool) (Imported, error) {
	there, err := s.store.ByFingerprint(ctx, p.Scope, im.Version.Fingerprint)
	if err != nil {
		return Imported{}, err
	}
	if there == nil && dryRun {
		im.Certificate.ID = ""
		return Imported{Outcome: IsImportable, Certificate: im.Certificate}, nil
	}
	if there == nil {
		stored, err := s.store.Import(ctx, im)
		if err != nil {
			return Imported{}, err
		}
		if stored {
			return Imported{Outcome: WasImported, Certificate: im.Certificate}, nil
		}
		// Somebody else was quicker.
		if there, err = s.store.ByFingerprint(ctx, p.Scope, im.Version.Fingerprint); err != nil {
			return Imported{}, err
		}
	}
	already := Imported{Outcome: IsThere, Reason: "is managed already, outside of your scope"}
	if there != nil && there.ID != "" {
		already.Certificate, already.Reason = *there, "is managed already as "+there.ID
		if there.Status == Archived {
			already.Reason = "was managed as " + there.ID + " until that was archived, which is for good; import what replaces it"
		}
	}
	return already, nil
}

// maxChainPEM bounds a chain, in bytes: it travels in events.
const maxChainPEM = 128 << 10

// arrive is what is to be stored of an arrival. Its error is Invalid if that may not be managed.
func (s *Service) arrive(ctx context.Context, o Origin, r *ImportRequest, a *Arrival, policy *renewal.Policy, now time.Time) (Import, error) {
	cert := a.Certificate
	if cert.IsCA && !x509x.ServesItself(cert) {
		return Import{}, fault.New(fault.Invalid, "is a CA certificate; what is managed here is issued by one")
	}
	commonName, names := ArrivalNames(cert)
	if commonName == "" {
		return Import{}, fault.New(fault.Invalid, "has no host name and no address among its names")
	}
	algorithm, size, ok := x509x.KeyAlgorithm(cert.PublicKey)
	if !ok {
		return Import{}, fault.New(fault.Invalid, "has a key of a kind that is not known here; RSA, ECDSA and Ed25519 are")
	}
	c, err := r.request(commonName, names.Values()).draft(now)
	if err != nil {
		return Import{}, err
	}
	if err := s.checkProfile(ctx, &c, c.ProfileID); err != nil {
		return Import{}, err
	}
	v := Version{
		ID: id.New(versionPrefix), CertificateID: c.ID, Imported: true, IssuerName: NameOf(cert.Issuer.String()),
		SerialNumber: x509x.SerialHex(cert.SerialNumber), Fingerprint: x509x.Fingerprint(cert.Raw),
		SPKI: x509x.SPKIHash(cert.RawSubjectPublicKeyInfo), NotBefore: cert.NotBefore, NotAfter: cert.NotAfter,
		PEMChain:     string(x509x.EncodeCertificates(append([]*x509.Certificate{cert}, a.Chain...)...)),
		KeyAlgorithm: algorithm, KeySize: size, CreatedAt: now,
	}
	if len(v.PEMChain) > maxChainPEM {
		return Import{}, fault.New(fault.Invalid, "is larger than %d KiB with its chain", maxChainPEM>>10)
	}
	c.Status = arrivalStatus(&c, &v, policy, now)
	c.VersionID, c.SerialNumber, c.Fingerprint, c.ExpiresAt, c.Revision = v.ID, v.SerialNumber, v.Fingerprint, v.NotAfter, 1
	im := Import{Certificate: c, Version: v}
	if a.Key != nil && r.KeepKeys {
		if im.Key, err = s.seal(a.Key, c.ID, now); err != nil {
			return Import{}, err
		}
		im.Key.Exportable = r.Exportable
	}
	im.Fact = Fact{Origin: o, At: now, Event: event.CertificateImported{
		CertificateID: c.ID, CommonName: c.CommonName, SANs: c.SANs, IssuerID: c.IssuerID, IssuerName: v.IssuerName,
		OwnerID: c.OwnerID, TeamID: c.TeamID, Environment: c.Environment, KeyKept: im.Key != nil,
		Exportable: im.Key != nil && im.Key.Exportable, Version: v.event(),
	}}
	return im, nil
}

// arrivalStatus is what a certificate is by its dates. One that begins in the future counts as Active.
func arrivalStatus(c *Certificate, v *Version, policy *renewal.Policy, now time.Time) CertificateStatus {
	status := served(v.NotAfter, now)
	if status == Active && policy.Expiring(&renewal.Certificate{ID: c.ID, IssuedAt: v.NotBefore, NotAfter: v.NotAfter}, now) {
		return Expiring
	}
	return status
}

// ArrivalNames are the names of a certificate as its record has them: the subject's common name first if a server can have
// it, else the first host name or address. It is empty if there is none. A common name that is none is passed over.
func ArrivalNames(cert *x509.Certificate) (commonName string, names x509x.Names) {
	for _, n := range x509x.CertificateNames(cert) {
		if n.Kind != x509x.Text {
			names = append(names, n)
		}
	}
	candidates := append([]string{cert.Subject.CommonName}, names.Values(x509x.DNS, x509x.IP)...)
	if len(cert.DNSNames) > 0 {
		// The order of the certificate says which one its owner thinks of first.
		candidates = append([]string{cert.Subject.CommonName, cert.DNSNames[0]}, candidates[1:]...)
	}
	for _, candidate := range candidates {
		if candidate == "" {
			continue
		}
		if n, err := x509x.ParseNames(candidate, nil); err == nil && (n[0].Kind == x509x.DNS || n[0].Kind == x509x.IP) {
			return n[0].Value, names
		}
	}
	return "", names
}

// maxName bounds the name of a foreign issuer.
const maxName = 500

// NameOf makes the distinguished name of a foreign certificate fit to be stored and shown.
func NameOf(dn string) string {
	dn = Clean(dn)
	if len(dn) > maxName {
		dn = strings.ToValidUTF8(dn[:maxName], "") + "…"
	}
	return dn
}

// reasonOf is what is wrong with one certificate of several, with the fields at fault.
func reasonOf(err error) string {
	f := fault.From(err)
	if len(f.Fields) == 0 {
		return f.Message
	}
	reasons := make([]string, 0, len(f.Fields))
	for i, field := range f.Fields {
		if i == 5 {
			reasons = append(reasons, "and "+strconv.Itoa(len(f.Fields)-i)+" more")
			break
		}
		reasons = append(reasons, field.Name+" "+field.Reason)
	}
	return Clean(strings.Join(reasons, "; "))
}
